"""Standardised ranks, and intervals of rank correlations over few units."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

LIMIT = 1 - 1e-6  # a correlation of ±1 lies infinitely far away on Fisher's scale


def unit_ranks(scores: np.ndarray) -> np.ndarray:
    """Centred ranks of length one, so that a product is Spearman's ρ; zeros (ρ = 0) where all scores are equal.

    >>> unit_ranks(x) @ unit_ranks(y)  # Spearman's ρ
    """
    ranks = rankdata(scores)
    centred = ranks - ranks.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else centred


def widened_correlations(
    estimate: float, samples: Float[np.ndarray, " resamples"], n_units: int, generator: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    """Resampled correlations as uncertain as few units make them.

    >>> widened_correlations(0.4, samples, n_units=7, generator=np.random.default_rng(0))

    Plain resamples of n units spread too little, by (n − 1)/n in variance and with the tails of a normal. As in
    `pigeonhole.resampling_weights`, deviations from the estimate are multiplied by sqrt(n/chi²) with an independent
    chi² of n − 1 degrees of freedom (Rao & Wu 1988; Student's t in place of the normal), here on Fisher's scale,
    artanh ρ, on which a correlation stays within ±1.

    Args:
        samples: correlations of plain resamples of whole units.
        n_units: how many units were resampled; at least two.
    """
    centre, scattered = np.arctanh(np.clip([estimate], -LIMIT, LIMIT)), np.arctanh(np.clip(samples, -LIMIT, LIMIT))
    widening = np.sqrt(n_units / generator.chisquare(n_units - 1, size=len(samples)))
    return np.tanh(centre + widening * (scattered - centre))


def resampled_correlations(
    x: Float[np.ndarray, " rows"], y: Float[np.ndarray, " rows"], counts: Float[np.ndarray, "resamples rows"]
) -> Float[np.ndarray, " resamples"]:
    """Spearman's ρ of every resample, in which row i stands `counts[:, i]` times; NaN where a column is constant.

    >>> resampled_correlations(x, y, np.ones((1, len(x))))[0]  # Spearman's ρ of the rows as they are
    """
    ranks = [_counted_ranks(column, counts) for column in (x, y)]
    total = counts.sum(axis=1, keepdims=True)
    first, second = (each - (counts * each).sum(axis=1, keepdims=True) / total for each in ranks)
    lengths = [np.sqrt((counts * np.square(each)).sum(axis=1)) for each in (first, second)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (counts * first * second).sum(axis=1) / (lengths[0] * lengths[1])


def _counted_ranks(
    values: Float[np.ndarray, " rows"], counts: Float[np.ndarray, "resamples rows"]
) -> Float[np.ndarray, "resamples rows"]:
    """Mean ranks where every value stands as often as counted, but for a constant."""
    distinct, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    first = np.searchsorted(places[order], np.arange(len(distinct)))
    together = np.add.reduceat(counts[:, order], first, axis=1)
    return (np.cumsum(together, axis=1) - together / 2)[:, places]
