"""ADMM: alternate between a ridge solve of the whole matrix and a projection to what the mask allows.

In coordinates in which the damped Hessian has a unit diagonal, so that sizes of weights are Wanda's scores, with Z the
projected weights and U the running sum of what the projection cut off (Boža, TMLR 2024, arXiv 2401.02938):

    Z = mask · (W + U),    U ← U + W − Z,    W ← (B + ρ (Z − U)) (H + ρ I)⁻¹,    B = W₀ H.

The mask is given, or it is chosen anew in each of the first steps, while the sparsity rises to its target by a cubic
law, or at the target from the start. B is made of the damped Hessian, so the ridge pulls towards the dense weights. The
authors' code damps the scaled Hessian by 0.1; ours damps as everything else in this room does, before the scaling, so
that methods can be compared.
After 20 steps it is not at the optimum of its mask: exact least squares is.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labutils.pruning.patterns import inside_mask, n_of_m_mask, unstructured_mask
from labutils.pruning.reconstruction import damped_hessian

STEPS = 20
THINNED_STEPS = 15  # after which the mask is left as it is
RHO = 1.0


class ScaledProblem(NamedTuple):
    """A layer in coordinates in which its damped Hessian has a unit diagonal: w_j √H_jj, H_ij / √(H_ii H_jj)."""

    weight: Float[Tensor, "out in"]
    hessian: Float[Tensor, "in in"]
    scale: Float[Tensor, "in"]


def scale_problem(
    weight: Float[Tensor, "out in"], hessian: Float[Tensor, "in in"], damping: float, *, without_dead: bool
) -> ScaledProblem:
    """Damp and scale; `without_dead` sets the weights of inputs to zero that were zero on every token."""
    damped = damped_hessian(hessian, damping)
    scale = damped.diagonal().sqrt()
    scaled = weight.to(damped.dtype) * scale
    if without_dead:
        scaled = inside_mask(scaled, hessian.diagonal() != 0)
    return ScaledProblem(scaled, damped.div_(scale).div_(scale[:, None]), scale)


def choose_mask(
    score: Float[Tensor, "out in"], n_drop: int, pattern: tuple[int, int] | None, group: Literal["row", "matrix"]
) -> Bool[Tensor, "out in"]:
    """N:M where there is a pattern, else all but the `n_drop` lowest."""
    return n_of_m_mask(score, *pattern) if pattern else unstructured_mask(score, n_drop, group=group)


def admm_on_mask(
    weight: Float[Tensor, "out in"],
    mask: Bool[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    *,
    damping: float = 0.01,
    steps: int = STEPS,
) -> Float[Tensor, "out in"]:
    """Reconstruct the weights inside a given mask.

    >>> admm_on_mask(weight, mask, inputs.T @ inputs)

    Args:
        hessian: XᵀX, or any multiple of it.
        damping: share of its mean diagonal that is added to it.
        steps: more of them come nearer to exact least squares; at least 1.
    """
    problem = scale_problem(weight, hessian, damping, without_dead=False)
    found, _ = _alternate(problem, lambda current, step: mask, steps)
    return (found / problem.scale).to(weight.dtype)


def gradual_admm(
    weight: Float[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    *,
    n_drop: int,
    pattern: tuple[int, int] | None = None,
    group: Literal["row", "matrix"] = "matrix",
    damping: float = 0.01,
    gradual: bool = True,
) -> tuple[Float[Tensor, "out in"], Bool[Tensor, "out in"]]:
    """Choose a mask by sizes of weights that are being reconstructed, while the sparsity rises.

    At step t of the first 15, n_drop · (1 − (1 − t/15)³) weights go. That is the paper's law; the default branch of
    the authors' code computes it and then prunes to the target at each of these steps. An N:M mask has its sparsity
    from the start either way.

    >>> new_weight, mask = gradual_admm(weight, inputs.T @ inputs, n_drop=weight.numel() // 2)

    Args:
        gradual: by the paper's law; False as the authors' code: n_drop weights go at every step, chosen anew 15 times.

    Returns:
        the new weight (zero where dropped) and the mask (True = kept).
    """
    problem = scale_problem(weight, hessian, damping, without_dead=True)

    def thinned_mask(current: Tensor, step: int) -> Tensor | None:
        if step >= THINNED_STEPS:
            return None
        share = 1 - (1 - (step + 1) / THINNED_STEPS) ** 3 if gradual else 1
        return choose_mask(current.abs(), round(n_drop * share), pattern, group)

    found, mask = _alternate(problem, thinned_mask, STEPS)
    return (found / problem.scale).to(weight.dtype), mask


def _alternate(
    problem: ScaledProblem, next_mask: Callable[[Tensor, int], Tensor | None], steps: int
) -> tuple[Float[Tensor, "out in"], Bool[Tensor, "out in"]]:
    """The weights after some steps, and the last mask; `next_mask` gives none where the one before stays."""
    weight, hessian, _ = problem
    identity = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian + RHO * identity))
    right, current, running = weight @ hessian, weight, torch.zeros_like(weight)
    mask = torch.ones_like(weight, dtype=torch.bool)
    for step in range(steps):
        new = next_mask(current + running, step)
        mask = mask if new is None else new
        projected = inside_mask(current + running, mask)
        running = running + current - projected
        current = (right + RHO * (projected - running)) @ inverse
    return inside_mask(current + running, mask), mask
