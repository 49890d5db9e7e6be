"""Step 2: which words each neuron responds to. All blocks, neurons and words in one forward pass over the texts.

A_{l,n}(w) is the mean, over the occurrences of w, of the activation of neuron n of block l, averaged inside the word
where it has several tokens; z is A standardised over the words, neuron by neuron. A neuron's words and a word's neurons
are those with the largest z. Neuron–word matching is the second step of Neuron Semantic Attribution (arXiv 2503.01542).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.activations import WordActivations, measure_words

COLUMNS = ["block", "neuron", "word", "activation", "z", "rank", "count"]


def neuron_words(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    words: Sequence[str] | None = None,
    *,
    top_k: int = 10,
    min_count: int = 5,
    value: str = "signed",
    batch_size: int = 16,
) -> pd.DataFrame:
    """The words that each neuron of each block responds to most.

        lab.neuron_words(model, tokenizer, texts, top_k=5)

    Args:
        texts: long ones are read in windows of the model's context; see `read_rows`.
        words: what to tell apart, terms of several words included; None takes every word of the texts. The z-score
            compares a neuron's words with one another, so a list should hold more than one concept.
        top_k: words per neuron.
        min_count: occurrences that a word must have.
        value: "signed" activations, or "absolute" ones, taken token by token.
        batch_size: rows per forward pass; speed and memory only.

    Returns:
        one row per neuron and word, a neuron's first words first: ``block, neuron, word, activation`` (A), ``z``,
        ``rank`` (1: the neuron's first word), ``count`` (occurrences). A neuron that answers all words alike has no
        rows. ``attrs["absent_words"]`` lists the words that are missing because they do not occur often enough.

    Raises:
        ValueError: no texts, no word that occurs often enough, more sums than `SUMS_AT_MOST`, activations that are not
            finite, or a tokenizer without character offsets.
        LookupError: the model's MLPs cannot be found.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    found = measure_words(model, tokenizer, texts, words, min_count=min_count, value=value, batch_size=batch_size)
    frame = words_of_neurons(found, top_k)
    frame.attrs["absent_words"] = list(found.absent)
    return frame


def standardise(means: Float64[Tensor, "words width"]) -> Float64[Tensor, "words width"]:
    """z-scores over words, neuron by neuron (population standard deviation).

    0 where the words differ by no more than rounding: by a millionth of the neuron's root mean square.
    """
    centred = means - means.mean(0)
    spread = centred.square().mean(0).sqrt()
    differs = spread > 1e-6 * means.square().mean(0).sqrt()
    return torch.where(differs, centred / spread.where(differs, torch.ones_like(spread)), torch.zeros_like(centred))


def words_of_neurons(found: WordActivations, top_k: int) -> pd.DataFrame:
    """The `top_k` words of every neuron by z, in the columns of `neuron_words`.

    >>> words_of_neurons(found, top_k=5)
    """
    frames = []
    for block, means in enumerate(found.means):
        z = standardise(means)
        neurons = z.abs().amax(0).nonzero().flatten()
        places = z[:, neurons].topk(min(top_k, len(found.words)), dim=0).indices
        ranks = torch.arange(1, len(places) + 1).unsqueeze(1).expand_as(places)
        columns = neurons.expand_as(places)
        frames.append(_frame(found, block, places.T.flatten(), columns.T.flatten(), ranks.T.flatten(), z))
    return pd.concat(frames, ignore_index=True)


def concept_neurons(found: WordActivations, words: Sequence[str], top_k: int) -> pd.DataFrame:
    """The `top_k` neurons with the largest mean z over a concept's words.

        concept_neurons(found, ["fever", "cough"], top_k=10)

    Returns:
        one row per neuron, best first: ``block, neuron, z`` (the mean), ``mean`` and ``deviation`` (over all tokens).

    Raises:
        LookupError: none of the words was measured.
    """
    places = found.select(words)
    if not places:
        raise LookupError(f"none of the words {', '.join(words)} was measured; the texts must hold them often enough")
    scores = [standardise(means)[places].mean(0) for means in found.means]
    frame = pd.DataFrame(
        {
            "block": np.repeat(np.arange(len(scores)), [len(score) for score in scores]),
            "neuron": np.concatenate([np.arange(len(score)) for score in scores]),
            "z": torch.cat(scores).numpy(),
            "mean": torch.cat(found.token_means).numpy(),
            "deviation": torch.cat(found.deviations).numpy(),
        }
    )
    return frame.sort_values("z", ascending=False, kind="stable", ignore_index=True).head(top_k)


def describe_concepts(
    found: WordActivations, concepts: Mapping[str, Sequence[str]], *, top_words: int = 8
) -> pd.DataFrame:
    """The best neuron of every concept of which a word was measured, with the words it answers most.

        describe_concepts(found, {"symptom": ["fever", "cough"]})

    Returns:
        ``concept, block, neuron, z`` (mean over the concept's words), ``words`` (best first, those of the concept in
        upper case).
    """
    rows = []
    for concept, words in concepts.items():
        if not (places := found.select(words)):
            continue
        best = concept_neurons(found, words, 1).iloc[0]
        block, neuron = int(best["block"]), int(best["neuron"])
        order = standardise(found.means[block])[:, neuron].argsort(descending=True, stable=True)[:top_words].tolist()
        named = [found.words[place].upper() if place in places else found.words[place] for place in order]
        rows.append({"concept": concept, "block": block, "neuron": neuron, "z": best["z"], "words": ", ".join(named)})
    return pd.DataFrame(rows, columns=["concept", "block", "neuron", "z", "words"])


def _frame(
    found: WordActivations, block: int, places: Int64[Tensor, " rows"], neurons: Int64[Tensor, " rows"],
    ranks: Int64[Tensor, " rows"], z: Float64[Tensor, "words width"],
) -> pd.DataFrame:  # fmt: skip
    """Rows of one block: words by their places, neurons, ranks."""
    return pd.DataFrame(
        {
            "block": block,
            "neuron": neurons.numpy(),
            "word": np.array(found.words, dtype=object)[places.numpy()],
            "activation": found.means[block][places, neurons].numpy(),
            "z": z[places, neurons].numpy(),
            "rank": ranks.numpy(),
            "count": found.counts[places].numpy(),
        },
        columns=COLUMNS,
    )
