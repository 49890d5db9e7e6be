"""Do concepts' neurons matter, and do two ways of choosing them agree? Over all concepts, whose texts overlap.

A text that holds words of three concepts is read for each of them. So the texts are the units, not pairs of concept and
text, and a concept is one unit where concepts are.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.activations import WordActivations
from labutils.attribution.causality import PARTNERS, split_texts
from labutils.attribution.gradients import neuron_conductance
from labutils.attribution.matching import concept_neurons
from labutils.attribution.passages import text_passages
from labutils.attribution.validation import attribution_agreement
from labutils.core.progress import progress
from labutils.stats.bootstrap import Interval, crossed_bootstrap


def concept_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    concepts: Mapping[str, Sequence[str]],
    *,
    n_texts: int = 20,
    n_steps: int,
    n_tokens: int | None = None,
) -> pd.DataFrame:
    """Conductance of every neuron for the likelihood of each concept's texts, other texts than are read with ablation.

        concept_conductance(model, tokenizer, held_out_texts, {"symptom": ["fever"]}, n_texts=8, n_steps=257)

    Args:
        texts, n_texts: as for `concept_contrasts`; of a concept's texts the second `n_texts` are taken here.
        n_steps: the most points of a text's path, see `neuron_conductance`.
        n_tokens: the most tokens of a text; of a longer one those around the concept's first word, see `text_passages`.

    Returns:
        ``concept, block, neuron, score``; concepts with too few texts are left out. ``attrs["completeness"]``: by which
        share of its sum the conductance of a text is off at most.
    """
    frames, missed = [], 0.0
    for concept, words in progress(concepts.items(), total=len(concepts), description="conductance", unit="concept"):
        _, others = split_texts(texts, words, n_texts)
        if others:
            passages = text_passages(model, tokenizer, others, n_tokens=n_tokens, about=words)
            scores = neuron_conductance(model, tokenizer, passages, n_steps=n_steps, strict=False)
            missed = max(missed, scores.attrs["completeness"])
            frames.append(scores.assign(concept=concept))
    if not frames:
        raise ValueError(
            f"no concept has {2 * n_texts} texts among the {len(texts)} given: give more, or lower n_texts"
        )
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["completeness"] = missed
    return frame[["concept", "block", "neuron", "score"]]


def text_interval(contrasts: pd.DataFrame, *, seed: int = 0) -> Interval:
    """The mean of `value` over concepts, with the distinct texts (and the draws of partners) as units.

    >>> text_interval(concept_contrasts(model, tokenizer, texts, found, concepts))

    Every concept counts alike. A text has one weight for all concepts that it is read for: the bootstrap runs over each
    text's contribution to the mean, Σ_c (v_ct − mean of c) / n_c, which is the mean's linear part, so that weights of
    few texts cannot make a concept's own mean run away.

    Args:
        contrasts: ``concept, text, draw, value``, one way of choosing neurons.
    """
    means = contrasts.groupby("concept")["value"].transform("mean")
    n_texts = contrasts.groupby("concept")["text"].transform("nunique")
    parts = contrasts.assign(part=(contrasts["value"] - means) / (n_texts * contrasts["concept"].nunique()))
    table = parts.groupby(["text", "draw"], as_index=False)["part"].sum()
    estimate = float(contrasts.groupby("concept")["value"].mean().mean())
    frame = table.assign(value=estimate + table["text"].nunique() * table["part"])
    return crossed_bootstrap(frame, item="text", cells=(), strata=[], seed=seed, units=("text", PARTNERS))


def concept_agreement(
    found: WordActivations,
    concepts: Mapping[str, Sequence[str]],
    conductance: pd.DataFrame,
    *,
    n_shuffles: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Do matching and conductance rank a concept's neurons alike? Concept by concept, block by block.

        concept_agreement(found, concepts, concept_conductance(model, tokenizer, texts, concepts, n_steps=257))

    Returns:
        the columns of `attribution_agreement` and ``concept``.
    """
    frames = []
    for concept, scores in conductance.groupby("concept", sort=False):
        matching = concept_neurons(found, concepts[concept], len(scores)).rename(columns={"z": "score"})
        own = scores[["block", "neuron", "score"]]
        table = attribution_agreement(matching[["block", "neuron", "score"]], own, n_shuffles=n_shuffles, seed=seed)
        frames.append(table.assign(concept=concept))
    return pd.concat(frames, ignore_index=True)
