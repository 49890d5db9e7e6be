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
LEVELS = 6  # slopes at which the bound of the dropped weights is computed
CANDIDATES = 4  # kept weights of a row that are looked at together
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
    mask: Bool[Tensor, "rows columns"],
    hessian: Float[Tensor, "inputs inputs"],
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
    found, counts = mask.clone(), torch.zeros(rows, dtype=torch.long, device=mask.device)
    if columns < 2:
        return Swapped(found, counts)
    best_pair = _GroupPairs(double, pattern[1]) if pattern else _RowPairs(double)
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
    lost = weight * ~mask
    pull = lost @ hessian  # c
    slack = _rounding(weight, hessian)
    least = SMALLEST_GAIN * (lost * pull).sum(dim=1) + slack  # that an exchange must gain
    kept, n_rounds = mask.clone(), 0
    while n_rounds != max_swaps:
        change, dropped, restored = best_pair(weight, kept, pull, slack)
        going = change < -least
        if not going.all():
            mask[rows[~going]] = kept[~going]
            rows, least, slack = rows[going], least[going], slack[going]
            weight, kept, pull = weight[going], kept[going], pull[going]
            dropped, restored = dropped[going], restored[going]
        if not len(rows):
            return
        places = torch.arange(len(rows), device=rows.device)
        kept[places, dropped], kept[places, restored] = False, True
        counts[rows] += 1
        n_rounds += 1
        if n_rounds % RENEWED_EVERY:
            pull += weight[places, dropped, None] * hessian[dropped]
            pull -= weight[places, restored, None] * hessian[restored]
        else:
            pull = (weight * ~kept) @ hessian
    mask[rows] = kept


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

    def __call__(self, weight: Tensor, kept: Tensor, pull: Tensor, slack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the best exchange of each row, the weight to drop and the one to restore.

        `slack` is what rounding may do to a bound.
        """
        costs, gains = _separable(weight, kept, pull, self.diagonal)
        bounds = self._bounds(weight, costs, gains)
        rows = torch.arange(len(weight), device=weight.device)
        best = torch.full_like(bounds[:, 0], torch.inf)
        dropped, restored = torch.zeros_like(rows), torch.zeros_like(rows)
        while len(rows):
            lowest, order = bounds[rows].topk(min(CANDIDATES + 1, bounds.shape[1]), largest=False)
            next_bound, tried = lowest[:, -1], order[:, :-1]
            self._try(weight, costs, gains, rows, tried, (best, dropped, restored))
            bounds[rows[:, None], tried] = torch.inf
            rows = rows[(next_bound <= best[rows] + slack[rows]) & (next_bound < torch.inf)]
        return best, dropped, restored

    def _bounds(self, weight: Tensor, costs: Tensor, gains: Tensor) -> Tensor:
        """What no pair of a kept weight is below; min over q of (b_q − t s_q) falls with t, so a larger t will do.

        The levels of t are closer to each other where they are small: there are the weights that might be dropped.
        """
        size = weight.abs() * self.size
        slope = (2 * self.largest * size).masked_fill_(costs == torch.inf, 0)
        steepest = slope.amax(dim=1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
        shares = [(level / LEVELS) ** 2 for level in range(LEVELS + 1)]
        levels = [torch.addcmul(gains, size, steepest, value=-share).amin(dim=1) for share in shares]
        level = (slope / steepest).sqrt_().mul_(LEVELS).ceil_().long()
        return torch.stack(levels, dim=1).gather(1, level).add_(costs)

    def _try(
        self, weight: Tensor, costs: Tensor, gains: Tensor, rows: Tensor, tried: Tensor,
        known: tuple[Tensor, Tensor, Tensor],
    ) -> None:  # fmt: skip
        """All pairs of some kept weights of the rows; what is better, or equal and lower, is noted in place."""
        best, dropped, restored = known
        own, width = weight[rows], weight.shape[1]
        change = self.hessian[tried]  # rows × candidates × inputs
        change.mul_(own[:, None, :]).mul_(-2 * own.gather(1, tried)[:, :, None]).add_(gains[rows][:, None, :])
        of_each = change.amin(dim=2) + costs[rows].gather(1, tried)
        lowest = of_each.amin(dim=1)
        first = tried.masked_fill(of_each > lowest[:, None], width).amin(dim=1)  # the lowest p
        place = (tried == first[:, None]).to(torch.uint8).argmax(dim=1)
        partner = change[torch.arange(len(rows), device=rows.device), place].argmin(dim=1)  # of equal ones the first
        better = (lowest < best[rows]) | ((lowest == best[rows]) & (first < dropped[rows]))
        chosen = rows[better]
        best[chosen], dropped[chosen], restored[chosen] = lowest[better], first[better], partner[better]


class _GroupPairs:
    """The best exchange of every row, among the pairs inside the groups of an N:M pattern."""

    def __init__(self, hessian: Tensor, group_m: int):
        self.diagonal, self.group_m = hessian.diagonal().contiguous(), group_m
        blocks = hessian.reshape(len(hessian) // group_m, group_m, -1, group_m)
        self.blocks = torch.stack([blocks[i, :, i] for i in range(len(blocks))])

    def __call__(self, weight: Tensor, kept: Tensor, pull: Tensor, slack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the best exchange of each row, the weight to drop and the one to restore."""
        rows, (groups, group_m, _) = len(weight), self.blocks.shape
        costs, gains = _separable(weight, kept, pull, self.diagonal)
        grouped = weight.reshape(rows, groups, group_m)
        change = self.blocks * (-2 * grouped[..., :, None] * grouped[..., None, :])
        change.add_(costs.reshape(grouped.shape)[..., :, None]).add_(gains.reshape(grouped.shape)[..., None, :])
        best, place = change.reshape(rows, -1).min(dim=1)
        group, pair = place // group_m**2, place % group_m**2
        return best, group * group_m + pair // group_m, group * group_m + pair % group_m
