"""SparseSwaps: exchange one kept and one dropped weight of a row, the best pair first, until no exchange helps.

With v the masked row, r = w − v what it lost and c = H r, the row's output error is L = rᵀ H r. Dropping a kept p and
restoring a dropped q changes it by (arXiv 2512.10922)

    Δ(p, q) = a_p + b_q − 2 w_p w_q H_pq,   a_p = w_p² H_pp + 2 w_p c_p,   b_q = w_q² H_qq − 2 w_q c_q.

The last term is what scores of single weights do not see. Of an N:M pattern, p and q are of one group.

The authors look at all pairs before every exchange. Here a row is first improved inside a short list of its cheapest
p and q, the best pair of the list first, and the list is made anew until it brings nothing. Then all pairs of the row
are looked at, and what helps is the next list. So the search ends where theirs may end, in a mask that no exchange
improves, if not always in the same one. Pairs are left out of that look that cannot help: with s_j = |w_j| √H_jj and
ρ_p the largest correlation of input p with any other, no pair of p is below a_p + min over q of (b_q − 2 ρ_p s_p s_q).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labutils.pruning.reconstruction import check_layer, damped_hessian
from labutils.pruning.swap_pairs import Costs, Pairs, cheapest_pairs, entries, helpful_pairs, pairs_in_groups

# The gain that an exchange must have, of Σ_j w_j² H_jj of its row: above what sums are rounded by, or the search might
# go in a circle.
LEAST_GAIN = {torch.float32: 1e-6, torch.float64: 1e-13}
LEAST_SHARE = 1e-10  # of the row's error, in double precision
MOST_EXCHANGES = 24  # before the list is made anew
RENEWED_EVERY = 8  # lists, after which c is computed from scratch, as it is before all pairs are looked at
ROWS = 768  # searched together


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
    damping: float = 0.01,
    pattern: tuple[int, int] | None = None,
    max_swaps: int | None = None,
) -> Swapped:
    """Exchange kept and dropped weights until no single exchange lowers a row's damped output error.

    The kept weights keep their values. No exchange is left that lowers a row's error by more than a millionth of
    Σ_j w_j² H_jj in single precision, or a ten-billionth of the error in double precision, which is that of the
    weights. A weight whose input was always zero is dropped for free.

    >>> swap_weights(torch.tensor([[2.0, -1.5, 3.0]]), torch.tensor([[True, False, False]]),
    ...              torch.tensor([[6.0, 3.0, 2.0], [3.0, 6.0, 1.0], [2.0, 1.0, 2.0]]), damping=0.0).mask
    tensor([[False, False,  True]])

    Args:
        hessian: XᵀX, or any multiple of it.
        damping: share of its mean diagonal that is added to it, as for a reconstruction that follows.
        pattern: (N, M) that the mask has and keeps.
        max_swaps: of a row; None for as many as there are.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or a pattern that the mask does not have.
    """
    check_layer(weight, mask, hessian)
    check_pattern(mask, pattern)
    rows, columns = weight.shape
    found, counts = mask.clone(), torch.zeros(rows, dtype=torch.long, device=mask.device)
    if columns < 2 or not rows:
        return Swapped(found, counts)
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    sizes, correlations = (each.to(dtype) for each in in_units(weight, hessian, damping))
    search = _Search(correlations, pattern[1] if pattern else None, max_swaps)
    for part in torch.arange(rows, device=mask.device).split(ROWS):
        found[part], counts[part] = search.go(sizes[part], found[part])
    return Swapped(found, counts)


def in_units(
    weight: Float[Tensor, "out in"], hessian: Float[Tensor, "in in"], damping: float
) -> tuple[Float[Tensor, "out in"], Float[Tensor, "in in"]]:
    """Rows whose Σ_j w_j² H_jj is one, or zero, and the damped Hessian with a diagonal of one; in double precision.

    A weight whose input was always zero is zero there, whatever the damping.
    """
    damped = damped_hessian(hessian.double(), damping)
    scale = damped.diagonal().sqrt()
    sizes = weight.double() * scale.masked_fill(hessian.diagonal() == 0, 0.0)
    norms = torch.linalg.vector_norm(sizes, dim=1, keepdim=True)
    return sizes / norms.clamp(min=torch.finfo(torch.float64).tiny), (damped / scale).div_(scale[:, None])


def check_pattern(mask: Bool[Tensor, "out in"], pattern: tuple[int, int] | None) -> None:
    """Refuse a mask that does not have the pattern that a search is to keep, with a ValueError."""
    rows, columns = mask.shape
    if pattern and (columns % pattern[1] or (mask.reshape(rows, -1, pattern[1]).sum(dim=2) != pattern[0]).any()):
        raise ValueError(f"The mask to start from does not keep {pattern[0]} of every {pattern[1]} inputs.")


class _Rows(NamedTuple):
    """Rows that are still searched, in coordinates in which their Σ_j w_j² H_jj is one.

    Attributes:
        place: among the rows of the search.
        pull: c, which every exchange updates.
        before: the mask when c was last computed from scratch, with the error and the exchanges until then.
        to_end: whether the short list has brought nothing since the mask last changed, so that all pairs are due.
    """

    place: Int[Tensor, " rows"]
    weight: Float[Tensor, "rows in"]
    mask: Bool[Tensor, "rows in"]
    swaps: Int[Tensor, " rows"]
    pull: Float[Tensor, "rows in"]
    before: Bool[Tensor, "rows in"]
    error_before: Float[Tensor, " rows"]
    swaps_before: Int[Tensor, " rows"]
    to_end: Bool[Tensor, " rows"]

    def only(self, chosen: Tensor) -> "_Rows":
        return _Rows(*(field[chosen] for field in self))


class _Search:
    """Rows with one Hessian, in coordinates in which its diagonal is one."""

    def __init__(self, hessian: Float[Tensor, "in in"], group_m: int | None, max_swaps: int | None):
        self.hessian, self.group_m, self.max_swaps = hessian.contiguous(), group_m, max_swaps
        self.largest = hessian.abs().fill_diagonal_(0).amax(dim=1)

    def go(
        self, weight: Float[Tensor, "rows in"], mask: Bool[Tensor, "rows in"]
    ) -> tuple[Bool[Tensor, "rows in"], Int[Tensor, " rows"]]:
        """Masks that no exchange improves, and the exchanges of every row.

        A row whose error, computed anew, has not fallen goes back to its last mask and leaves: its gain was rounding.
        """
        ended, counts, n_lists = mask.clone(), torch.zeros(len(mask), dtype=torch.long, device=mask.device), 0
        rows = _Rows(
            torch.arange(len(mask), device=mask.device), weight, mask.clone(), counts.clone(), torch.zeros_like(weight),
            mask.clone(), torch.full_like(weight[:, 0], torch.inf), counts.clone(), counts < 0,
        )  # fmt: skip
        while len(rows.place):
            renewed = rows.to_end | (n_lists % RENEWED_EVERY == 0)
            fallen, n_lists = ~self._renew(rows, renewed.nonzero().flatten()), n_lists + 1
            costs = Costs.of(rows.weight, rows.mask, rows.pull)
            least = torch.full_like(rows.error_before, LEAST_GAIN[weight.dtype])
            if weight.dtype == torch.float64:
                least = torch.maximum(least, LEAST_SHARE * rows.error_before)
            pairs, due = self._pairs(rows, costs, least)
            due &= fallen
            moved = self._exchange(rows, costs, pairs, least, due)
            stays = moved | (due & ~rows.to_end)
            if self.max_swaps is not None:
                stays &= rows.swaps < self.max_swaps
            rows.to_end.copy_(~moved)
            ended[rows.place[~stays]], counts[rows.place[~stays]] = rows.mask[~stays], rows.swaps[~stays]
            rows = rows.only(stays) if not stays.all() else rows
        return ended, counts

    def _renew(self, rows: _Rows, chosen: Int[Tensor, " chosen"]) -> Bool[Tensor, " rows"]:
        """Compute c of some rows from scratch, in place; tells whose error has risen, which go back."""
        risen = torch.zeros_like(rows.to_end)
        if len(chosen):
            lost = rows.weight[chosen] * ~rows.mask[chosen]
            pull = lost @ self.hessian
            errors = torch.linalg.vecdot(lost, pull)
            is_worse = (errors >= rows.error_before[chosen]) & (rows.swaps[chosen] > rows.swaps_before[chosen])
            risen[chosen] = is_worse
            rows.mask[risen], rows.swaps[risen] = rows.before[risen], rows.swaps_before[risen]
            rows.before[chosen], rows.swaps_before[chosen] = rows.mask[chosen], rows.swaps[chosen]
            rows.pull[chosen], rows.error_before[chosen] = pull, errors
        return risen

    def _pairs(self, rows: _Rows, costs: Costs, least: Tensor) -> tuple[Pairs, Bool[Tensor, " rows"]]:
        """The next list of every row, and which rows have one that may help."""
        if self.group_m:
            return pairs_in_groups(rows.weight, costs, self.hessian, self.group_m, least)
        pairs, due = cheapest_pairs(costs), torch.ones_like(rows.to_end)
        final = rows.to_end.nonzero().flatten()
        if len(final):
            found, due[final] = helpful_pairs(
                rows.weight[final], costs.only(final), self.hessian, self.largest, least[final]
            )
            pairs.kept[final], pairs.dropped[final] = found
        return pairs, due

    def _exchange(
        self, rows: _Rows, costs: Costs, pairs: Pairs, least: Tensor, due: Bool[Tensor, " rows"]
    ) -> Bool[Tensor, " rows"]:
        """Exchange inside the lists of the rows that are due, in place, the best pair first; tells which have moved.

        A weight is exchanged once in a list.
        """
        own, made = due.nonzero().flatten(), []
        change = _Changes.start(rows.weight[own], costs.only(own), pairs.only(own), self.hessian, self.group_m)
        for _ in range(MOST_EXCHANGES):
            gain, first, second = change.best()
            going = gain < -least[own]
            if self.max_swaps is not None:
                going &= rows.swaps[own] < self.max_swaps
            chosen = going.nonzero().flatten()
            if not len(chosen):
                break
            if 2 * len(chosen) <= len(going):
                own, first, second, change = own[chosen], first[chosen], second[chosen], change.only(chosen)
                chosen = torch.arange(len(own), device=own.device)
            dropped, restored = change.exchange(chosen, first[chosen], second[chosen], self.hessian)
            rows.mask[own[chosen], dropped], rows.mask[own[chosen], restored] = False, True
            rows.swaps[own[chosen]] += 1
            made.append((own[chosen], dropped, restored))
        return (
            self._follow(rows, *(torch.cat(each) for each in zip(*made, strict=True)))
            if made
            else torch.zeros_like(due)
        )

    def _follow(
        self, rows: _Rows, place: Int[Tensor, " n"], dropped: Int[Tensor, " n"], restored: Int[Tensor, " n"]
    ) -> Bool[Tensor, " rows"]:
        """Bring c up to exchanges, in place: each adds w_p H_p and takes w_q H_q. Tells which rows have any."""
        shares = torch.cat([rows.weight[place, dropped], -rows.weight[place, restored]])
        inputs, order = torch.cat([dropped, restored]), place.repeat(2).argsort(stable=True)
        counts = 2 * torch.bincount(place, minlength=len(rows.place))
        rows.pull.add_(
            torch.nn.functional.embedding_bag(
                inputs[order], self.hessian, counts.cumsum(0) - counts, mode="sum", per_sample_weights=shares[order]
            )
        )
        return counts > 0


class _Changes(NamedTuple):
    """Δ of the pairs of lists, kept up to date.

    Attributes:
        crossed: −2 w_p w_q H_pq; infinite for a pair that is of two groups.
        drop, restore: a and b of the list.
        kept, dropped, of_kept, of_dropped: the list and its weights.
    """

    crossed: Float[Tensor, "rows kept dropped"]
    drop: Float[Tensor, "rows kept"]
    restore: Float[Tensor, "rows dropped"]
    kept: Int[Tensor, "rows kept"]
    dropped: Int[Tensor, "rows dropped"]
    of_kept: Float[Tensor, "rows kept"]
    of_dropped: Float[Tensor, "rows dropped"]

    @classmethod
    def start(cls, weight: Tensor, costs: Costs, pairs: Pairs, hessian: Tensor, group_m: int | None) -> "_Changes":
        kept, dropped = pairs
        of_kept, of_dropped = weight.gather(1, kept), weight.gather(1, dropped)
        crossed = entries(hessian, kept[:, :, None], dropped[:, None, :])
        crossed.mul_(-2 * of_kept[:, :, None]).mul_(of_dropped[:, None, :])
        if group_m:
            crossed.masked_fill_(kept[:, :, None] // group_m != dropped[:, None, :] // group_m, torch.inf)
        drop, restore = costs.drop.gather(1, kept), costs.restore.gather(1, dropped)
        return cls(crossed, drop, restore, kept, dropped, of_kept, of_dropped)

    def only(self, chosen: Int[Tensor, " rows"]) -> "_Changes":
        return _Changes(*(field.index_select(0, chosen) for field in self))

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """The lowest Δ of every row, and the places of its pair."""
        changes = (self.crossed + self.drop[:, :, None]).add_(self.restore[:, None, :])
        of_kept = changes.amin(dim=2)  # two looks at few are much quicker than one for a place among all
        gain, first = of_kept.min(dim=1)
        return gain, first, changes[torch.arange(len(first), device=first.device), first].argmin(dim=1)

    def exchange(self, rows: Int[Tensor, " rows"], first: Tensor, second: Tensor, hessian: Tensor) -> Pairs:
        """Exchange a pair of some rows: of what c changes by follow a and b; the two are not looked at again.

        Returns:
            The inputs that were dropped and restored.
        """
        dropped, restored = self.kept[rows, first], self.dropped[rows, second]
        dropping, restoring = self.of_kept[rows, first, None], self.of_dropped[rows, second, None]
        sides = (2, self.drop, self.of_kept, self.kept), (-2, self.restore, self.of_dropped, self.dropped)
        for sign, costs, *of_all in sides:
            own, inputs = (field.index_select(0, rows) for field in of_all)
            pulled = entries(hessian, dropped[:, None], inputs).mul_(dropping)
            pulled.addcmul_(entries(hessian, restored[:, None], inputs), restoring, value=-1)
            costs.index_add_(0, rows, pulled.mul_(own), alpha=sign)
        self.drop[rows, first], self.restore[rows, second] = torch.inf, torch.inf
        return Pairs(dropped, restored)
