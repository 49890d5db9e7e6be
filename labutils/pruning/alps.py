"""ALPS: ADMM on the constraint that K weights of a matrix are not zero, then conjugate gradients on the mask found.

In coordinates in which the damped Hessian has a unit diagonal (arXiv 2406.07831), one eigendecomposition serves all ρ:

    V = (W H − Y + ρ D) (H + ρ I)⁻¹,    D = the K largest of V + Y / ρ,    Y ← Y + ρ (V − D).

ρ grows by how much the mask has changed in three steps, and the search ends when it has not. The K largest of V are the
mask, and ten steps of conjugate gradients, each row with its own step lengths, reconstruct its weights.

The law of ρ is the paper's (its appendix B.1); the authors' code adds restarts with a smaller ρ and an earlier end. The
damping is relative to the mean diagonal, as in their code, where the paper's text takes the whole trace.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labutils.pruning.admm import choose_mask, scale_problem
from labutils.pruning.conjugate_gradients import descend
from labutils.pruning.patterns import inside_mask

FIRST_RHO = 0.1
RHO_STEPS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))  # factors of ρ where more than this share of the mask has changed
CHECKED_EVERY = 3
MOST_STEPS = 300
DESCENT_STEPS = 10
DESCENT_GOAL = 1e-4


def alps(
    weight: Float[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    *,
    n_drop: int,
    pattern: tuple[int, int] | None = None,
    group: Literal["row", "matrix"] = "matrix",
    damping: float = 0.01,
) -> tuple[Float[Tensor, "out in"], Bool[Tensor, "out in"]]:
    """Choose a mask and its weights together.

    >>> new_weight, mask = alps(weight, inputs.T @ inputs, n_drop=weight.numel() // 2)

    Args:
        hessian: XᵀX, or any multiple of it.
        damping: share of its mean diagonal that is added to it. The paper's text adds 0.01 of the trace, which is
            0.01 · in, since the trace is the mean diagonal times the inputs.

    Returns:
        the new weight (zero where dropped) and the mask (True = kept).
    """
    problem = scale_problem(weight, hessian, damping, without_dead=True)
    start, scaled, scale = problem
    mask = choose_mask(_search(start, scaled, n_drop, pattern, group).square(), n_drop, pattern, group)
    found = inside_mask(start, mask)
    rest = ((start - found) @ scaled) * mask
    goal = torch.full_like(rest[:, 0], DESCENT_GOAL)
    step, _ = descend(scaled, rest, mask, goal, DESCENT_STEPS)
    return inside_mask((found + step) / scale, mask).to(weight.dtype), mask


def _search(
    weight: Tensor, hessian: Tensor, n_drop: int, pattern: tuple[int, int] | None, group: Literal["row", "matrix"]
) -> Float[Tensor, "out in"]:
    """V when the mask stands still, or after the last step."""
    values, vectors = (part.to(hessian.dtype) for part in torch.linalg.eigh(hessian.double()))
    right, dual, rho = weight @ hessian, torch.zeros_like(weight), FIRST_RHO
    known = choose_mask(weight.square(), n_drop, pattern, group)
    n_kept, projected = max(1, int(known.count_nonzero())), inside_mask(weight, known)
    for step in range(1, MOST_STEPS + 1):
        free = ((right - dual + rho * projected) @ vectors / (values + rho)) @ vectors.T
        mask = choose_mask((free + dual / rho).square(), n_drop, pattern, group)
        projected = inside_mask(free + dual / rho, mask)
        dual = dual + rho * (free - projected)
        if step % CHECKED_EVERY == 0:
            changed = int((mask ^ known).count_nonzero()) / n_kept
            known = mask
            if not changed:
                break
            rho *= next(factor for share, factor in RHO_STEPS if changed >= share)
    return free
