"""Step 3: what pruning did to the neurons' answers. The same neurons, words and texts, dense against pruned.

The drop is A_dense − A_pruned, the relative drop 1 − A_pruned / A_dense, with A as in `labutils.attribution.matching`.
The comparison is the third step of Neuron Semantic Attribution (arXiv 2503.01542).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.activations import WordActivations, measure_words
from labutils.attribution.neurons import Neurons, check_neurons, find_mlp_layers
from labutils.data.words import term_key

ROWS_AT_MOST = 20_000_000
COLUMNS = ["block", "neuron", "word", "dense", "pruned", "drop", "relative_drop"]


def compare_semantics(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    words: Sequence[str],
    *,
    neurons: Neurons | None = None,
    batch_size: int = 16,
) -> pd.DataFrame:
    """The mean activation of neurons on words in a dense model and in its pruned copy.

        lab.compare_semantics(dense, pruned, tokenizer, texts, ["fever", "cough"])

    Args:
        words: terms of one or several words.
        neurons: pairs (block, neuron), or a frame with these columns; where the frame has a column `word`, as that of
            `neuron_words`, each neuron is compared on its own words only (those among `words`). None: all neurons.
        batch_size: rows per forward pass; speed and memory only.

    Returns:
        one row per neuron and word: ``block, neuron, word, dense, pruned`` (mean signed activations), ``drop`` and
        ``relative_drop`` (NaN where the dense activation is 0). ``attrs["absent_words"]`` lists the words that do not
        occur in the texts.

    Raises:
        ValueError: one model given twice, models of different shape, no word that occurs, more than `ROWS_AT_MOST`
            rows, or what `measure_words` refuses.
        LookupError: a neuron that the models do not have, or MLPs that cannot be found.
    """
    if dense is pruned:
        raise ValueError("dense and pruned are the same model: prune copy.deepcopy(dense), and pass both")
    layers = find_mlp_layers(dense)
    if [layer.width for layer in layers] != [layer.width for layer in find_mlp_layers(pruned)]:
        raise ValueError("dense and pruned differ in their blocks or neurons: only copies of one model are compared")
    chosen = None if neurons is None else _own_words(neurons, check_neurons(neurons, layers))
    n_neurons = sum(layer.width for layer in layers) if chosen is None else len(chosen)
    if n_neurons * len(words) > ROWS_AT_MOST and (chosen is None or "word" not in chosen):
        raise ValueError(f"{n_neurons:,} neurons × {len(words)} words are too many rows: pass fewer in neurons=…")
    before, after = (measure_words(model, tokenizer, texts, words, batch_size=batch_size) for model in (dense, pruned))
    frame = compare_activations(before, after, chosen)
    frame.attrs["absent_words"] = list(before.absent)
    return frame


def compare_activations(
    dense: WordActivations, pruned: WordActivations, neurons: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The frame of `compare_semantics` from activations measured before; neurons as there, checked by the caller.

        compare_activations(found_dense, found_pruned)

    ValueError when the two were measured on different words or texts.
    """
    if dense.words != pruned.words or not dense.counts.equal(pruned.counts):
        raise ValueError("the dense and the pruned model were measured on different words or texts")
    frames = []
    for block, (before, after) in enumerate(zip(dense.means, pruned.means, strict=True)):
        places, columns = _pairs(dense, block, before.shape[1], neurons)
        frames.append(
            pd.DataFrame(
                {
                    "block": block,
                    "neuron": columns,
                    "word": np.array(dense.words, dtype=object)[places],
                    "dense": before[places, columns].numpy(),
                    "pruned": after[places, columns].numpy(),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(frame["dense"] == 0, np.nan, 1 - frame["pruned"] / frame["dense"])
    return frame.assign(drop=frame["dense"] - frame["pruned"], relative_drop=relative)[COLUMNS]


def concept_drops(comparison: pd.DataFrame, concepts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """What became of each concept: the rows of its words, added up with the sign of the dense activation.

        concept_drops(comparison, {"symptom": ["fever", "cough"]})

    Returns:
        one row per concept with at least one dense activation: ``concept``, ``dense`` (sum of |A_dense|), ``drop``
        (sum of the drops, each with the sign of its A_dense), ``relative_drop`` (their ratio: the mean of the relative
        drops weighted by |A_dense|), ``change`` (sum of |drop| over ``dense``: also what grew), ``words``, ``pairs``
        (neurons × words).
    """
    keys = comparison["word"].map(term_key)
    rows = []
    for concept, words in concepts.items():
        part = comparison[keys.isin({term_key(word) for word in words})]
        total = part["dense"].abs().sum()
        if total == 0:
            continue
        drop = (part["drop"] * np.sign(part["dense"])).sum()
        rows.append(
            {
                "concept": concept, "dense": total, "drop": drop, "relative_drop": drop / total,
                "change": part["drop"].abs().sum() / total, "words": part["word"].nunique(), "pairs": len(part),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["concept", "dense", "drop", "relative_drop", "change", "words", "pairs"])


def _own_words(given: Neurons, checked: pd.DataFrame) -> pd.DataFrame:
    """The pairs of a frame with its words, where it names any; `check_neurons` kept one row per neuron only."""
    if isinstance(given, pd.DataFrame) and "word" in given:
        return given[["block", "neuron", "word"]].drop_duplicates(ignore_index=True)
    return checked[["block", "neuron"]]


def _pairs(
    measured: WordActivations, block: int, width: int, neurons: pd.DataFrame | None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the words and numbers of the neurons to compare in a block, row by row."""
    if neurons is None:
        columns = np.arange(width)
    else:
        here = neurons[neurons["block"] == block]
        if "word" in here:
            place_of = {term_key(word): place for place, word in enumerate(measured.words)}
            places = here["word"].map(lambda word: place_of.get(term_key(word), -1)).to_numpy(dtype=np.int64)
            return places[places >= 0], here["neuron"].to_numpy(dtype=np.int64)[places >= 0]
        columns = here["neuron"].to_numpy(dtype=np.int64)
    n_words = len(measured.words)
    return np.tile(np.arange(n_words), len(columns)), np.repeat(columns, n_words)
