"""Exchanges of a kept and a dropped weight that lower the error left after exact least squares.

SparseSwaps, and `swaps`, judge an exchange by what it does while the kept weights stay as they are (arXiv 2512.10922).
Here it is judged by what it does if least squares follow, which find other values for all of them: see `solved_pairs`.

All pairs of a row are looked at, and the weights with the best exchanges make a list. Exchanges inside the list, the
best first, need no more than its part of the row's table, and are then made in the whole of it together. The search
ends when a look at all pairs, at a table made from scratch, finds none that helps. Where the list holds all weights,
this is the search that makes the best exchange of all, again and again; else it ended within 0.1% of that one's error
on 96 correlated inputs, in a third of the time.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labutils.pruning.reconstruction import check_layer
from labutils.pruning.solved_pairs import best_exchanges, changes, error_units
from labutils.pruning.solved_rows import SolvedRows, exchange_places, order_by_mask, solve_rows
from labutils.pruning.swap_pairs import Costs, Pairs, cheapest_pairs
from labutils.pruning.swaps import Swapped, check_pattern, in_units

LEAST_SHARE = 1e-10  # of a row's error, that an exchange must gain
LEAST_GAIN = 1e-13  # of Σ_j w_j² H_jj of its row, below which a gain may be rounding
RENEWED_EVERY = 50  # exchanges, after which a row's table is made from scratch, as it is before the last look
CHUNK_BYTES = 256 * 2**20  # of the tables of rows that are searched together
# Per row, squared width and cubed width. Measured on correlated inputs, where large products ran at 81 billion
# operations a second: 1.1 ms for a row of 96 inputs, 7 ms of 256, 104 ms of 768, 1.9 s of 2,048.
SQUARED_OPERATIONS = 7000
CUBED_OPERATIONS = 14
COPIES = 6  # of a table, or of as much, that are alive at a time


def swap_solved_weights(
    weight: Float[Tensor, "out in"],
    mask: Bool[Tensor, "rows columns"],
    hessian: Float[Tensor, "inputs inputs"],
    *,
    damping: float = 0.01,
    pattern: tuple[int, int] | None = None,
    max_swaps: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Swapped:
    """Exchange kept and dropped weights until no single exchange lowers a row's damped error after least squares.

    The error falls at every exchange, and none is left that lowers it by more than a ten-billionth of it. Computed in
    double precision, whatever the weights are. The mask is made for `least_squares`, which must follow: with the kept
    weights as they were it may be worse than the one to start from.

    >>> swap_solved_weights(torch.tensor([[2.0, -1.5, 3.0]]), torch.tensor([[True, False, False]]),
    ...                     torch.tensor([[6.0, 3.0, 2.0], [3.0, 6.0, 1.0], [2.0, 1.0, 2.0]]), damping=0.0).mask
    tensor([[False, False,  True]])

    Args:
        hessian: XᵀX, or any multiple of it.
        damping: share of its mean diagonal that is added to it, as for the least squares that follow.
        pattern: (N, M) that the mask has and keeps.
        max_swaps: of a row; None for as many as there are.
        chunk_bytes: of the tables of rows that are searched together, (in + 2)² numbers for each; speed and memory.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a pattern that the mask does not have, or a
            Hessian whose part on some row's kept weights is singular.
    """
    check_layer(weight, mask, hessian)
    check_pattern(mask, pattern)
    columns, n_kept = weight.shape[1], mask.sum(dim=1)
    found, counts = mask.clone(), torch.zeros_like(n_kept)
    sizes, correlations = in_units(weight, hessian, damping)
    waiting = ((n_kept > 0) & (n_kept < columns)).nonzero().flatten()
    waiting = waiting[n_kept[waiting].argsort(stable=True)]  # tables are padded to the row that keeps most
    search = _Search(correlations, pattern, max_swaps)
    if not len(waiting):
        return Swapped(found, counts)
    for part in waiting.split(max(1, chunk_bytes // _row_bytes(columns))):
        found[part], counts[part] = search.go(sizes[part], mask[part])
    return Swapped(found, counts)


def solved_swaps_operations(rows: int, columns: int) -> int:
    """Operations of a search that starts at half of the weights, in those of large products in single precision."""
    return rows * columns**2 * (SQUARED_OPERATIONS + CUBED_OPERATIONS * columns)


def solved_swaps_memory(rows: int, columns: int) -> int:
    """Bytes at the peak: copies of the Hessian and the matrix, and the tables of a chunk or of one row."""
    tables = max(_row_bytes(columns), min(CHUNK_BYTES, rows * _row_bytes(columns)))
    return 8 * (3 * columns**2 + 2 * rows * columns) + tables


def _row_bytes(columns: int) -> int:
    return 8 * COPIES * (columns + 2) ** 2


class _Rows(NamedTuple):
    """Rows that are still searched, in coordinates in which their Σ_j w_j² H_jj is one, or zero.

    Attributes:
        place: among the rows of the search.
        swaps: exchanges so far.
        swaps_before, order_before, error_before: when the table was last made from scratch.
    """

    place: Int[Tensor, " rows"]
    weight: Float[Tensor, "rows in"]
    table: Float[Tensor, "rows side side"]
    order: Int[Tensor, "rows in"]
    n_kept: Int[Tensor, " rows"]
    swaps: Int[Tensor, " rows"]
    swaps_before: Int[Tensor, " rows"]
    order_before: Int[Tensor, "rows in"]
    error_before: Float[Tensor, " rows"]

    @property
    def solved(self) -> SolvedRows:
        return SolvedRows(self.table, self.order, self.n_kept)

    def only(self, chosen: Tensor) -> "_Rows":
        return _Rows(*(field[chosen] for field in self))


class _Search:
    """Rows with one Hessian, in coordinates in which its diagonal is one."""

    def __init__(self, hessian: Float[Tensor, "in in"], pattern: tuple[int, int] | None, max_swaps: int | None):
        self.hessian, self.pattern, self.max_swaps = hessian, pattern, max_swaps

    def go(
        self, weight: Float[Tensor, "rows in"], mask: Bool[Tensor, "rows in"]
    ) -> tuple[Bool[Tensor, "rows in"], Int[Tensor, " rows"]]:
        """Masks that no exchange improves, and the exchanges of every row."""
        ended, counts = mask.clone(), torch.zeros(len(mask), dtype=torch.long, device=mask.device)
        start = solve_rows(weight, self.hessian, order_by_mask(mask), mask.sum(dim=1))
        rows = _Rows(
            torch.arange(len(mask), device=mask.device), weight, *start, counts.clone(), counts.clone(),
            start.order.clone(), start.errors.clone(),
        )  # fmt: skip
        while len(rows.place):
            least = (LEAST_SHARE * rows.solved.errors).clamp(min=LEAST_GAIN)
            best = best_exchanges(rows.solved, self.pattern)
            helps = best.drop.amin(dim=1) < -least
            if self.max_swaps is not None:
                helps &= rows.swaps < self.max_swaps
            helps &= self._exchange(rows, best, least, helps.nonzero().flatten())
            made = rows.swaps - rows.swaps_before
            stays = made > 0  # a table that is not fresh has no last word
            stays &= ~self._renew(rows, ((made >= RENEWED_EVERY) | (~helps & stays)).nonzero().flatten())
            ended[rows.place[~stays]], counts[rows.place[~stays]] = rows.solved.mask[~stays], rows.swaps[~stays]
            rows = rows.only(stays) if not stays.all() else rows
        return ended, counts

    def _renew(self, rows: _Rows, chosen: Int[Tensor, " chosen"]) -> Bool[Tensor, " rows"]:
        """Make tables from scratch, in place; tells whose error has risen by rounding, which go back to their mask."""
        risen = torch.zeros(len(rows.place), dtype=torch.bool, device=chosen.device)
        if len(chosen):
            solved = solve_rows(rows.weight[chosen], self.hessian, rows.order[chosen], rows.n_kept[chosen])
            risen[chosen] = solved.errors >= rows.error_before[chosen]
            rows.table[chosen], rows.error_before[chosen] = solved.table, solved.errors
            rows.order[risen], rows.swaps[risen] = rows.order_before[risen], rows.swaps_before[risen]
            rows.order_before[chosen], rows.swaps_before[chosen] = rows.order[chosen], rows.swaps[chosen]
        return risen

    def _exchange(self, rows: _Rows, best: Costs, least: Tensor, due: Int[Tensor, " due"]) -> Bool[Tensor, " rows"]:
        """Exchange inside the lists of the rows that are due, in place, the best pair first; tells which have moved."""
        moved = torch.zeros_like(rows.swaps, dtype=torch.bool)
        if not len(due):
            return moved
        own = best.only(due)
        lists = _Lists.start(rows.table[due], own, cheapest_pairs(own), rows.n_kept[due], self.pattern)
        left = None if self.max_swaps is None else self.max_swaps - rows.swaps[due]
        made = lists.exchange(least[due], left)
        rows.swaps[due] += made
        moved[due] = made > 0
        dropped, restored = lists.changed(empty=rows.table.shape[1] - 1)
        table, order = rows.table[due], rows.order[due]
        exchange_places(table, dropped, restored)
        rows.table[due] = table
        row, pair = (dropped < order.shape[1]).nonzero(as_tuple=True)
        out, into = dropped[row, pair], restored[row, pair]
        order[row, out], order[row, into] = order[row, into], order[row, out]
        rows.order[due] = order
        return moved


class _Lists:
    """Short lists of places of every row, and their part of its table.

    Attributes:
        places: of the kept weights of the list, then of as many dropped ones.
        allowed: pairs that may be exchanged.
        half: how many are kept.
        table: the part of the listed places, and of the last two.
        holds: which member of the list is in each place of it now.
    """

    def __init__(self, table: Tensor, places: Int[Tensor, "rows listed"], allowed: Bool[Tensor, "rows kept dropped"]):
        self.places, self.allowed, self.half = places, allowed, places.shape[1] // 2
        ends = torch.arange(table.shape[1] - 2, table.shape[1], device=places.device).expand(len(places), 2)
        index = torch.cat([places, ends], dim=1)
        rows = table.gather(1, index[:, :, None].expand(-1, -1, table.shape[2]))
        self.table = rows.gather(2, index[:, None, :].expand(-1, index.shape[1], -1))
        self.holds = torch.arange(places.shape[1], device=places.device).repeat(len(places), 1)

    @classmethod
    def start(
        cls, table: Tensor, best: Costs, pairs: Pairs, n_kept: Int[Tensor, " rows"], pattern: tuple[int, int] | None
    ) -> "_Lists":
        """What has no exchange at all is in the list only to fill it."""
        fits = torch.isfinite(best.drop.gather(1, pairs.kept))[:, :, None]
        fits = fits & torch.isfinite(best.restore.gather(1, pairs.dropped))[:, None, :]
        if pattern:
            keep_n, group_m = pattern
            of_kept, of_dropped = pairs.kept // keep_n, (pairs.dropped - n_kept[:, None]) // (group_m - keep_n)
            fits = fits & (of_kept[:, :, None] == of_dropped[:, None, :])
        return cls(table, torch.cat(pairs, dim=1), fits)

    def exchange(self, least: Float[Tensor, " rows"], left: Int[Tensor, " rows"] | None) -> Int[Tensor, " rows"]:
        """The best pair of every row, until none gains more than the least; returns how many there were.

        Not more than until tables are made anew, so that rounding cannot go in a circle.
        """
        own, made = torch.arange(len(self.holds), device=self.holds.device), torch.zeros_like(self.holds[:, 0])
        table, allowed = self.table, self.allowed
        for _ in range(RENEWED_EVERY):
            root, ratio = error_units(table)
            change = changes(
                table[:, : self.half, self.half : -2], root[:, : self.half], ratio[:, : self.half],
                root[:, self.half :], ratio[:, self.half :],
            )  # fmt: skip
            gain, pair = change.masked_fill_(~allowed, torch.inf).flatten(1).min(dim=1)
            going = gain < -least[own]
            if left is not None:
                going &= made[own] < left[own]
            if not going.any():
                break
            if not going.all():
                own, table, allowed, pair = own[going], table[going], allowed[going], pair[going]
            first, second = pair // self.half, self.half + pair % self.half
            exchange_places(table, first[:, None], second[:, None])
            self.holds[own, first], self.holds[own, second] = self.holds[own, second], self.holds[own, first]
            made[own] += 1
        return made

    def changed(self, empty: int) -> tuple[Int[Tensor, "rows pairs"], Int[Tensor, "rows pairs"]]:
        """Places of what was dropped, and of what was restored for it, in the end; filled up with `empty`."""
        gone, come = torch.zeros_like(self.holds, dtype=torch.bool), torch.zeros_like(self.holds, dtype=torch.bool)
        gone.scatter_(1, self.holds[:, self.half :], True)
        come.scatter_(1, self.holds[:, : self.half], True)
        gone[:, self.half :], come[:, : self.half] = False, False
        most = int(gone.sum(dim=1).max())
        found = []
        for chosen in (gone, come):
            index = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
            found.append(self.places.gather(1, index).masked_fill_(~chosen.gather(1, index), empty))
        return found[0], found[1]
