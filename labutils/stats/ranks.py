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
