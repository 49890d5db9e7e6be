"""Standardised ranks."""

import numpy as np
from scipy.stats import rankdata


def unit_ranks(scores: np.ndarray) -> np.ndarray:
    """Centred ranks of length one, so that a product is Spearman's ρ; zeros (ρ = 0) where all scores are equal.

    >>> unit_ranks(x) @ unit_ranks(y)  # Spearman's ρ
    """
    ranks = rankdata(scores)
    centred = ranks - ranks.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else centred
