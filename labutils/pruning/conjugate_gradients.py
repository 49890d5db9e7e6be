"""Conjugate gradients on the kept weights of many rows at once: the rows differ in their masks and share one Hessian.

The unknown is a matrix, one row per output, and a step is one product of all search directions with the Hessian,
multiplied by the mask. Each row has its own step lengths, and leaves when it has converged (Hestenes & Stiefel 1952).
The Hessian is scaled to a unit diagonal, which is the Jacobi preconditioner.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GIVEN_UP_AFTER = 3  # the share of the products, as its inverse, after which the pace is looked at
REFINEMENTS = 3  # times that the rest of a solution in single precision is solved for again


def solve_rows(
    weight: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[Tensor, "out in"], Bool[Tensor, " out"]]:
    """For every row the v inside its mask with (H (w − v))_S = 0, in single precision with the rest in double.

    Args:
        weight, hessian: in double precision; the Hessian positive definite.
        tolerance: ‖(H (w − v))_S‖ over ‖(H w)_S‖ at which a row is solved.
        max_iterations: products with the Hessian, refinements included.

    Returns:
        the solutions in double precision, and which rows have converged; what has not is to be solved otherwise.
    """
    scale = hessian.diagonal().sqrt()
    single = (hessian / scale / scale[:, None]).float()
    outputs = (weight * scale).float() @ single  # of a size alone, so single precision does
    wanted = tolerance * torch.linalg.vector_norm(outputs * mask * scale, dim=1)
    solution, converged = torch.where(mask, weight, 0.0), torch.zeros(len(weight), dtype=torch.bool)
    converged, left = converged.to(mask.device), max_iterations
    for _ in range(REFINEMENTS + 1):
        rest = ((weight - solution) @ hessian) * mask
        norms = torch.linalg.vector_norm(rest, dim=1)
        converged = norms <= wanted
        rows = (~converged).nonzero().flatten()
        if not len(rows) or left <= 0:
            break
        # Half of what is wanted: the norm that is watched is the scaled one, in single precision.
        goal = (0.5 * wanted[rows] / norms[rows]).clamp(min=1e-6)
        size = norms[rows, None]  # divided by it, so that no square leaves the range of single precision
        step, used = descend(single, (rest[rows] / (scale * size)).float(), mask[rows], goal, left, may_give_up=True)
        solution[rows] += step.double() * size / scale
        left -= used
    return solution, converged


def descend(
    hessian: Float[Tensor, "in in"],
    right: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    goal: Float[Tensor, " out"],
    max_iterations: int,
    *,
    may_give_up: bool = False,
) -> tuple[Float[Tensor, "out in"], int]:
    """Solve H_SS d = right_S for every row from d = 0, until a row's residual is at most `goal` times its first one.

    `hessian` has a unit diagonal, `right` is zero outside the mask. Rows that a third of the products have brought so
    little on the way that most of them would not arrive are given up.

    Returns:
        d, zero outside the mask, and the products that were made.
    """
    found, inside = torch.zeros_like(right), mask.to(right.dtype)
    rows, rest = torch.arange(len(right), device=right.device), right.clone()
    towards, square = rest.clone(), rest.square().sum(dim=1)
    first, enough = square.clone(), square * goal.to(square.dtype) ** 2
    current = torch.zeros_like(right)
    used = 0
    while used < max_iterations:
        done = square <= enough
        if done.all():
            break
        if may_give_up and 0 < used == max_iterations // GIVEN_UP_AFTER and _is_hopeless(first, square, enough):
            used = max_iterations
            break
        if int(done.count_nonzero()) * 4 >= len(done):  # what has converged leaves when it is worth the copying
            found[rows[done]] = current[done]
            stay = ~done
            rows, rest, towards, current = rows[stay], rest[stay], towards[stay], current[stay]
            square, enough, inside, first = square[stay], enough[stay], inside[stay], first[stay]
        product = (towards @ hessian).mul_(inside)
        length = square / torch.linalg.vecdot(towards, product).clamp(min=torch.finfo(square.dtype).tiny)
        current.addcmul_(towards, length[:, None])
        rest.addcmul_(product, -length[:, None])
        before, square = square, rest.square().sum(dim=1)
        towards.mul_((square / before.clamp(min=torch.finfo(square.dtype).tiny))[:, None]).add_(rest)
        used += 1
    found[rows] = current
    return found, used


def _is_hopeless(first: Float[Tensor, " rows"], now: Float[Tensor, " rows"], enough: Float[Tensor, " rows"]) -> bool:
    """Whether most rows, at the pace so far, would take more products than there are."""
    way, done = (first / enough).log(), (first / now.clamp(min=torch.finfo(now.dtype).tiny)).log()
    return bool((done * GIVEN_UP_AFTER < way).double().mean() > 0.5)
