"""Integration along a path that is refined where it bends, until what is attributed adds up.

For whatever everything flows through (the embeddings, the output of a block), the conductance over any part [a, b] of
the path must add up to F(b) − F(a). So every part tells by how much it is wrong, which no quadrature does by itself.
Parts whose error is more than their share of the tolerance are halved; all three points of a part serve its halves.

The integral ∫ ∂F/∂h · dh of a part is that of parabolas through three points of both factors, an integral of Stieltjes
by Simpson's rule. It takes no derivative of h along the path, and its error falls with the fourth power of the width.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from mmap import mmap

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from labutils.attribution.integration import Batch, probed_module

FLOOR = 0.1  # nats; errors are not measured against smaller differences
PARTS = 4  # of the path at first
NARROW = 1 / 256  # of the path: what a narrower part may miss, or rounding would have it halved for ever
FIRST_POINTS = 2 * PARTS + 1
LARGE = 2**17  # bytes; from there on glibc too takes memory of its own, until it has returned larger ones


@dataclass(frozen=True, eq=False)
class Point:
    """A point of the path of one passage: F there, and of every module the tensor and the gradient of F."""

    place: float  # 0: the baseline, 1: the text
    value: float
    states: list[Float[Tensor, "length _"]]
    gradients: list[Float[Tensor, "length _"]]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the path of one passage, between its first and its last point, with the point in the middle."""

    row: int
    start: Point
    middle: Point
    end: Point

    def conductance(self, module: int) -> Float64[Tensor, "length units"]:
        """∫ ∂F/∂h · dh over the part, token by token and unit by unit."""
        (h, k, l), (f, g, e) = zip(  # noqa: E741
            *(
                (point.states[module].double(), point.gradients[module])
                for point in (self.start, self.middle, self.end)
            ),
            strict=True,
        )
        first, second = k - h, l - k
        return f * (first / 2 - second / 6) + g * (first + second) * (2 / 3) + e * (second / 2 - first / 6)


@dataclass
class PathSum:
    """What the parts of a passage's path add up to, how far from the truth they are at most, and what they may be."""

    change: float  # F(text) − F(baseline), in nats
    allowed: float  # nats
    points: int
    totals: list[Float64[Tensor, " _"] | float]  # per module, by unit (or token)
    error: float = 0.0  # nats, the sum of the parts' errors, each that of the worst module
    credit: float = field(default=0.0, repr=False)  # nats that the parts so far could have missed, and did not

    @property
    def completeness(self) -> float:
        """The error as a share of F(text) − F(baseline)."""
        return self.error / max(abs(self.change), FLOOR)

    def take(self, part: Part, checked: Sequence[int], over: int, n_points: int) -> bool:
        """Add the part, or return False where its error is beyond its share and points are left to halve it.

        Half of the credit goes to any one part: a narrow bend may take what the straight stretches leave. (Which part
        finds how much depends on the order, and so on the memory; the errors stay within what is allowed.)
        """
        width = part.end.place - part.start.place
        found = [part.conductance(module) for module in range(len(self.totals))]
        error = max(abs(float(found[module].sum()) - (part.end.value - part.start.value)) for module in checked)
        aim = self.allowed / 2  # many narrow parts may miss more than their share, which the other half is for
        share = aim * max(width, NARROW)
        if error > share + max(self.credit, 0) / 2 and self.points + 2 <= n_points:
            self.points += 2
            return False
        self.error += error
        self.credit += aim * width - error
        self.totals = [total + values.sum(over).cpu() for total, values in zip(self.totals, found, strict=True)]
        return True


def refined_conductance(
    score: Callable[..., Float[Tensor, " rows"]], batch: Batch, modules: Sequence[tuple[nn.Module, str]],
    *, checked: Sequence[int], tolerance: float, n_points: int, over: int = 0,
) -> list[PathSum]:  # fmt: skip
    """Conductance of the units that enter or leave each module, one sum per passage of the batch.

    Args:
        modules: (module, "input" or "output"); none stands for the embeddings themselves.
        checked: places in `modules` of those that everything flows through, whose sums steer the refinement.
        tolerance: of F(text) − F(baseline).
        n_points: the most points per passage; with too few, the sums' `error` is above what is `allowed`.
        over: the dimension that is summed: 0 tokens, 1 units.
    """
    rows = range(len(batch.passages))
    grid = torch.linspace(0, 1, FIRST_POINTS).tolist()
    points = _points(score, batch, modules, [(row, place) for row in rows for place in grid])
    sums, pending = [], []
    for row in rows:
        own = points[row * len(grid) : (row + 1) * len(grid)]
        change = own[-1].value - own[0].value
        allowed = tolerance * max(abs(change), FLOOR)
        sums.append(PathSum(change, allowed, len(grid), [0.0] * len(own[0].states)))
        pending += [Part(row, *own[place : place + 3]) for place in range(0, 2 * PARTS, 2)]
    pending.reverse()  # from the baseline on, and to the bottom of a part before the next: few states are kept
    del points, own
    while pending:
        # A part that is halved leaves two points more than it had. Parts share their ends, so two points a part are
        # held, and one a row; where those that fit are, one part at a time is followed to its bottom, which adds few.
        room = (batch.points_at_once - 2 * len(pending) - len(rows)) // 2
        halved: list[Part] = []
        while pending and len(halved) < max(1, min(batch.rows_at_once // 2, room)):
            part = pending.pop()
            if not sums[part.row].take(part, checked, over, n_points):
                halved.append(part)
        pending += reversed(_halves(score, batch, modules, halved))
    return sums


def _halves(score: Callable, batch: Batch, modules: Sequence[tuple[nn.Module, str]], parts: list[Part]) -> list[Part]:
    ends = [(part.row, *ends) for part in parts for ends in ((part.start, part.middle), (part.middle, part.end))]
    middles = [(row, (start.place + end.place) / 2) for row, start, end in ends]
    points = _points(score, batch, modules, middles)
    return [Part(row, start, middle, end) for (row, start, end), middle in zip(ends, points, strict=True)]


def _points(
    score: Callable, batch: Batch, modules: Sequence[tuple[nn.Module, str]], wanted: list[tuple[int, float]]
) -> list[Point]:
    """The points (row of the batch, place on its path), as many at once as fit into the memory."""
    found: list[Point] = []
    lengths = batch.mask.sum(1).tolist()
    for start in range(0, len(wanted), batch.rows_at_once):
        chunk = wanted[start : start + batch.rows_at_once]
        rows = torch.tensor([row for row, _ in chunk], device=batch.ids.device)
        places = torch.tensor([place for _, place in chunk], device=batch.ids.device, dtype=batch.baseline.dtype)
        path = batch.baseline[rows] + places.view(-1, 1, 1) * (batch.embeddings - batch.baseline)[rows]
        values, states, gradients = _states_and_gradients(score, path, batch.fixed(rows), modules)
        for index, ((row, place), value) in enumerate(zip(chunk, values.tolist(), strict=True)):
            if not torch.isfinite(values[index]):
                raise ValueError(f"log p of passage {batch.passages[row]} is {value} at {place:.3g} of its path")
            own = _joined([tensor[index, : lengths[row]] for tensor in (*states, *gradients)])
            found.append(Point(place, value, own[: len(states)], own[len(states) :]))
    return found


def _joined(tensors: list[Float[Tensor, "length _"]]) -> list[Float[Tensor, "length _"]]:
    """Copies, for views would keep the whole chunk; each point's in memory of its own.

    From the heap they would leave gaps between what passes through it meanwhile, which the process then still holds.
    """
    length, widths = len(tensors[0]), [tensor.shape[1] for tensor in tensors]
    n_bytes = length * sum(widths) * tensors[0].itemsize
    if tensors[0].device.type != "cpu" or n_bytes < LARGE:
        return list(torch.cat(tensors, dim=1).split(widths, dim=1))
    own = torch.frombuffer(mmap(-1, n_bytes), dtype=tensors[0].dtype)
    return list(torch.cat(tensors, dim=1, out=own.view(length, -1)).split(widths, dim=1))


def _states_and_gradients(
    score: Callable, path: Float[Tensor, "rows length hidden"], fixed: tuple[Tensor, Tensor, Tensor],
    modules: Sequence[tuple[nn.Module, str]],
) -> tuple[Float[Tensor, " rows"], list[Tensor], list[Tensor]]:  # fmt: skip
    """F at points of the path, each module's tensor there, [rows, length, units], and the gradient of F."""
    seen: dict[nn.Module, Tensor] = {}
    path.requires_grad_()
    with ExitStack() as hooks:
        probes = [hooks.enter_context(probed_module(module, side, path.shape[1])) for module, side in modules]
        for probe in probes:
            probe.register_forward_hook(lambda probe, args, output: seen.update({probe: output}))
        values = score(path, *fixed)
    states = [seen[probe] for probe in probes] if modules else [path]
    gradients = torch.autograd.grad(values.sum(), states)
    return values.detach(), [state.detach() for state in states], list(gradients)
