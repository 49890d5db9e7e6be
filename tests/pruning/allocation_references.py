"""Slow references for the allocations of `labutils.pruning.allocation_rules`: lists of floats, one block at a time."""

import itertools
import math

import numpy as np


def weighted_mean(values: list[float], sizes: list[int]) -> float:
    """Parameter-weighted mean, summed without rounding error."""
    return math.fsum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)


def spread(importance: list[float], sparsity: float, deviation: float) -> list[float]:
    """OWL's rescaling (Yin et al. 2024), before projection: densities over a range of twice the deviation."""
    low, high = min(importance), max(importance)
    if low == high:
        return [sparsity] * len(importance)
    density = [2 * deviation * (value - low) / (high - low) for value in importance]
    mean = sum(density) / len(density)
    return [1 - (d - mean + (1 - sparsity)) for d in density]


def dlp_importance(mean_activations: list[float]) -> list[float]:
    """`1 − mean(A)_l / Σ mean(A)`."""
    total = sum(mean_activations)
    return [1 - value / total for value in mean_activations]


def alpha(exponents: list[float], sparsity: float, sizes: list[int], epsilon: float) -> list[float]:
    """AlphaPruning (Lu et al. 2024), before projection: heavy tails (small exponents) stay denser."""
    low, high = min(exponents), max(exponents)
    if low == high:
        return [sparsity] * len(exponents)
    factor = [(1 - epsilon) + 2 * epsilon * (value - low) / (high - low) for value in exponents]
    scale = sparsity / weighted_mean(factor, sizes)
    return [value * scale for value in factor]


def arithmetic(n_blocks: int, sparsity: float, slope: float) -> list[float]:
    """`S + β (l − (L − 1)/2)`."""
    return [sparsity + slope * (block - (n_blocks - 1) / 2) for block in range(n_blocks)]


def clipped_mean(sparsities: list[float], shift: float, sizes: list[int], upper: float) -> float:
    """Weighted mean after adding `shift` to every block and clipping to [0, upper]."""
    return weighted_mean([min(max(value + shift, 0.0), upper) for value in sparsities], sizes)


def project(sparsities: list[float], sizes: list[int], sparsity: float, upper: float = 0.99) -> list[float]:
    """Add one number to all blocks and clip to [0, upper], that number being the one that meets the weighted mean.

    The mean is a piecewise linear function of the shift with a kink wherever a block meets a bound: find the piece
    that contains the target and solve the straight line.
    """
    kinks = sorted([-value for value in sparsities] + [upper - value for value in sparsities])
    shift = kinks[0]
    for left, right in itertools.pairwise(kinks):
        low, high = (clipped_mean(sparsities, at, sizes, upper) for at in (left, right))
        if low < sparsity <= high:
            shift = left + (right - left) * (sparsity - low) / (high - low)
    return [min(max(value + shift, 0.0), upper) for value in sparsities]


def outlier_share(scores: list[np.ndarray], multiple: float) -> float:
    """`100 ×` the share of all entries, pooled over matrices, above `multiple ×` their pooled mean."""
    entries = [float(value) for score in scores for value in score.ravel()]
    threshold = multiple * math.fsum(entries) / len(entries)
    return 100 * sum(1 for value in entries if value > threshold) / len(entries)


def hill_exponent(weight: np.ndarray) -> float:
    """`1 + k / Σ_{i ≤ k} ln(λ_i / λ_{k+1})`, λ the positive eigenvalues of WᵀW, falling, k half their number."""
    gram = [[float(sum(weight[:, j] * weight[:, k])) for k in range(weight.shape[1])] for j in range(weight.shape[1])]
    eigenvalues = sorted((float(value) for value in np.linalg.eigvalsh(np.array(gram))), reverse=True)
    positive = [value for value in eigenvalues if value > 1e-10 * eigenvalues[0]]
    k = len(positive) // 2
    return 1 + k / sum(math.log(positive[i] / positive[k]) for i in range(k))
