"""Do the matched neurons matter? Loss on a concept's texts with its neurons ablated, against random neurons.

A random neuron that stands in for a matched one is of the same block, and varies about as much: ablation to the mean
removes exactly its variation, so that both lose the same amount of activation.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.ablation import ablate_neurons
from labutils.attribution.activations import WordActivations
from labutils.attribution.matching import concept_neurons
from labutils.attribution.passages import Passage, passage_losses, text_passages
from labutils.core.progress import progress
from labutils.data.words import texts_about
from labutils.stats.bootstrap import Interval, Statistic, crossed_bootstrap

NEIGHBOURS = 20  # neurons of the block, by deviation, of which one is drawn
PARTNERS = "draw of random neurons"
Measure = Callable[[PreTrainedModel], Tensor | np.ndarray]


def random_partners(found: WordActivations, neurons: pd.DataFrame, *, n_draws: int, seed: int = 0) -> pd.DataFrame:
    """For every neuron a random one of its block that deviates about as much from its mean.

        partners = random_partners(found, concept_neurons(found, words, 10), n_draws=20)

    It is drawn among the `NEIGHBOURS` neurons nearest in the logarithm of the deviation, none of them given and none
    drawn twice in a draw.

    Returns:
        `n_draws` × the given neurons: ``draw, block, neuron, mean, deviation``.

    Raises:
        ValueError: a block has too few other neurons.
    """
    generator = np.random.default_rng(seed)
    given = set(zip(neurons["block"], neurons["neuron"], strict=True))
    logs = [np.log(np.maximum(values.numpy(), np.finfo(float).tiny)) for values in found.deviations]
    rows = []
    for draw in range(n_draws):
        taken = set(given)
        for block, neuron in zip(neurons["block"], neurons["neuron"], strict=True):
            order = np.argsort(np.abs(logs[block] - logs[block][neuron]), kind="stable")
            nearest = [other for other in order.tolist() if (block, other) not in taken][:NEIGHBOURS]
            if not nearest:
                raise ValueError(f"block {block} has too few neurons to stand in for those given: ablate fewer")
            partner = int(generator.choice(nearest))
            taken.add((block, partner))
            mean, deviation = (float(values[block][partner]) for values in (found.token_means, found.deviations))
            rows.append({"draw": draw, "block": block, "neuron": partner, "mean": mean, "deviation": deviation})
    return pd.DataFrame(rows)


def ablation_losses(
    model: PreTrainedModel, measure: Measure, sets: Mapping[str, pd.DataFrame]
) -> Float64[np.ndarray, "sets items"]:
    """What `measure` finds on every item with each set of neurons ablated, in the order of `sets`.

    Args:
        sets: name → neurons as `ablate_neurons` takes them.
    """
    rows = []
    for neurons in progress(sets.values(), total=len(sets), description="ablate neurons", unit="set"):
        with ablate_neurons(model, neurons):
            rows.append(np.asarray(measure(model), dtype=float))
    return np.stack(rows)


def ablation_contrast(
    model: PreTrainedModel,
    measure: Measure,
    found: WordActivations,
    neurons: pd.DataFrame,
    *,
    n_draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Loss with the given neurons ablated minus loss with random partners ablated, item by item.

        ablation_contrast(model, lambda model: passage_losses(model, tokenizer, passages), found, neurons)

    Args:
        measure: the model → one loss per item; any number that grows with the damage.
        found: activations that hold the neurons' means and deviations.
        neurons: ``block, neuron``, however they were chosen; each is held at its mean of `found`.

    Returns:
        ``item, draw`` (of the partners), ``value`` (the difference; positive where the given neurons matter more),
        ``chosen`` and ``random`` (the loss each adds), ``loss`` (of the model as it is).
    """
    held = neurons[["block", "neuron"]].drop_duplicates(ignore_index=True)
    pairs = zip(held["block"], held["neuron"], strict=True)
    held = held.assign(mean=[float(found.token_means[block][neuron]) for block, neuron in pairs])
    partners = random_partners(found, held, n_draws=n_draws, seed=seed)
    sets = {"chosen": held} | {f"draw {draw}": part for draw, part in partners.groupby("draw")}
    loss = np.asarray(measure(model), dtype=float)
    chosen, *random = ablation_losses(model, measure, sets) - loss
    frames = [
        pd.DataFrame(
            {"item": range(len(loss)), "draw": draw, "value": chosen - added, "chosen": chosen, "random": added,
             "loss": loss}
        )
        for draw, added in enumerate(random)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def partner_interval(
    contrasts: pd.DataFrame,
    *,
    strata: Sequence[str],
    statistic: str | Statistic = "mean",
    item_unit: str = "item",
    seed: int = 0,
) -> Interval:
    """The interval of a statistic over `value`, items and draws of partners resampled; `strata` count alike.

    >>> partner_interval(contrasts, strata=["concept"], item_unit="text")

    Args:
        item_unit: what an item is, for the sentence that tells of the interval: "text" for `concept_contrasts`.
    """
    return crossed_bootstrap(contrasts, statistic, cells=(), strata=strata, seed=seed, units=(item_unit, PARTNERS))


def split_texts(texts: Sequence[str], words: Sequence[str], n_texts: int) -> tuple[list[str], list[str]]:
    """Of the texts about some words the first `n_texts`, and the next as many; none where there are fewer."""
    about = texts_about(texts, words)
    return (about[:n_texts], about[n_texts : 2 * n_texts]) if len(about) >= 2 * n_texts else ([], [])


def concept_contrasts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    found: WordActivations,
    concepts: Mapping[str, Sequence[str]],
    *,
    top_k: int = 10,
    n_texts: int = 20,
    n_draws: int = 8,
    scores: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The ablation contrast of every concept on texts that hold its words, which must not be those of `found`.

        concept_contrasts(model, tokenizer, held_out_texts, found, concepts, n_draws=8)

    Args:
        texts: of those that hold a word of the concept, the first `n_texts` are read with neurons ablated.
        top_k: neurons per concept.
        scores: choose the `top_k` neurons with the largest ``score`` of each ``concept``, as `concept_conductance`
            gives them; None: by matching. Concepts without scores are left out.

    Returns:
        the columns of `ablation_contrast`, ``concept``, ``text`` (the place of the item among `texts`: concepts share
        texts) and ``by``: how the neurons were chosen, "matching" or "conductance". Concepts of which no word was
        measured, or with fewer than twice `n_texts` texts, are left out.
    """
    frames, place_of = [], {text: place for place, text in reversed(list(enumerate(texts)))}
    for concept, words in progress(concepts.items(), total=len(concepts), description="concepts", unit="concept"):
        read, _ = split_texts(texts, words, n_texts)
        own = None if scores is None else scores[scores["concept"] == concept]
        if not found.select(words) or not read or (own is not None and own.empty):
            continue
        passages = text_passages(model, tokenizer, read)
        neurons = concept_neurons(found, words, top_k) if own is None else own.nlargest(top_k, "score")

        def measure(ablated: PreTrainedModel, passages: Sequence[Passage] = passages) -> Float64[Tensor, " passages"]:
            return passage_losses(ablated, tokenizer, passages)

        frame = ablation_contrast(model, measure, found, neurons, n_draws=n_draws, seed=seed)
        places = frame["item"].map(dict(enumerate(place_of[text] for text in read)))
        by = "matching" if scores is None else "conductance"
        frames.append(frame.assign(concept=concept, text=places, by=by))
    if not frames:
        raise ValueError(
            f"no concept has {2 * n_texts} texts among the {len(texts)} given: give more, or lower n_texts"
        )
    return pd.concat(frames, ignore_index=True)
