"""Rows and columns taken out of a matrix under a Kronecker-factored curvature of its loss, with or without updates.

Van der Ouderaa et al. (LLM Surgeon, ICLR 2024): the Fisher matrix of W (out × in) is taken to be G ⊗ A, with A the
second moment of its inputs and G that of the loss's gradients by its outputs. All functions are pure; R are rows, C
columns; both factors are damped by the caller (`damped`). For rows, with Q = G⁻¹:

- cost of a unit's rows: ½ tr(W_R A W_Rᵀ (Q_RR)⁻¹), which for one row is ½ w A wᵀ / Q_rr;
- correlated update: ΔW = −Q_:R (Q_RR)⁻¹ W_R, the change with ΔW_R = −W_R of least ½ tr(G ΔW A ΔWᵀ);
- independent update: the same with Q_RR's part of each unit alone, as if no other unit went.

Of columns the same holds for Wᵀ, with A and G in each other's place.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

UPDATES = ("correlated", "independent", "none")
DAMPING = 0.01  # of a factor's mean diagonal, as in the authors' code


def damped(factor: Float[Tensor, "n n"], damping: float = DAMPING) -> Float[Tensor, "n n"]:
    """The factor in double precision plus `damping` times its mean diagonal; of zeros the identity."""
    own = factor.double()
    held = damping * own.diagonal().mean()
    return own + (held if held > 0 else torch.ones_like(held)) * torch.eye(len(own), dtype=torch.float64)


def row_costs(
    weight: Float[Tensor, "out in"],
    inputs: Float[Tensor, "in in"],
    inverse: Float[Tensor, "out out"],
    units: Int64[Tensor, "units k"],
) -> Float[Tensor, " units"]:
    """What the loss gains, to second order, when the k rows of a unit go and the others make up for it.

    >>> row_costs(weight, A, torch.linalg.inv(G), torch.arange(len(weight))[:, None])  # of columns: weight.T, G, A⁻¹

    Args:
        inputs: A; `inverse` G⁻¹.
    """
    rows = weight.double()[units]  # [units, k, in]
    moved = rows @ inputs @ rows.mT
    own = inverse[units[:, :, None], units[:, None, :]]  # Q_RR of each unit
    return 0.5 * torch.linalg.solve(own, moved).diagonal(dim1=1, dim2=2).sum(dim=1)


def remove_rows(
    weight: Float[Tensor, "out in"],
    inverse: Float[Tensor, "out out"],
    units: Int64[Tensor, "units k"],
    update: str = "correlated",
) -> Float[Tensor, "out in"]:
    """The weights, in double precision, with the rows of these units zero and the others changed to make up for them.

    >>> remove_rows(weight, torch.linalg.inv(G), torch.tensor([[3], [5]]))  # of columns: of weight.T, with A⁻¹
    """
    found, rows = weight.double().clone(), units.flatten()
    if update == "correlated":
        found -= inverse[:, rows] @ torch.linalg.solve(inverse[rows][:, rows], found[rows])
    elif update == "independent":
        own = inverse[units[:, :, None], units[:, None, :]]
        solved = torch.linalg.solve(own, found[units]).flatten(0, 1)
        found -= inverse[:, rows] @ solved
    found[rows] = 0.0
    return found
