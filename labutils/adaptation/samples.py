"""Samples of abstracts that differ in readability and in how dense their terminology is.

A sample is what one model is adapted on, and the group of the multilevel analysis. All samples of a draw hold about the
same number of words, and no abstract is in two of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import qmc, rankdata

from labutils.adaptation.features import composite_complexity, text_features
from labutils.adaptation.readability import split_words
from labutils.core.seeding import generator
from labutils.data.corpora import load_texts
from labutils.data.sources import parse_source
from labutils.world import Knobs
from labutils.world.biomedical import MAX_DEPTH, MAX_FINDINGS
from labutils.world.documents import stream_documents

REGISTER = "lab:biomedical"
AIMS = ("complexity", "term_share")
SHORTEST = 30  # words: what is shorter is a heading, not an abstract
BANDWIDTH = 0.15  # of the kernel around a target, as a share of the pool's ranks
CANDIDATES, PROBE_TEXTS = 8, 8  # settings of the knobs per sample, and texts to judge each by


@dataclass(frozen=True)
class Sample:
    """Abstracts to adapt one model on, and what they were drawn for: targets or knobs by name."""

    name: str
    texts: list[str]
    design: dict[str, float] = field(default_factory=dict)


def draw_samples(
    sources: Sequence[str],
    n_samples: int,
    *,
    n_words: int = 4000,
    n_pool: int | None = None,
    seed: int = 0,
    split: str = "train",
    revision: str | None = None,
) -> list[Sample]:
    """Draw samples of at least `n_words` words each (the last abstract is kept whole) that differ in two ways at once.

    >>> samples = draw_samples(["lab:biomedical"], 12, n_words=4000, seed=0)

    Every sample gets a target between 0 and 1 for complexity and one for term share (``target_complexity``,
    ``target_term_share`` in its `design`), spread by a Latin hypercube (McKay, Beckman & Conover 1979, Technometrics
    21(2)), so that the two can be told apart afterwards as far as the texts allow. Targets are ranks in what there is:

    - ``file:`` and ``hub:`` sources are pooled. An abstract near the target is the likelier to be drawn: with weight
      exp(−d²/2h²) at a distance d in ranks, h = `BANDWIDTH`, without replacement (Efraimidis & Spirakis 2006,
      Information Processing Letters 97).
    - The controlled language (`sources` is ["lab:biomedical"]) writes every sample with knobs of its own, which its
      `design` holds as ``knob_<name>``. Of `CANDIDATES` settings per sample, themselves a hypercube, those are taken
      that come nearest to the targets by a few texts written on trial.

    Args:
        sources: text sources as for `load_texts`; those of several are pooled, and an abstract found twice counts once.
        n_pool: abstracts read from each source, drawn by `seed`; None reads all. The controlled language ignores it.

    Raises:
        ValueError: sizes below one, sources that cannot be mixed, or a pool that is too small (says how large it is).
        LookupError: a source that cannot be found.
    """
    if n_samples < 1 or n_words < 1:
        raise ValueError(f"n_samples={n_samples} and n_words={n_words} must be at least 1")
    if not any(parse_source(source).scheme == "lab" for source in sources):
        return _from_pool(_pool(sources, split, seed, n_pool, revision), n_samples, n_words, seed)
    if list(sources) != [REGISTER]:
        raise ValueError(f"sources={list(sources)}: of the controlled language give [{REGISTER!r}] alone")
    return _from_grammar(n_samples, n_words, seed, split)


def describe_samples(samples: Sequence[Sample]) -> pd.DataFrame:
    """One row per sample: `sample`, `texts`, `words`, the mean of every text feature over its abstracts, its design.

    >>> describe_samples(draw_samples(["lab:biomedical"], 12, n_words=4000))[["name", "complexity"]]

    `complexity` is the composite of the samples' mean indices, relative to the other samples of the table.
    """
    rows = []
    for sample in samples:
        features = text_features(sample.texts)
        size = {"texts": len(features), "words": int(features["abstract_length"].sum())}
        rows.append({"sample": sample.name, **size, **features.mean().to_dict(), **sample.design})
    table = pd.DataFrame(rows)
    return table.assign(complexity=composite_complexity(table))


def _from_grammar(n_samples: int, n_words: int, seed: int, split: str) -> list[Sample]:
    """One style per sample: of many candidates those whose texts come nearest to the targets, all together."""
    candidates = list(_draw_knobs(CANDIDATES * n_samples, seed))
    probes = [
        text_features(list(islice(_written(knobs, seed, split, "probe", number), PROBE_TEXTS))).mean()
        for number, knobs in enumerate(candidates)
    ]
    table = pd.DataFrame(probes)
    ranks = _ranks(table.assign(complexity=composite_complexity(table)))
    targets = _hypercube(2, n_samples, seed)
    _, chosen = linear_sum_assignment(cdist(targets, ranks, "sqeuclidean"))
    samples = []
    for number, (target, index) in enumerate(zip(targets, chosen, strict=True)):
        texts = _up_to(_written(candidates[index], seed, split, "sample", number), n_words)
        knobs = {f"knob_{name}": float(value) for name, value in vars(candidates[index]).items()}
        samples.append(Sample(_name(number), list(texts), _named(target) | knobs))
    return samples


def _draw_knobs(n: int, seed: int) -> Iterator[Knobs]:
    for length, depth, rarity, findings, density in _hypercube(5, n, seed):
        yield Knobs(
            sentence_length=length,
            clause_depth=int(depth * (MAX_DEPTH + 1)),
            word_rarity=rarity,
            findings_per_sentence=1 + int(findings * MAX_FINDINGS),
            term_density=density,
        )


def _written(knobs: Knobs, seed: int, split: str, *names: object) -> Iterator[str]:
    stream_seed = int(generator(seed, *names).integers(2**30))
    return stream_documents("biomedical", seed=stream_seed, split=split, knobs=knobs)


def _pool(sources: Sequence[str], split: str, seed: int, n: int | None, revision: str | None) -> list[str]:
    texts = (text for source in sources for text in load_texts(source, split=split, seed=seed, n=n, revision=revision))
    return [text for text in dict.fromkeys(texts) if len(split_words(text)) >= SHORTEST]


def _from_pool(pool: list[str], n_samples: int, n_words: int, seed: int) -> list[Sample]:
    """One sample after the other takes what is near its target and still left."""
    lengths = np.array([len(split_words(text)) for text in pool])
    if lengths.sum() < n_samples * n_words:
        raise ValueError(
            f"the sources hold {lengths.sum():,} words in {len(pool)} abstracts of {SHORTEST} words or more; "
            f"{n_samples} samples of {n_words:,} need more: lower n_samples or n_words, or add sources"
        )
    features = text_features(pool)
    if features["complexity"].isna().any():
        raise ValueError(f"the {len(pool)} abstracts do not differ in readability; name other sources")
    ranks = _ranks(features)
    left = np.ones(len(pool), dtype=bool)
    samples = []
    for number, target in enumerate(_hypercube(2, n_samples, seed)):
        weights = -np.square(ranks - target).sum(axis=1) / (2 * BANDWIDTH**2)
        keys = weights + generator(seed, "draw", number).gumbel(size=len(pool))
        order = [index for index in np.argsort(-keys) if left[index]]
        taken = list(_up_to((pool[index] for index in order), n_words))
        if sum(len(split_words(text)) for text in taken) < n_words:
            raise ValueError(f"sample {number + 1} of {n_samples} found too few abstracts left: lower n_words")
        left[order[: len(taken)]] = False
        samples.append(Sample(_name(number), taken, {"target_complexity": target[0], "target_term_share": target[1]}))
    return samples


def _ranks(features: pd.DataFrame) -> Float[np.ndarray, "n aims"]:
    """Where each row stands among the others in each of the aims, as a share between 0 and 1."""
    return np.stack([rankdata(features[aim]) / len(features) for aim in AIMS], axis=1)


def _hypercube(dimensions: int, n: int, seed: int) -> list[list[float]]:
    rng = generator(seed, "design", dimensions)
    return qmc.LatinHypercube(dimensions, optimization="random-cd", rng=rng).random(n).tolist()


def _up_to(texts: Iterable[str], n_words: int) -> Iterator[str]:
    """The first texts that have `n_words` words together."""
    words = 0
    for text in texts:
        yield text
        words += len(split_words(text))
        if words >= n_words:
            return


def _name(number: int) -> str:
    return f"S{number + 1:02d}"


def _named(target: Sequence[float]) -> dict[str, float]:
    return {f"target_{aim}": float(value) for aim, value in zip(AIMS, target, strict=True)}
