"""What a matrix must lose at least, whatever its mask and its other weights: a bound that needs no search.

Dropping the weights S of a row costs min (w − v) H (w − v)ᵀ over all v that are zero on S. Where a diagonal matrix D
lies below H (H − D has no negative eigenvalue), that is no less than Σ_S d_j w_j², and this no less than the sum over
the smallest terms. With P = H⁻¹ three such D are known without search: H's own diagonal times the smallest eigenvalue
of H scaled to a unit diagonal; 1 / P_jj over the largest eigenvalue of P scaled likewise; and 1 / Σ_i |P_ij|
(diagonal dominance). Besides, the dearest drop costs no less than it would alone, w_j² / P_jj.

The bound is true and may be loose: where inputs resemble each other, weights make up for one another, and it falls far
below what can be reached. `best_masks.best_mask` finds the optimum itself, of small matrices.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.reconstruction import damped_hessian


def least_errors(
    weight: Float[Tensor, "out in"], hessian: Float[Tensor, "in in"], n_drop: int, *, damping: float = 0.01
) -> Float[Tensor, " out"]:
    """Per row, what dropping any `n_drop` weights must cost: a lower bound of (w − v) H (w − v)ᵀ, H damped.

    >>> least_errors(weight, inputs.T @ inputs, weight.shape[1] // 2).sum()

    Args:
        hessian: XᵀX, or any multiple of it.
        damping: share of its mean diagonal that is added to it.

    Raises:
        ValueError: a row has not so many weights.
    """
    columns = weight.shape[1]
    if not 0 <= n_drop <= columns:
        raise ValueError(f"n_drop={n_drop} is outside [0, {columns}], the weights of a row.")
    if not n_drop:
        return torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
    damped = damped_hessian(hessian.double(), damping)
    inverse = torch.linalg.inv(damped)
    own, inner = damped.diagonal(), inverse.diagonal()
    lowest = torch.linalg.eigvalsh(damped / torch.outer(own, own).sqrt())[0]
    highest = torch.linalg.eigvalsh(inverse / torch.outer(inner, inner).sqrt())[-1]
    squares = weight.double().square()
    below = (own * lowest, 1 / (inner * highest), 1 / inverse.abs().sum(dim=0))
    sums = [(squares * each).sort(dim=1).values[:, :n_drop].sum(dim=1) for each in below]
    alone = (squares / inner).sort(dim=1).values[:, n_drop - 1]
    return torch.stack([*sums, alone]).amax(dim=0)
