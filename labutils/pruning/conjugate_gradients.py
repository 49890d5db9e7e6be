"""Conjugate gradients on the kept weights of many rows at once: the rows differ in their masks and share one Hessian.

The unknown is a matrix, one row per output, and a step is one product of all search directions with the Hessian,
multiplied by the mask. Each row has its own step lengths, and leaves when it has arrived (Hestenes & Stiefel 1952).
The Hessian is scaled to a unit diagonal, which is the Jacobi preconditioner; `leading_inputs` gives a better one.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labutils.pruning.leading_part import LeadingPart

LOOKED_BACK = 4  # steps whose gains tell how much is still to be gained


class ScaledProblem:
    """Least squares on many masks with one Hessian, in single precision and coordinates in which its diagonal is one.

    Args:
        hessian: in double precision, positive definite.
        added: what damping has added to its diagonal; no eigenvalue is below it.
        tolerance: as for `descend_in_error`.
    """

    def __init__(self, hessian: Float[Tensor, "in in"], added: float, tolerance: float):
        diagonal = hessian.diagonal()
        self.scale, self.tolerance = diagonal.sqrt(), tolerance
        self.lowest = added / float(diagonal.max())
        self.hessian = (hessian / self.scale).div_(self.scale[:, None]).float()
        self.leading = LeadingPart(self.hessian)

    def solve(
        self, weight: Float[Tensor, "out in"], mask: Bool[Tensor, "out in"], max_iterations: int
    ) -> tuple[Float[Tensor, "out in"], Bool[Tensor, " out"]]:
        """For every row the v inside its mask with (H (w − v))_S = 0, in double precision; and which rows came there.

        What the rest was carried along as is compared with what it is, since in single precision they drift apart: a
        drift δ costs at most δᵀδ over the lowest eigenvalue. A row that did not come there is to be solved otherwise.
        """
        scaled = weight * self.scale
        lost = scaled.masked_fill(mask, 0.0).float()
        size = torch.linalg.vector_norm(lost, dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        lost.div_(size)  # so that no square leaves the range of single precision
        outputs = lost @ self.hessian
        errors = torch.linalg.vecdot(outputs, lost)
        found = descend_in_error(
            self.hessian, outputs.mul_(mask), mask, errors, self.tolerance, max_iterations, self.leading
        )
        drift = torch.mm(lost.sub_(found.step), self.hessian, out=outputs).mul_(mask).sub_(found.rest)
        is_true = drift.square().sum(dim=1) <= self.tolerance * self.lowest * found.left
        return (scaled.masked_fill_(~mask, 0.0) + found.step * size) / self.scale, found.arrived & is_true


class Descent(NamedTuple):
    """Where a descent has ended, one entry for every row.

    Attributes:
        step: d, zero outside the mask.
        rest: right − H d inside the mask, as it was carried along.
        left: of what the descent was judged by: the error that is left.
        arrived: whether the row has ended by its own rule, and not by the number of products.
        products: that were made.
    """

    step: Float[Tensor, "out in"]
    rest: Float[Tensor, "out in"]
    left: Float[Tensor, " out"]
    arrived: Bool[Tensor, " out"]
    products: int

    def note(self, rows: "_Rows", arrived: Bool[Tensor, " rows"] | bool) -> None:
        """What has become of some rows."""
        own = rows.place
        self.step[own], self.rest[own], self.left[own], self.arrived[own] = rows.step, rows.rest, rows.left, arrived


def descend(
    hessian: Float[Tensor, "in in"],
    right: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    goal: Float[Tensor, " out"],
    max_iterations: int,
) -> tuple[Float[Tensor, "out in"], int]:
    """Solve H_SS d = right_S for every row from d = 0, until a row's residual is at most `goal` times its first one.

    `hessian` has a unit diagonal, `right` is zero outside the mask.

    Returns:
        d, zero outside the mask, and the products that were made.
    """
    enough = right.square().sum(dim=1) * goal.to(right.dtype) ** 2
    found = _descend(hessian, right, mask, enough, _is_short, max_iterations, None)
    return found.step, found.products


def descend_in_error(
    hessian: Float[Tensor, "in in"],
    right: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    errors: Float[Tensor, " out"],
    tolerance: float,
    max_iterations: int,
    leading: LeadingPart,
) -> Descent:
    """Solve H_SS d = right_S until four steps together lower a row's error by less than `tolerance` of it.

    A step lowers the error by its length times rest · z, exactly. What later steps would bring is about as much as the
    last four have, so that a row ends by its error, whatever the condition number of its system is.

    Args:
        errors: (w − v)ᵀ H (w − v) of every row at d = 0.
    """

    def is_near(rows: "_Rows") -> Tensor:
        return rows.gains.sum(dim=1) <= tolerance * rows.left

    return _descend(hessian, right, mask, errors, is_near, max_iterations, leading)


class _Rows(NamedTuple):
    """Rows that are still on their way.

    Attributes:
        place: in the matrix.
        square: rest · z, with z the preconditioned rest.
        left: of the row's error; or what the descent is to be judged by.
        gains: of the last steps; infinite before there have been as many.
        cores: of the preconditioner.
    """

    place: Int[Tensor, " rows"]
    inside: Float[Tensor, "rows in"]
    step: Float[Tensor, "rows in"]
    rest: Float[Tensor, "rows in"]
    towards: Float[Tensor, "rows in"]
    square: Float[Tensor, " rows"]
    left: Float[Tensor, " rows"]
    gains: Float[Tensor, "rows steps"]
    cores: Float[Tensor, "rows rank rank"]

    def only(self, chosen: Tensor) -> "_Rows":
        return _Rows(*(field[chosen] for field in self))


def _is_short(rows: _Rows) -> Bool[Tensor, " rows"]:
    return rows.square <= rows.left


def _descend(
    hessian: Tensor, right: Tensor, mask: Tensor, left: Tensor, is_done: Callable[[_Rows], Tensor],
    max_iterations: int, leading: LeadingPart | None,
) -> Descent:  # fmt: skip
    inside, tiny = mask.to(right.dtype), torch.finfo(right.dtype).tiny
    cores = leading.cores(inside) if leading else right.new_zeros(len(right), 0, 0)
    precondition = leading.apply if leading else lambda rest, inside, cores: rest.clone()
    towards = precondition(right, inside, cores)
    gains = torch.full((len(right), LOOKED_BACK), torch.inf, dtype=torch.float64, device=right.device)
    place = torch.arange(len(right), device=right.device)
    rows = _Rows(
        place, inside, torch.zeros_like(right), right.clone(), towards, torch.linalg.vecdot(right, towards),
        left.double().clone(), gains, cores,
    )  # fmt: skip
    ended, used = Descent(torch.zeros_like(right), right.clone(), rows.left.clone(), place < 0, 0), 0
    while used < max_iterations and len(rows.place):
        done = is_done(rows)
        if 4 * int(done.count_nonzero()) >= len(done):  # what has arrived leaves when it is worth the copying
            ended.note(rows.only(done), True)
            rows = rows.only(~done)
            continue
        product = (rows.towards @ hessian).mul_(rows.inside)
        length = rows.square / torch.linalg.vecdot(rows.towards, product).clamp(min=tiny)
        rows.step.addcmul_(rows.towards, length[:, None])
        rows.rest.addcmul_(product, length[:, None], value=-1)
        gain = length.double() * rows.square
        rows.gains[:, used % LOOKED_BACK] = gain
        if leading:
            rows.left.sub_(gain)
        preconditioned = precondition(rows.rest, rows.inside, rows.cores)
        square = torch.linalg.vecdot(rows.rest, preconditioned)
        rows.towards.mul_((square / rows.square.clamp(min=tiny))[:, None]).add_(preconditioned)
        rows.square.copy_(square)
        used += 1
    ended.note(rows, is_done(rows))
    return ended._replace(products=used)
