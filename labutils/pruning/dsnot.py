"""DSnoT: exchange kept and dropped weights of a row until the mean of its output is what it was (arXiv 2310.08915).

With s_j the sum of input j over a sequence's tokens, on average over sequences, a_ij = W_ij s_j is what a weight adds
to its row's summed output, and ε_i = Σ a_ij over the dropped j is what is missing there. A step restores the dropped
weight that brings ε towards zero furthest for the variance of its input, and drops the kept one of least Wanda score
whose loss brings ε towards zero too. Nothing that has moved moves again.

Means say nothing of how inputs vary together, so the error of the layer's output may rise, and it often does.

Two choices are ours: the variance is that over all tokens, where the authors' code averages those inside the sequences;
and a weight whose input does not vary, which moves the mean at no cost in variance, comes before all others of its sign
(a / 0, so the largest a first). Their code leaves the matrices of the MLP alone; here a method prunes every matrix
alike.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CYCLES = 50
THRESHOLD = 0.1  # of |ε|, below which a row is left alone
NO_VARIANCE = 1e-200  # in the place of a variance of zero: below any other in single precision


def balance_means(
    weight: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    *,
    sums: Float[Tensor, "in"],
    variances: Float[Tensor, "in"],
    norms: Float[Tensor, "in"],
    pattern: tuple[int, int] | None = None,
    cycles: int = CYCLES,
    threshold: float = THRESHOLD,
) -> Bool[Tensor, "out in"]:
    """Exchange weights until every row's mean output is nearly the dense one's, or its candidates are used up.

    Of an N:M pattern, what is restored and what is dropped are of one group, whatever the sign of the latter; an
    exchange that would turn the sign of ε is left out.

    >>> balance_means(torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[False, True, True]]), sums=torch.ones(3),
    ...               variances=torch.ones(3), norms=torch.ones(3))
    tensor([[ True,  True, False]])

    Args:
        sums: of the inputs over a sequence's tokens, on average over sequences.
        variances: of the inputs over the tokens.
        norms: of the inputs over all tokens.

    Returns:
        the new mask, with as many kept weights in every row, and in every group of a pattern.
    """
    part = weight.double() * sums.double()  # a
    value = part / variances.double().clamp(min=NO_VARIANCE)
    cost = (weight.abs() * norms).double()
    kept, waiting, fixed = mask.clone(), ~mask, mask.clone()  # dropped ones not tried; kept ones that may go
    missing = (part * ~mask).sum(dim=1)  # ε
    active = torch.ones_like(missing, dtype=torch.bool)
    for _ in range(cycles):
        active &= (missing.abs() > threshold) & waiting.any(dim=1)
        rows = active.nonzero().flatten()
        if not len(rows):
            break
        sign = torch.where(missing[rows] > 0, 1.0, -1.0)
        restored = (value[rows] * sign[:, None]).masked_fill(~waiting[rows], -torch.inf).argmax(dim=1)
        allowed = _may_go(part[rows], fixed[rows], sign, restored, pattern)
        dropped = cost[rows].masked_fill(~allowed, torch.inf).argmin(dim=1)
        after = missing[rows] + part[rows, dropped] - part[rows, restored]
        going = allowed.any(dim=1)
        if pattern:
            waiting[rows, restored] = False  # tried, whether it comes back or not
            going &= after * sign >= 0
        else:
            active[rows[~going]] = False
        rows, restored, dropped = rows[going], restored[going], dropped[going]
        kept[rows, restored], kept[rows, dropped] = True, False
        waiting[rows, restored], fixed[rows, dropped] = False, False
        missing[rows] = after[going]
    return kept


def _may_go(
    part: Tensor, fixed: Tensor, sign: Tensor, restored: Tensor, pattern: tuple[int, int] | None
) -> Bool[Tensor, "rows in"]:
    """Which kept weights may be dropped for the restored one: those that bring ε towards zero, or its group's."""
    if pattern is None:
        return fixed & (part * sign[:, None] < 0)
    groups = torch.arange(part.shape[1], device=part.device) // pattern[1]
    return fixed & (groups == (restored // pattern[1])[:, None])
