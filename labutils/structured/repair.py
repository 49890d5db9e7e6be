"""What makes up for removed units: the mean of what they put out, as a bias; or other weights for those that stay."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.structured.views import View

SMALLEST = 1e-30  # of the damping: without any a part that puts out zeros gives equations without a solution


def mean_of_removed(view: View, removed: Sequence[int]) -> Float[Tensor, " hidden"]:
    """Σ_j x̄_j W_:j over the channels of removed units: what they added to the output on average (FLAP).

    The output without them, plus this, has the dense output's mean over the calibration tokens.
    """
    places = channels_of(view, removed)
    return view.out[:, places].double() @ view.activations.mean[places]


def least_squares(view: View, removed: Sequence[int], damping: float = 0.01) -> Float[Tensor, "hidden channels"]:
    """(W G_:K + λ W_K) (G_KK + λI)⁻¹ for the channels K that stay, zero for the others.

    The weights V on these channels that minimise ‖X Wᵀ − X_K Vᵀ‖² + λ ‖V − W_K‖², G = XᵀX: those whose output is
    nearest to the dense one's, held near the dense weights by λ = `damping` · mean diagonal of G; of a part that puts
    out nothing at all they are the dense ones.
    """
    gone = set(channels_of(view, removed).tolist())
    kept = torch.tensor([place for place in range(view.out.shape[1]) if place not in gone], dtype=torch.int64)
    gram = view.activations.gram
    held = max(damping * gram.diagonal().mean().item(), SMALLEST)
    damped = gram[kept][:, kept] + held * torch.eye(len(kept), dtype=gram.dtype)
    found = torch.zeros_like(view.out, dtype=torch.float64)
    target = gram[:, kept].clone()
    target[kept, torch.arange(len(kept))] += held
    found[:, kept] = torch.linalg.solve(damped, (view.out.double() @ target).T).T
    return found


def channels_of(view: View, units: Sequence[int]) -> Tensor:
    """The channels of units, in their order."""
    return torch.tensor(
        [unit * view.width + channel for unit in units for channel in range(view.width)], dtype=torch.int64
    )
