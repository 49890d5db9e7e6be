"""About how the deviance bends in the entries of the relative factors: what a descent takes its first steps by.

With Ψ = ΛΛ' the expected second derivative along dΨ is Σ_jk tr(Z_j'PZ_k dΨ Z_k'PZ_j dΨ). If all J levels are alike and
apart from one another, that is J tr(A dΨ A dΨ) with A = Z_j'PZ_j. In the entries of Λ, dΨ = dΛ Λ' + Λ dΛ', and its own
second derivative 2 dΛ dΛ' counts with the slope G in Ψ; where G leads down it is left out, so that the curvature stays
positive.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Float

LEAST = 1e-3  # of the largest curvature of a grouping factor: a direction is taken to bend no less


def expected_curvature(
    factors: Sequence[Float[np.ndarray, "_ _"]],
    free: Sequence[Bool[np.ndarray, "_ _"]],
    projected: Sequence[Float[np.ndarray, "_ _"]],
    slopes: Sequence[Float[np.ndarray, "_ _"]],
    levels: Sequence[int],
) -> Float[np.ndarray, "parameters parameters"]:
    """A positive definite matrix, block-diagonal over the grouping factors.

    Args:
        factors: Λ; free: which of its entries are parameters.
        projected: Σ_j Z_j'PZ_j; slopes: G, both of every grouping factor.
        levels: J.
    """
    parts = zip(factors, free, projected, slopes, levels, strict=True)
    found = [_one_factor(*part) for part in parts]
    ends = list(accumulate(len(block) for block in found))
    whole = np.zeros((ends[-1],) * 2)
    for block, end in zip(found, ends, strict=True):
        whole[end - len(block) : end, end - len(block) : end] = block
    return whole


def _one_factor(
    factor: Float[np.ndarray, "terms terms"],
    free: Bool[np.ndarray, "terms terms"],
    projected: Float[np.ndarray, "terms terms"],
    slope: Float[np.ndarray, "terms terms"],
    levels: int,
) -> Float[np.ndarray, "entries entries"]:
    if len(factor) == 1:  # the same in one number
        return np.maximum((2 * factor * projected) ** 2 / levels + 2 * np.clip(slope, 0, None), 1e-8 * levels)
    rows, columns = np.nonzero(free)
    changes = np.zeros((len(rows), *factor.shape))
    changes[np.arange(len(rows)), rows] = factor[:, columns].T  # E_rc Λ'
    changes = (changes + changes.transpose(0, 2, 1)) @ (projected / levels)
    flat = changes.reshape(len(rows), -1)
    bent = levels * flat @ changes.transpose(0, 2, 1).reshape(len(rows), -1).T
    values, vectors = np.linalg.eigh(slope)
    upward = vectors * np.clip(values, 0, None) @ vectors.T
    bent += 2 * upward[rows[:, None], rows] * (columns[:, None] == columns)
    values, vectors = np.linalg.eigh((bent + bent.T) / 2)
    return vectors * np.maximum(values, max(LEAST * values[-1], 1e-8 * levels)) @ vectors.T
