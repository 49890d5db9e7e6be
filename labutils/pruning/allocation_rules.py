"""From one target sparsity to one sparsity per block, and from sparsities to integer budgets per matrix.

Pure functions on float64 vectors. Every allocation ends in `project_to_budget`: clipped to [0, 0.99] and moved until
the parameter-weighted mean is the target, so that no method gets a smaller model than another. Statistics that are
equal for all blocks give the uniform allocation.

Sources: OWL (Yin et al. 2024, arXiv 2310.05175), AlphaPruning (Lu et al. 2024, arXiv 2410.10912), DLP (Chen et al.
2025, arXiv 2505.23807); the linear rule is one of OptiPrune's (COLING 2025) comparisons.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

UPPER_SPARSITY = 0.99
EIGENVALUE_FLOOR = 1e-10  # relative to the largest; smaller ones are zeros up to rounding
Blocks = Float[Tensor, "blocks"]


def owl(outlier_shares: Blocks, sparsity: float, sizes: Blocks, *, deviation: float = 0.08) -> Blocks:
    """More outliers, denser (OWL).

    Densities spread over a range of 2 · `deviation`, linear in the outlier share, around 1 − `sparsity`.

    Args:
        outlier_shares: per block, the result of `outlier_share` on the dense model.
        sizes: prunable weights per block.
    """
    return _spread(outlier_shares, sparsity, sizes, deviation)


def dlp(mean_activations: Blocks, sparsity: float, sizes: Blocks, *, deviation: float = 0.15) -> Blocks:
    """Larger share of the activation, sparser (DLP): importance 1 − mean(A)_l / Σ mean(A), then OWL's spread."""
    total = mean_activations.sum()
    importance = 1 - mean_activations / torch.where(total == 0, 1.0, total)
    return _spread(importance, sparsity, sizes, deviation)


def alpha(exponents: Blocks, sparsity: float, sizes: Blocks, *, epsilon: float = 0.3) -> Blocks:
    """Heavier eigenvalue tail (smaller exponent), denser (AlphaPruning).

    Exponents are mapped linearly to [1 − epsilon, 1 + epsilon] and rescaled to the weighted mean `sparsity`.
    """
    raw = 1 - epsilon + 2 * epsilon * _unit(exponents.double())
    scaled = raw * (sparsity * sizes.sum() / (raw * sizes).sum())
    return project_to_budget(scaled, sizes, sparsity)


def arithmetic(n_blocks: int, sparsity: float, sizes: Blocks, *, slope: float) -> Blocks:
    """s_l = S + slope · (l − (L − 1)/2): sparser by `slope` from each block to the next."""
    depth = torch.arange(n_blocks, dtype=torch.float64) - (n_blocks - 1) / 2
    return project_to_budget(sparsity + slope * depth, sizes, sparsity)


def adaptive_deviation(sparsity: float, *, low: float = 0.4, high: float = 0.7, largest: float = 0.08) -> float:
    """OptiPrune's deviation λ(S): 0 up to `low`, `largest` from `high` on, never beyond min(S, 1 − S).

    The idea is the paper's (COLING 2025), whose code is public; this law is our own and does not reproduce theirs.
    """
    ramp = min(max((sparsity - low) / (high - low), 0.0), 1.0)
    return min(largest * ramp, sparsity, 1 - sparsity)


def _spread(importance: Blocks, sparsity: float, sizes: Blocks, deviation: float) -> Blocks:
    # Outlier shares are scaled to [0, 2λ] and centred, so that densities spread over 2λ around their mean 1 − S.
    density = 2 * deviation * _unit(importance.double())
    return project_to_budget(1 - (density - density.mean() + 1 - sparsity), sizes, sparsity)


def _unit(values: Blocks) -> Blocks:
    """Min–max scaled to [0, 1]; ½ everywhere when all are equal up to rounding."""
    if not torch.isfinite(values).all():
        raise ValueError(f"The blocks' statistics must be finite to be compared; got {values.tolist()}.")
    low, high = values.min(), values.max()
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        return torch.full_like(values, 0.5)
    return (values - low) / (high - low)


def project_to_budget(sparsities: Blocks, sizes: Blocks, sparsity: float, *, upper: float = UPPER_SPARSITY) -> Blocks:
    """Shift all sparsities by one number such that, clipped to [0, upper], their size-weighted mean is `sparsity`.

    >>> project_to_budget(torch.tensor([0.4, 0.8]), torch.tensor([100.0, 100.0]), 0.6)

    Raises:
        ValueError: `sparsity` is outside [0, upper], so that no shift reaches it, or a value is not finite.
    """
    if not torch.isfinite(sparsities).all():
        raise ValueError(f"The blocks' sparsities must be finite; got {sparsities.tolist()}.")
    if not 0 <= sparsity <= upper:
        raise ValueError(f"sparsity={sparsity} cannot be reached with every block between 0 and {upper}.")
    weights = sizes.double() / sizes.sum()
    low, high = -1.0 - float(sparsities.max()), 1.0 - float(sparsities.min())
    for _ in range(200):  # bisection on the shift; the clipped mean grows with it
        shift = (low + high) / 2
        mean = ((sparsities.double() + shift).clamp(0, upper) * weights).sum().item()
        low, high = (shift, high) if mean < sparsity else (low, shift)
    projected = (sparsities.double() + (low + high) / 2).clamp(0, upper)
    free = (projected > 0) & (projected < upper)
    if free.any():  # what bisection leaves at the last digits
        projected[free] += (sparsity - (projected * weights).sum()) / weights[free].sum()
    return projected


def integer_budgets(sizes: Sequence[int], sparsities: Sequence[float], sparsity: float) -> list[int]:
    """How many weights each matrix drops: round(sparsity · Σ sizes) in all, each within one of its own target.

    The remainders go to the matrices whose targets were cut the most.

    Raises:
        ValueError: the matrices' sparsities do not average to `sparsity`.
    """
    exact = [size * share for size, share in zip(sizes, sparsities, strict=True)]
    budgets = [int(value + 1e-9) for value in exact]
    missing = round(sparsity * sum(sizes)) - sum(budgets)
    if abs(missing) > len(sizes):
        mean = sum(exact) / sum(sizes)
        raise ValueError(f"The matrices' sparsities average to {mean:.6f}, not to the target {sparsity}.")
    by_remainder = sorted(range(len(sizes)), key=lambda i: budgets[i] - exact[i])
    for i in by_remainder[: max(missing, 0)]:
        budgets[i] += 1
    for i in by_remainder[::-1][: max(-missing, 0)]:
        budgets[i] -= 1
    return budgets


def outlier_share(scores: Sequence[Tensor], multiple: float = 5.0) -> float:
    """100 × the share of entries above `multiple` times their common mean, over all matrices of a block (OWL's D)."""
    count = sum(score.numel() for score in scores)
    mean = sum(score.sum(dtype=torch.float64).item() for score in scores) / count
    return 100 * sum((score > multiple * mean).sum().item() for score in scores) / count


def hill_exponent(weight: Float[Tensor, "out in"]) -> float:
    """Exponent of the power law fitted to the upper half of the eigenvalues of WᵀW (Hill's estimator).

    1 + k / Σ_{i ≤ k} ln(λ_i / λ_{k+1}) with the positive eigenvalues in falling order and k half their number. A matrix
    without a tail (fewer than two positive eigenvalues, or all equal) has the exponent infinity.
    """
    # Of WᵀW: the squared singular values, without squaring W.
    eigenvalues = torch.linalg.svdvals(weight.double()) ** 2
    positive = eigenvalues[eigenvalues > EIGENVALUE_FLOOR * eigenvalues[0]]
    half = len(positive) // 2
    logs = (positive[:half] / positive[half]).log().sum().item() if half else 0.0
    return 1 + half / logs if logs > half * EIGENVALUE_FLOOR else float("inf")


def equal_marginal_damage(
    levels: tuple[float, float], damages: Float[Tensor, "2 blocks"], sparsity: float, sizes: Blocks
) -> Blocks:
    """The allocation that minimises the summed damage, when every block's damage grows exponentially with its sparsity.

    Block l's damage is taken as a_l · exp(b · s). The rate b is the mean of the blocks' own between the two sparsities:
    a rate of each block's own, from few tokens, would be noise that makes the allocation extreme. At the minimum of the
    sum under the budget one more weight removed costs the same in every block: a_l b exp(b s_l) / size_l.

    Args:
        levels: the two sparsities, rising.
        damages: damage of pruning one block alone at each level; not-growing damages count as barely growing.
    """
    low, high = damages.double().clamp_min(1e-12)
    rate = ((high / low).log() / (levels[1] - levels[0])).clamp_min(1e-2).mean()
    log_damage = (low.log() + high.log()) / 2 - sizes.double().log()  # per weight, half-way between the levels
    return project_to_budget(sparsity + (log_damage.mean() - log_damage) / rate, sizes, sparsity)
