"""SparseSwaps: exchange one kept and one dropped weight of a row, the best pair each time, until no exchange helps.

With v the masked row, r = w − v what it lost and c = H r, the row's output error is L = rᵀ H r. Dropping a kept p and
restoring a dropped q changes it by (arXiv 2512.10922)

    Δ(p, q) = a_p + b_q − 2 w_p w_q H_pq,   a_p = w_p² H_pp + 2 w_p c_p,   b_q = w_q² H_qq − 2 w_q c_q.

The last term is what scores of single weights do not see. Of an N:M pattern, p and q are of one group. Not all pairs
have to be looked at: with s_j = |w_j| √H_jj and ρ_p the largest correlation of input p with any other, no pair of p is
below a_p + min over q of (b_q − 2 ρ_p s_p s_q), and a p whose bound is above the best pair found so far is passed over.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SMALLEST_GAIN = 1e-10  # of a row's error at the start; a smaller gain is none
RENEWED_EVERY = 64  # exchanges after which c is computed from scratch
LEVELS = 8  # slopes at which the bound of the dropped weights is computed
CANDIDATES = 8  # kept weights of a row that are looked at together
CHUNK_BYTES = 64 * 2**20  # of the pairs that are looked at together


class Swapped(NamedTuple):
    """A better mask.

    Attributes:
        mask: True = kept; as many as before in every row, and in every group of a pattern.
        n_swaps: exchanges made in each row.
    """

    mask: Bool[Tensor, "out in"]
    n_swaps: Int[Tensor, " out"]


def swap_weights(
    weight: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    *,
    pattern: tuple[int, int] | None = None,
    max_swaps: int | None = None,
) -> Swapped:
    """Exchange kept and dropped weights until no single exchange lowers a row's output error.

    The kept weights keep their values; ties go to the lowest p, then the lowest q. Works in double precision.

    >>> swap_weights(torch.tensor([[2.0, -1.5, 3.0]]), torch.tensor([[True, False, False]]),
    ...              torch.tensor([[6.0, 3.0, 2.0], [3.0, 6.0, 1.0], [2.0, 1.0, 2.0]])).mask
    tensor([[False, False,  True]])

    Args:
        hessian: XᵀX, or any multiple of it; not damped.
        pattern: (N, M) that the mask has and keeps.
        max_swaps: of a row; None for as many as there are.

    Raises:
        ValueError: shapes that do not fit, or a pattern that the mask does not have.
    """
    rows, columns = weight.shape
    if mask.shape != weight.shape or hessian.shape != (columns, columns):
        raise ValueError(
            f"A {tuple(weight.shape)} matrix needs a mask of that shape and a Hessian of its {columns} inputs; got "
            f"{tuple(mask.shape)} and {tuple(hessian.shape)}."
        )
    if pattern and (columns % pattern[1] or (mask.reshape(rows, -1, pattern[1]).sum(dim=2) != pattern[0]).any()):
        raise ValueError(f"The mask to start from does not keep {pattern[0]} of every {pattern[1]} inputs.")
    dense, double = weight.double(), hessian.double()
    best_pair = _GroupPairs(double, pattern[1]) if pattern else _RowPairs(double)
    found, counts = mask.clone(), torch.zeros(rows, dtype=torch.long, device=mask.device)
    step = max(1, CHUNK_BYTES // (2 * 8 * CANDIDATES * columns))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        _search(dense[part], found[part], counts[part], double, best_pair, max_swaps)
    return Swapped(found, counts)


def _search(
    weight: Tensor, mask: Tensor, counts: Tensor, hessian: Tensor, best_pair: "_RowPairs | _GroupPairs",
    max_swaps: int | None,
) -> None:  # fmt: skip
    """Exchange in all rows at once, in place; a row that no exchange helps any more leaves."""
    rows = torch.arange(len(weight), device=weight.device)
    least = None  # the gain that a row must at least have
    kept, round_number = mask.clone(), 0
    while len(rows) and (max_swaps is None or round_number < max_swaps):
        if round_number % RENEWED_EVERY == 0:
            lost = weight * ~kept
            pull = lost @ hessian  # c
            if least is None:
                least = SMALLEST_GAIN * (lost * pull).sum(dim=1) + _rounding(weight, hessian)
        change, dropped, restored = best_pair(weight, kept, pull)
        going = change < -least
        rows, least, weight, kept, pull = rows[going], least[going], weight[going], kept[going], pull[going]
        dropped, restored = dropped[going, None], restored[going, None]
        kept.scatter_(1, dropped, False).scatter_(1, restored, True)
        pull += weight.gather(1, dropped) * hessian[dropped[:, 0]]
        pull -= weight.gather(1, restored) * hessian[restored[:, 0]]
        mask[rows] = kept
        counts[rows] += 1
        round_number += 1


def _rounding(weight: Tensor, hessian: Tensor) -> Tensor:
    """Of a change of a row's error, a difference of sums over its inputs: what is less might go in a circle."""
    return len(hessian) * torch.finfo(weight.dtype).eps * (weight.square() * hessian.diagonal()).amax(dim=1)


def _separable(weight: Tensor, kept: Tensor, pull: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """a_p of the kept and b_q of the dropped weights; infinite for the others."""
    own, crossed = weight.square() * diagonal, 2 * weight * pull
    return (own + crossed).masked_fill_(~kept, torch.inf), (own - crossed).masked_fill_(kept, torch.inf)


class _RowPairs:
    """The best exchange of every row, among all of its pairs."""

    def __init__(self, hessian: Tensor):
        self.hessian, self.diagonal = hessian, hessian.diagonal().contiguous()
        self.size = self.diagonal.clamp(min=0).sqrt()
        scale = torch.where(self.size > 0, self.size, 1.0)
        # A little more than the correlation, so that rounding cannot pass over a pair.
        others = (hessian / scale / scale[:, None]).abs().fill_diagonal_(0)
        self.largest = others.amax(dim=1) * (1 + 1e-9)

    def __call__(self, weight: Tensor, kept: Tensor, pull: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the best exchange of each row, the weight to drop and the one to restore."""
        costs, gains = _separable(weight, kept, pull, self.diagonal)
        bounds, order = self._bounds(weight, costs, gains).sort(dim=1)
        best = torch.full_like(bounds[:, 0], torch.inf)
        dropped, restored = torch.zeros_like(order[:, 0]), torch.zeros_like(order[:, 0])
        slack = 1e-12 * gains.masked_fill(kept, 0).abs().amax(dim=1)
        for start in range(0, bounds.shape[1], CANDIDATES):
            open_rows = (bounds[:, start] <= best + slack).logical_and(bounds[:, start] < torch.inf).nonzero().flatten()
            if not len(open_rows):
                break
            tried = order[open_rows, start : start + CANDIDATES]
            self._try(weight[open_rows], costs[open_rows], gains[open_rows], tried, open_rows, best, dropped, restored)
        return best, dropped, restored

    def _bounds(self, weight: Tensor, costs: Tensor, gains: Tensor) -> Tensor:
        """What no pair of a kept weight is below; min over q of (b_q − t s_q) falls with t, so a larger t will do."""
        size = weight.abs() * self.size
        slope = 2 * self.largest * size
        steepest = slope.masked_fill(costs.isinf(), 0).amax(dim=1, keepdim=True)
        levels = [(gains - steepest * (level / LEVELS) * size).amin(dim=1) for level in range(LEVELS + 1)]
        level = (slope / torch.where(steepest > 0, steepest, 1.0) * LEVELS).ceil().long().clamp(0, LEVELS)
        return costs + torch.stack(levels, dim=1).gather(1, level)

    def _try(
        self, weight: Tensor, costs: Tensor, gains: Tensor, tried: Tensor, rows: Tensor, best: Tensor, dropped: Tensor,
        restored: Tensor,
    ) -> None:  # fmt: skip
        """All pairs of the given kept weights; what is better, or equal and lower, is noted in place."""
        width = weight.shape[1]
        change = self.hessian[tried]  # rows × candidates × inputs
        change.mul_(-2 * weight.gather(1, tried)[:, :, None]).mul_(weight[:, None, :])
        change.add_(costs.gather(1, tried)[:, :, None]).add_(gains[:, None, :])
        change, partner = change.min(dim=2)  # of equal ones the first
        lowest = change.amin(dim=1)
        place = (tried * width + partner).masked_fill(change > lowest[:, None], width**2).amin(dim=1)
        known = dropped[rows] * width + restored[rows]
        better = (lowest < best[rows]) | ((lowest == best[rows]) & (place < known))
        chosen = rows[better]
        best[chosen], dropped[chosen], restored[chosen] = lowest[better], place[better] // width, place[better] % width


class _GroupPairs:
    """The best exchange of every row, among the pairs inside the groups of an N:M pattern."""

    def __init__(self, hessian: Tensor, group_m: int):
        self.diagonal, self.group_m = hessian.diagonal().contiguous(), group_m
        blocks = hessian.reshape(len(hessian) // group_m, group_m, -1, group_m)
        self.blocks = torch.stack([blocks[i, :, i] for i in range(len(blocks))])

    def __call__(self, weight: Tensor, kept: Tensor, pull: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the best exchange of each row, the weight to drop and the one to restore."""
        rows, (groups, group_m, _) = len(weight), self.blocks.shape
        costs, gains = _separable(weight, kept, pull, self.diagonal)
        grouped = weight.reshape(rows, groups, group_m)
        change = self.blocks * (-2 * grouped[..., :, None] * grouped[..., None, :])
        change.add_(costs.reshape(grouped.shape)[..., :, None]).add_(gains.reshape(grouped.shape)[..., None, :])
        best, place = change.reshape(rows, -1).min(dim=1)
        group, pair = place // group_m**2, place % group_m**2
        return best, group * group_m + pair // group_m, group * group_m + pair % group_m
