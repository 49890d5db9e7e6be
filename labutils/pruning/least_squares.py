"""Exact least squares on a mask: what the kept weights of every row must be for the layer's output to change least.

For one row w with kept inputs S and dropped ones D, minimise (w − v)ᵀ H_λ (w − v) over v with v_D = 0, where H_λ is the
damped Hessian. The damping stands on both sides of the equations, so that it pulls towards the dense weights and not
towards zero. Setting the derivative to zero gives the primal form; eliminating the constraint v_D = 0 by a multiplier
gives the dual one, with P = H_λ⁻¹:

    H_SS v_S = (H w)_S        or        v = w − P_:D (P_DD)⁻¹ w_D.

A row is factorised by the smaller of its two systems, or, in single precision, approached by conjugate gradients. This
is the optimum that OPTIMA (arXiv 2512.13886) approaches by a first-order solver, row by row; no other reconstruction of
the same mask has a smaller damped error.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labutils.pruning.conjugate_gradients import ScaledProblem
from labutils.pruning.patterns import inside_mask
from labutils.pruning.reconstruction import check_layer, damped_hessian

CHUNK_BYTES = 64 * 2**20  # of the systems that are factorised together
# One operation of a Cholesky factor of a small matrix in double precision takes as long as five of a large product in
# single precision, and conjugate gradients need about this many products, what goes with them included. Measured on
# text-like inputs: 20 to 75 steps, the more the fewer directions the inputs have. Both tell which way is shorter.
CHOLESKY_RATIO = 5
USUAL_PRODUCTS = 40
# Of a row's error, that four steps together must gain for a further one. A row's error is then within 1e-3 of the
# smallest one, and a matrix's within 3e-4: at most 8e-5 and 3e-5 were measured on eight matrices of a language model of
# 135 M parameters, 5e-4 and 2e-4 where eigenvalues fall with the cube of their rank and damping is 0.005.
TOLERANCE = 1e-4
ROWS = 512  # solved together: few enough that what belongs to them stays near the processor


def least_squares(
    weight: Float[Tensor, "out in"],
    mask: Bool[Tensor, "rows columns"],
    hessian: Float[Tensor, "inputs inputs"],
    *,
    damping: float = 0.01,
    chunk_bytes: int = CHUNK_BYTES,
) -> Float[Tensor, "out in"]:
    """The weights inside a mask whose outputs are nearest to the dense weights' on the calibration tokens.

    Of weights in double precision, the solution is factorised in double precision. Of others, large systems are solved
    by conjugate gradients, up to where every row's damped error is within a thousandth of the smallest one, and the
    sum over rows within three ten-thousandths; a row that does not come there is factorised. A kept weight of an input
    that was always zero stays as it is.

    >>> least_squares(torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[False, True, True]]),
    ...               torch.tensor([[6.0, 3.0, 2.0], [3.0, 6.0, 1.0], [2.0, 1.0, 2.0]]), damping=0.0)
    tensor([[ 0.0000, -1.6364,  3.8182]])

    Args:
        hessian: XᵀX, or any multiple of it.
        damping: share of its mean diagonal that is added to it.
        chunk_bytes: bytes of the systems that are factorised together; speed and memory only.

    Raises:
        ValueError: shapes that do not fit, or a Hessian whose part on some row's kept weights is singular.
    """
    check_layer(weight, mask, hessian)
    columns = weight.shape[1]
    damped, dense = damped_hessian(hessian.double(), damping), weight.double()
    solution = torch.where(mask, dense, 0.0)
    kept = mask.sum(dim=1)
    waiting = (kept > 0) & (kept < columns)
    if weight.dtype != torch.float64:
        added = damping * float(damped.diagonal().mean()) / (1 + damping)
        waiting &= ~_solve_by_products(dense, mask, damped, added, waiting, solution)
    dual = waiting & (kept * 2 > columns)
    if dual.any() and (inverse := _inverse(damped)) is not None:  # of a singular one a part may still be regular
        _solve_dual(dense, mask, inverse, dual, solution, chunk_bytes)
        waiting &= ~dual
    _solve_primal(dense, mask, damped, waiting, solution, chunk_bytes)
    return inside_mask(solution, mask).to(weight.dtype)


def least_squares_operations(rows: int, columns: int) -> int:
    """Operations at half of the weights, as products in single precision; by the shorter of the two ways."""
    factorised = CHOLESKY_RATIO * (columns / 2) ** 3 / 3
    return rows * int(min(factorised, 2 * columns**2 * USUAL_PRODUCTS))


def _solve_by_products(
    dense: Tensor, mask: Tensor, damped: Tensor, added: float, waiting: Tensor, solution: Tensor
) -> Tensor:
    """Solve, in place, the rows for which conjugate gradients are the shorter way; returns which were solved."""
    columns = mask.shape[1]
    kept = mask.sum(dim=1)
    smaller = torch.minimum(kept, columns - kept).double()
    as_products = CHOLESKY_RATIO * smaller**3 / 3 / (2 * columns**2)  # products that cost as much as a factorisation
    chosen = (waiting & (as_products > USUAL_PRODUCTS)).nonzero().flatten()
    solved = torch.zeros_like(waiting)
    if added and len(chosen):
        problem = ScaledProblem(damped, added, TOLERANCE)
        for rows in chosen.split(ROWS):
            found, near = problem.solve(dense[rows], mask[rows], int(as_products[rows].max()))
            solution[rows[near]] = found[near]
            solved[rows] = near
    return solved


def _solve_primal(
    dense: Tensor, mask: Tensor, damped: Tensor, rows: Tensor, solution: Tensor, chunk_bytes: int
) -> None:
    """H_SS v_S = (H w)_S for the chosen rows, in place."""
    for own, index, valid, lower, group, place in _factors(mask, damped, rows, chunk_bytes):
        right = (dense[own] @ damped).gather(1, index[group]) * valid[group]
        solution[own[:, None], index[group]] = torch.where(
            valid[group], _substitute(lower, right, group, place), solution[own[:, None], index[group]]
        )


def _inverse(damped: Tensor) -> Float[Tensor, "in in"] | None:
    """None of a matrix that cannot be factorised."""
    lower, failed = torch.linalg.cholesky_ex(damped)
    return None if failed else torch.cholesky_inverse(lower)


def _solve_dual(dense: Tensor, mask: Tensor, inverse: Tensor, rows: Tensor, solution: Tensor, chunk_bytes: int) -> None:
    """v = w − P_:D (P_DD)⁻¹ w_D for the chosen rows, in place."""
    for own, index, valid, lower, group, place in _factors(~mask, inverse, rows, chunk_bytes):
        right = dense[own].gather(1, index[group]) * valid[group]
        multipliers = torch.zeros_like(dense[own])
        multipliers.scatter_add_(1, index[group], _substitute(lower, right, group, place) * valid[group])
        solution[own] = (dense[own] - multipliers @ inverse) * mask[own]


_SINGULAR = (
    "The Hessian is singular on the kept weights of some row. Use more calibration tokens, or a larger `damping`."
)


def _factors(
    support: Bool[Tensor, "out in"], matrix: Float[Tensor, "in in"], rows: Bool[Tensor, " out"], chunk_bytes: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Cholesky factors of the matrix on the supports of the chosen rows, chunk by chunk, each distinct one once.

    Yields:
        the rows of the chunk; per distinct support its inputs, padded, and which of these are no padding; the lower
        factors, with ones in the padded corner; per row which support it has, and its place among the rows that do.
    """
    for supports, own, group, place in _chunks(support, rows, chunk_bytes):
        count = supports.sum(dim=1)
        width = int(count.max())
        index = supports.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        valid = torch.arange(width, device=count.device) < count[:, None]
        system = matrix[index[:, :, None], index[:, None, :]] * (valid[:, :, None] & valid[:, None, :])
        system.diagonal(dim1=1, dim2=2).add_((~valid).double())
        lower, failed = torch.linalg.cholesky_ex(system)
        if failed.any():
            raise ValueError(_SINGULAR)
        yield own, index, valid, lower, group, place


def _chunks(
    support: Bool[Tensor, "out in"], rows: Bool[Tensor, " out"], chunk_bytes: int
) -> Iterator[tuple[Bool[Tensor, "supports in"], Int[Tensor, " rows"], Int[Tensor, " rows"], Int[Tensor, " rows"]]]:
    """The distinct supports, similar sizes together, so that little is padded; and the rows that have them.

    Two copies of a system are alive while it is factorised, and a right-hand side for each of its rows.
    """
    chosen = rows.nonzero().flatten()
    if not len(chosen):
        return
    packed = np.packbits(support[chosen].cpu().numpy(), axis=1)
    _, first, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    distinct, group = support[chosen[torch.from_numpy(first).to(chosen.device)]], torch.from_numpy(group.reshape(-1))
    sizes, shared = distinct.sum(dim=1).cpu(), torch.bincount(group, minlength=len(distinct))
    order = torch.from_numpy(np.lexsort((shared.numpy(), sizes.numpy())))
    start = 0
    while start < len(order):
        stop = _chunk_end(sizes[order], shared[order], start, chunk_bytes)
        part = order[start:stop]
        number = torch.full((len(distinct),), -1)
        number[part] = torch.arange(len(part))
        own = (number[group] >= 0).nonzero().flatten()
        own = own[number[group[own]].argsort(stable=True)]
        local = number[group[own]]
        place = torch.arange(len(own)) - torch.searchsorted(local, local)
        device = support.device
        yield distinct[part.to(device)], chosen[own.to(device)], local.to(device), place.to(device)
        start = stop


def _chunk_end(sizes: Int[Tensor, " n"], shared: Int[Tensor, " n"], start: int, chunk_bytes: int) -> int:
    """How far a chunk that begins here may go; sizes ascend, so that its last system is its widest."""
    widest = sizes[start:].double()
    most = shared[start:].cummax(dim=0).values
    needed = torch.arange(1, len(widest) + 1) * widest * (2 * widest + most) * 8
    return start + max(1, int((needed <= chunk_bytes).sum()))


def _substitute(lower: Tensor, right: Tensor, group: Tensor, place: Tensor) -> Tensor:
    """Solve for every row with the factor of its support; the rows of one support are solved together."""
    sides = right.new_zeros(len(lower), lower.shape[1], int(place.max()) + 1)
    sides[group, :, place] = right
    return torch.cholesky_solve(sides, lower)[group, :, place]
