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
SINGLE_ROUNDING = 2e-6  # of sums of a few terms in single precision, relative to the largest
MOST_CANDIDATES = 32
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


class _Rows(NamedTuple):
    """Rows that are searched together, one entry of every field for each.

    Attributes:
        place: in the matrix.
        pull: c.
        own: w_j² H_jj.
        size: s_j, in single precision.
        least: the gain that an exchange must have.
    """

    place: Int[Tensor, " rows"]
    weight: Float[Tensor, "rows in"]
    kept: Bool[Tensor, "rows in"]
    pull: Float[Tensor, "rows in"]
    own: Float[Tensor, "rows in"]
    size: Float[Tensor, "rows in"]
    least: Float[Tensor, " rows"]

    @classmethod
    def start(cls, weight: Tensor, mask: Tensor, hessian: Tensor) -> "_Rows":
        lost, diagonal = weight * ~mask, hessian.diagonal().clamp(min=0)
        pull, own = lost @ hessian, weight.square() * diagonal
        # A change is a difference of sums over the inputs: what is less than their rounding might go in a circle.
        rounding = len(hessian) * torch.finfo(weight.dtype).eps * own.amax(dim=1)
        least = SMALLEST_GAIN * (lost * pull).sum(dim=1) + rounding
        place = torch.arange(len(weight), device=weight.device)
        return cls(place, weight, mask.clone(), pull, own, own.sqrt().float(), least)

    def only(self, chosen: Tensor) -> "_Rows":
        return _Rows(*(field[chosen] for field in self))

    def separable(self) -> tuple[Tensor, Tensor]:
        """a_p of the kept and b_q of the dropped weights; infinite for the others."""
        crossed = (self.weight * self.pull).mul_(2)
        costs = (self.own + crossed).masked_fill_(~self.kept, torch.inf)
        return costs, torch.sub(self.own, crossed, out=crossed).masked_fill_(self.kept, torch.inf)


def _search(
    weight: Tensor, mask: Tensor, counts: Tensor, hessian: Tensor, best_pair: "_RowPairs | _GroupPairs",
    max_swaps: int | None,
) -> None:  # fmt: skip
    """Exchange in all rows at once, in place; a row that no exchange helps any more leaves."""
    rows, n_rounds = _Rows.start(weight, mask, hessian), 0
    while n_rounds != max_swaps:
        change, dropped, restored = best_pair(rows)
        going = change < -rows.least
        if not going.all():
            mask[rows.place[~going]] = rows.kept[~going]
            rows, dropped, restored = rows.only(going), dropped[going], restored[going]
        if not len(rows.place):
            return
        row = torch.arange(len(rows.place), device=weight.device)
        rows.kept[row, dropped], rows.kept[row, restored] = False, True
        counts[rows.place] += 1
        n_rounds += 1
        if n_rounds % RENEWED_EVERY:
            rows.pull.add_(rows.weight[row, dropped, None] * hessian[dropped])
            rows.pull.sub_(rows.weight[row, restored, None] * hessian[restored])
        else:
            torch.mm(rows.weight * ~rows.kept, hessian, out=rows.pull)
    mask[rows.place] = rows.kept


class _RowPairs:
    """The best exchange of every row, among all of its pairs."""

    def __init__(self, hessian: Tensor):
        self.hessian, diagonal = hessian, hessian.diagonal().clamp(min=0)
        scale = torch.where(diagonal > 0, diagonal, 1.0).sqrt()
        others = (hessian / scale / scale[:, None]).abs().fill_diagonal_(0)
        self.twice_largest = (2 * others.amax(dim=1)).float()

    def __call__(self, rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the best exchange of each row, the weight to drop and the one to restore."""
        costs, gains = rows.separable()
        bounds = self._bounds(rows, costs, gains)
        best = torch.full_like(rows.least, torch.inf)
        dropped, restored = torch.zeros_like(rows.place), torch.zeros_like(rows.place)
        still = torch.arange(len(best), device=best.device)
        while len(still):
            n_tried = min(CANDIDATES * len(best) // len(still), MOST_CANDIDATES)  # the fewer rows, the more of each
            lowest, order = bounds[still].topk(min(n_tried + 1, bounds.shape[1]), largest=False)
            next_bound, tried = lowest[:, -1], order[:, :-1]
            self._try(rows.weight, costs, gains, still, tried, (best, dropped, restored))
            bounds[still[:, None], tried] = torch.inf
            still = still[(next_bound <= best[still]) & (next_bound < torch.inf)]
        return best, dropped, restored

    def _bounds(self, rows: _Rows, costs: Tensor, gains: Tensor) -> Tensor:
        """What no pair of a kept weight is below; min over q of (b_q − t s_q) falls with t, so a larger t will do.

        The levels of t are closer to each other where they are small: there are the weights that might be dropped.
        In single precision, less what its rounding may be, so that no pair is passed over for it.
        """
        slope = (self.twice_largest * rows.size).mul_(rows.kept)
        steepest = slope.amax(dim=1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
        shares, least = [(level / LEVELS) ** 2 for level in range(LEVELS + 1)], gains.float()
        levels = [torch.addcmul(least, rows.size, steepest, value=-share).amin(dim=1) for share in shares]
        level = (slope / steepest).sqrt_().mul_(LEVELS).ceil_().long()
        bounds = torch.stack(levels, dim=1).gather(1, level).add_(costs.float())
        crossed = 2 * torch.linalg.vector_norm(rows.weight, torch.inf, dim=1) * rows.pull.abs().amax(dim=1)
        return bounds.sub_((SINGLE_ROUNDING * (rows.own.amax(dim=1) + crossed)).float()[:, None])

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
        blocks = hessian.reshape(len(hessian) // group_m, group_m, -1, group_m)
        self.blocks = torch.stack([blocks[i, :, i] for i in range(len(blocks))])

    def __call__(self, rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
        """The change of the best exchange of each row, the weight to drop and the one to restore."""
        n_groups, group_m, _ = self.blocks.shape
        costs, gains, weight = (part.reshape(-1, n_groups, group_m) for part in (*rows.separable(), rows.weight))
        change = self.blocks * (-2 * weight[..., :, None] * weight[..., None, :])
        change.add_(costs[..., :, None]).add_(gains[..., None, :])
        best, place = change.reshape(len(change), -1).min(dim=1)  # of equal ones the first
        group, pair = place // group_m**2, place % group_m**2
        return best, group * group_m + pair // group_m, group * group_m + pair % group_m
