"""Rows of a matrix with exact least squares on their masks, kept exact while weights are exchanged.

Of a row w with kept inputs S and dropped ones D, everything that a search of masks asks of least squares stands in one
symmetric matrix, the sweep of H on S (Beaton 1964), bordered by the right side H w and by wᵀH w:

          S              D               border
    S    −A              G               v                A = (H_SS)⁻¹,  G = A H_SD,  v = A (H w)_S
    D     Gᵀ             H_DD − H_DS G   c                c = H (w − v) on D, which is zero on S
    border               vᵀ, cᵀ          L                L = (w − v)ᵀ H (w − v)

To move a set K of inputs from one side to the other is a principal pivot: the rest R changes by T_RK (T_KK)⁻¹ T_KR,
which is of rank one for one input. T_KK is never singular where H is not, whatever is moved: its part in S is negative
definite and its part in D positive definite.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class SolvedRows(NamedTuple):
    """Rows in an order of their inputs of their own, the kept ones first.

    Attributes:
        table: the matrix above, and a last row and column of zeros, where what a shorter list is padded with falls.
        order: the input in each place.
        n_kept: of the first places.
    """

    table: Float[Tensor, "rows side side"]
    order: Int[Tensor, "rows in"]
    n_kept: Int[Tensor, " rows"]

    @property
    def errors(self) -> Float[Tensor, " rows"]:
        return self.table[:, -2, -2]

    @property
    def mask(self) -> Bool[Tensor, "rows in"]:
        """True = kept, in the inputs' own order."""
        return torch.zeros_like(self.order, dtype=torch.bool).scatter_(1, self.order, self.is_kept)

    @property
    def is_kept(self) -> Bool[Tensor, "rows in"]:
        """By place."""
        return torch.arange(self.order.shape[1], device=self.order.device) < self.n_kept[:, None]

    def only(self, chosen: Tensor) -> "SolvedRows":
        return SolvedRows(*(field[chosen] for field in self))


def order_by_mask(mask: Bool[Tensor, "rows in"]) -> Int[Tensor, "rows in"]:
    """The kept inputs of every row, then the dropped ones, each in ascending order."""
    return mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)


def solve_rows(
    weight: Float[Tensor, "rows in"], hessian: Float[Tensor, "in in"], order: Int[Tensor, "rows in"],
    n_kept: Int[Tensor, " rows"],
) -> SolvedRows:  # fmt: skip
    """Least squares on the first `n_kept` inputs of every row's order, from scratch.

    Rows with about as many kept weights should stand together: the systems are padded to the largest.

    >>> solve_rows(weight, hessian, order_by_mask(mask), mask.sum(dim=1)).errors

    Args:
        hessian: damped, and best of unit diagonal.

    Raises:
        ValueError: a system is singular.
    """
    columns, most, least = weight.shape[1], int(n_kept.max()), int(n_kept.min())
    table = weight.new_zeros(len(weight), columns + 2, columns + 2)
    border = weight @ hessian
    table[:, :columns, :columns] = hessian[order[:, :, None], order[:, None, :]]
    table[:, :columns, columns] = table[:, columns, :columns] = border.gather(1, order)
    table[:, columns, columns] = torch.linalg.vecdot(weight, border)
    kept = torch.arange(most, device=weight.device) < n_kept[:, None]
    inverse = _inverse_of_kept(table[:, :most, :most], kept)
    solved = inverse @ table[:, :most]  # G and v; zero in what is padded
    across = table[:, least:, :most].clone()  # a part of it is written over by the next line
    table[:, least:, least:].baddbmm_(across, solved[:, :, least:], alpha=-1)
    table[:, :most] = torch.where(kept[:, :, None], solved, table[:, :most])
    table[:, :, :most] = torch.where(kept[:, None, :], table[:, :most].mT, table[:, :, :most])
    corner = table[:, :most, :most]
    corner.copy_(torch.where(kept[:, :, None] & kept[:, None, :], -inverse, corner))
    return SolvedRows(table, order, n_kept)


def _inverse_of_kept(systems: Float[Tensor, "rows k k"], kept: Bool[Tensor, "rows k"]) -> Float[Tensor, "rows k k"]:
    """A, with zeros in the places of dropped inputs."""
    padded = systems * (kept[:, :, None] & kept[:, None, :])
    padded.diagonal(dim1=1, dim2=2).add_((~kept).to(padded.dtype))
    lower, failed = torch.linalg.cholesky_ex(padded)
    if failed.any():
        raise ValueError(
            "The Hessian is singular on the kept weights of some row. Use more calibration tokens, or a larger "
            "`damping`."
        )
    inverse = torch.cholesky_inverse(lower)
    inverse.diagonal(dim1=1, dim2=2).sub_((~kept).to(padded.dtype))
    return inverse


def exchange_places(
    table: Float[Tensor, "rows side side"], dropped: Int[Tensor, "rows n"], restored: Int[Tensor, "rows n"]
) -> None:
    """Drop the inputs in some places and restore those in others, in place; each pair of them changes its places.

    Of a shorter list the rest points to the table's last row, which must be zero and stays so.
    """
    n_pairs, last = dropped.shape[1], table.shape[1] - 1
    moved, target = torch.cat([dropped, restored], dim=1), torch.cat([restored, dropped], dim=1)
    rows = table.gather(1, moved[:, :, None].expand(-1, -1, last + 1))  # T_KR, and T_KK
    pivot = rows.gather(2, moved[:, None, :].expand(-1, len(moved[0]), -1))
    pivot.diagonal(dim1=1, dim2=2).add_((moved == last).to(pivot.dtype))
    inverse = torch.linalg.inv(pivot)
    product = inverse @ rows
    table.baddbmm_(rows.mT, product, alpha=-1)  # T_RR − T_RK (T_KK)⁻¹ T_KR
    # (T_KK)⁻¹ T_KR for what enters S, its negative for what leaves; −(T_KK)⁻¹ with both signs in the corner.
    sign = torch.ones(2 * n_pairs, dtype=table.dtype, device=table.device)
    sign[:n_pairs] = -1
    product.mul_(sign[:, None])
    inverse.mul_(sign[:, None]).mul_(-sign)
    product.scatter_(2, target[:, None, :].expand(-1, 2 * n_pairs, -1), inverse)
    table.scatter_(1, target[:, :, None].expand(-1, -1, last + 1), product)
    table.scatter_(2, target[:, None, :].expand(-1, last + 1, -1), product.mT)
    table[:, last] = 0
    table[:, :, last] = 0
