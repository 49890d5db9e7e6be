"""From scores to masks: exact budgets, N:M patterns and the channel permutation that helps them.

A mask is a boolean matrix, True = keep. `n_drop` counts weights, so that a matrix reaches its budget to the weight; the
reference codes round per row or drop one entry too many.

Among equal scores the one goes first whose column has the larger sum of scores, then the one whose row has it: there it
is the smaller part, as in relative importance (Zhang et al. 2024), and no input loses more than others for where it
stands. In a stable sort the order of columns would decide, and weights from 4-bit blocks are equal in a seventh of the
groups of a 2:4 pattern. Only what is equal in these sums as well goes by position, the lower column first, then the
lower row.
"""

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from labutils.models.structure import all_finite


def unstructured_mask(
    score: Float[Tensor, "out in"], n_drop: int, *, group: Literal["row", "matrix"] = "matrix"
) -> Bool[Tensor, "out in"]:
    """Keep all but the `n_drop` lowest scores.

    With `group="row"` every row first drops floor(n_drop / rows) of its own lowest scores, and what is left of the
    budget goes to the lowest remaining scores of the matrix.

    Raises:
        ValueError: `n_drop` is outside [0, number of weights], or a score is not finite.
    """
    rows = score.shape[0]
    if not 0 <= n_drop <= score.numel():
        raise ValueError(f"n_drop={n_drop} is outside [0, {score.numel()}] for a matrix of {tuple(score.shape)}.")
    _check_scores(score)
    # Wanda compares inside a row; what does not divide by the rows is left to the matrix, so that the budget is exact.
    per_row = n_drop // rows if group == "row" else 0
    mask = _row_mask(score, per_row) if per_row else torch.ones_like(score, dtype=torch.bool)
    if rest := n_drop - per_row * rows:
        left = score.masked_fill(~mask, torch.inf) if per_row else score
        mask &= mask_above(left, lowest_cuts(left, [rest])[rest], whole=score)
    return mask


class Cut(NamedTuple):
    """Where a matrix's scores are cut: everything below `value` goes, and the first `n_ties` of those equal to it."""

    value: float
    n_ties: int


def lowest_cuts(score: Float[Tensor, "out in"], counts: Collection[int]) -> dict[int, Cut]:
    """By count, the cut that drops that many of a matrix's lowest scores; one sort serves several counts (each ≥ 1).

    The scores must be finite, or infinite where nothing is to be dropped.
    """
    flat = score.reshape(-1)
    if len(counts) == 1:
        (count,) = counts
        value = kth_lowest(flat, count)
        return {count: Cut(value, count - int((flat < value).count_nonzero()))}
    ordered = torch.from_numpy(np.sort(flat.detach().numpy())) if _numpy_can(flat) else flat.sort().values
    values = ordered[torch.tensor(sorted(counts), device=flat.device) - 1]
    below = torch.searchsorted(ordered, values).tolist()
    found = zip(sorted(counts), values.tolist(), below, strict=True)
    return {count: Cut(value, count - lower) for count, value, lower in found}


def mask_above(
    score: Float[Tensor, "out in"], cut: Cut, *, whole: Float[Tensor, "out in"] | None = None
) -> Bool[Tensor, "out in"]:
    """Keep what lies above a cut, and of the ties with it those that go last.

    `whole` has the scores whose sums decide among ties, where `score` is without some of them.
    """
    mask, ties = score > cut.value, score == cut.value
    if int(ties.count_nonzero()) > cut.n_ties:
        whole = score if whole is None else whole
        column, row = ties.T.nonzero().T  # column by column: the order of what is equal in everything
        order = _sums(whole, 1)[row].argsort(stable=True, descending=True)
        kept = order[_sums(whole, 0)[column[order]].argsort(stable=True, descending=True)][cut.n_ties :]
        mask[row[kept], column[kept]] = True
    return mask


def _sums(score: Float[Tensor, "out in"], dim: int) -> Float[Tensor, " n"]:
    """In double precision, in which the order of summands seldom tells."""
    return score.sum(dim=dim, dtype=torch.float64)


def inside_mask(weight: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The finite weights inside a mask, and zero elsewhere.

    A product is several times as fast as filling, which branches for every value; adding 0 makes 0 of its -0.
    """
    return (weight * mask).add_(0.0)


def count_zeros(weight: Tensor) -> int:
    """How many values are zero; counting booleans is the faster way."""
    return int((weight == 0).count_nonzero())


def _row_mask(score: Float[Tensor, "out in"], count: int) -> Bool[Tensor, "out in"]:
    """Keep all but the `count` (≥ 1) lowest scores of every row."""
    cut = _kth_lowest_of_rows(score, count)
    mask = score > cut
    if int(mask.count_nonzero()) == score.numel() - count * len(score):
        return mask  # no row has a tie that stays
    ties = score == cut
    must_go = count - (score < cut).sum(dim=1, keepdim=True)  # ties, the first ones of their row
    order = _sums(score, 0).argsort(stable=True, descending=True)
    gone = ties[:, order].cumsum(dim=1) <= must_go
    return mask | (ties & ~gone[:, order.argsort()])


def _check_scores(score: Float[Tensor, "out in"]) -> None:
    if not all_finite(score):
        raise ValueError(
            "The scores contain NaN or infinite values; check the weights and the calibration activations."
        )


def kth_lowest(values: Float[Tensor, " n"], count: int) -> float:
    """The `count`-th lowest of n values (1 ≤ count ≤ n), none of which is NaN."""
    if _numpy_can(values):
        return float(np.partition(values.detach().numpy(), count - 1)[count - 1])
    return values.kthvalue(count).values.item()


def _kth_lowest_of_rows(values: Float[Tensor, "rows n"], count: int) -> Float[Tensor, "rows 1"]:
    if _numpy_can(values):
        return torch.from_numpy(np.partition(values.detach().numpy(), count - 1, axis=1)[:, count - 1 : count])
    return values.kthvalue(count, dim=1, keepdim=True).values


def _numpy_can(values: Tensor) -> bool:
    """Whether numpy can select among the values: it is an order of magnitude faster at it, where it can."""
    return values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)


def parse_pattern(pattern: str) -> tuple[int, int] | None:
    """None for "unstructured"; (N, M) for "N:M", which keeps N of every M consecutive inputs of a row.

    Raises:
        ValueError: neither form, or not 0 < N < M.
    """
    if pattern == "unstructured":
        return None
    found = re.fullmatch(r"(\d+):(\d+)", pattern)
    if not found or not 0 < int(found[1]) < int(found[2]):
        raise ValueError(f'pattern={pattern!r} is neither "unstructured" nor "N:M" with 0 < N < M, such as "2:4".')
    return int(found[1]), int(found[2])


def n_of_m_mask(score: Float[Tensor, "out in"], keep_n: int, group_m: int) -> Bool[Tensor, "out in"]:
    """Keep the `keep_n` highest scores among every `group_m` consecutive inputs of a row.

    Raises:
        ValueError: `group_m` does not divide the input width, or a score is not finite.
    """
    rows, columns = score.shape
    _check_width(columns, keep_n, group_m)
    _check_scores(score)
    grouped = score.reshape(rows, columns // group_m, group_m)
    ordered, order = grouped.sort(dim=2, stable=True)
    mask = torch.zeros_like(grouped, dtype=torch.bool).scatter_(2, order[..., group_m - keep_n :], True)
    tied = ordered[..., group_m - keep_n - 1] == ordered[..., group_m - keep_n]
    if tied.any():
        row, group = tied.nonzero().T
        by_sum = _sums(score, 0).reshape(-1, group_m).argsort(dim=1, stable=True, descending=True)[group]
        highest = grouped[row, group].gather(1, by_sum).argsort(dim=1, stable=True)[:, group_m - keep_n :]
        mask[row, group] = torch.zeros_like(by_sum, dtype=torch.bool).scatter_(1, by_sum.gather(1, highest), True)
    return mask.reshape(rows, columns)


def tied_share(
    score: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    *,
    pattern: tuple[int, int] | None = None,
    group: Literal["row", "matrix"] = "matrix",
) -> float:
    """How much of a mask was decided among equal scores.

    Of an N:M pattern the share of groups in which a weight went and one of equal score stayed; of an unstructured mask
    the share of weights that have the highest score that went, where some of those stayed.

    >>> tied_share(torch.ones(2, 4), n_of_m_mask(torch.ones(2, 4), 2, 4), pattern=(2, 4))
    1.0
    """
    width = pattern[1] if pattern else score.shape[1] if group == "row" else score.numel()
    score, mask = score.reshape(-1, width), mask.reshape(-1, width)
    at_cut = score == score.masked_fill(mask, -torch.inf).amax(dim=1, keepdim=True)
    decided = (at_cut & mask).any(dim=1)
    return float((decided if pattern else at_cut & decided[:, None]).float().mean())


def _check_width(columns: int, keep_n: int, group_m: int) -> None:
    if columns % group_m:
        raise ValueError(
            f"A {keep_n}:{group_m} pattern needs an input width divisible by {group_m}; this one is {columns}."
        )


def channel_permutation(score: Float[Tensor, "out in"], keep_n: int, group_m: int) -> Int[Tensor, "in"]:
    """An order of the inputs under which an N:M mask retains more of the score (Zhang et al. 2024).

    First the columns, sorted by their summed score, are dealt to M strips in snake order; every group then takes one
    column from each strip. Then, strip by strip, the strip's columns are reassigned to the groups by linear sum
    assignment, maximising the score that the N:M mask retains. Of the result and the identity the better is returned.

    Returns:
        `order`, with `score[:, order]` the permuted matrix and `order.argsort()` its inverse.

    Raises:
        ValueError: as for `n_of_m_mask`.
    """
    columns = score.shape[1]
    _check_width(columns, keep_n, group_m)
    n_groups = columns // group_m
    # In snake order the largest column of a strip meets the smallest of the next: the groups' sums stay close.
    strips = score.sum(dim=0).argsort(descending=True, stable=True).reshape(group_m, n_groups)
    strips[1::2] = strips[1::2].flip(1)
    for strip in range(group_m):
        # Given the other strips, which column of this one goes to which group is an assignment problem.
        gain = _retained_scores(score, strips, strip, keep_n)
        _, chosen = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
        strips[strip] = strips[strip, torch.as_tensor(chosen, device=strips.device)]
    order = strips.T.reshape(-1)
    identity = torch.arange(columns, device=score.device)
    return max((identity, order), key=lambda candidate: _retained(score[:, candidate], keep_n, group_m))


def _retained(score: Float[Tensor, "out in"], keep_n: int, group_m: int) -> float:
    return score[n_of_m_mask(score, keep_n, group_m)].sum(dtype=torch.float64).item()


def _retained_scores(
    score: Float[Tensor, "out in"], strips: Int[Tensor, "m groups"], strip: int, keep_n: int
) -> Float[Tensor, "groups groups"]:
    """gain[g, c]: the score that group g retains when it takes column c of the strip beside its other columns."""
    # Row by row, a newcomer either beats the N-th best of the group's other columns or adds nothing.
    others = torch.cat([strips[:strip], strips[strip + 1 :]])
    fixed = score[:, others].sort(dim=1, descending=True).values  # (out, m − 1, groups)
    base = fixed[:, : keep_n - 1].sum(dim=1)
    weakest = fixed[:, keep_n - 1]  # what a newcomer has to beat
    newcomers = score[:, strips[strip]]
    gain = [base[:, g].sum() + torch.maximum(weakest[:, g, None], newcomers).sum(dim=0) for g in range(strips.shape[1])]
    return torch.stack(gain)
