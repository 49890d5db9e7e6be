"""How much each unit matters, told by the losses of models in which random halves of them are off: a regression.

Dery et al. (Bonsai, arXiv 2402.05406): units are switched off at random, those of low prior importance more often; the
losses are regressed on what stayed on, starting from the prior. Forward passes are all it takes. Every mask comes with
its complement, in which the other half of the candidates is off, as in the authors' code.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import kendalltau
from torch import Tensor

STRENGTHS = (100.0, 1.0, 1e-2, 1e-4)  # of the ridge, in units of what a mask varies; the authors try 100, 1e-4 and 0
FOLDS = 5


class Fit(NamedTuple):
    """What the masks tell of units.

    Attributes:
        importance: by how much a unit lowers the loss when it is on, in the loss's unit.
        strength: of the ridge, as it was chosen.
    """

    importance: Float[Tensor, " units"]
    strength: float


def draw_pairs(
    prior: Float[Tensor, " units"], n_off: int, n_pairs: int, generator: torch.Generator
) -> Bool[Tensor, "masks units"]:
    """Masks of candidates, True where a unit is on: of each pair the first has `n_off` of them off, then the others.

    A unit is off in the first with a chance that rises with max(prior) − prior, drawn without replacement.

    >>> draw_pairs(torch.ones(4), 2, 1, torch.Generator().manual_seed(0)).sum(dim=1)
    tensor([2, 2])
    """
    weight = (prior.max() - prior).double()
    weight = torch.ones_like(weight) if weight.sum() == 0 else weight / weight.sum()
    uniform = torch.rand(n_pairs, len(prior), generator=generator, dtype=torch.float64)
    keys = uniform.log() / weight  # Efraimidis and Spirakis: the largest u^(1/w) are such a draw; w = 0 comes last
    first = torch.ones(n_pairs, len(prior), dtype=torch.bool)
    first.scatter_(1, keys.topk(n_off, dim=1).indices, False)
    return torch.stack([first, ~first], dim=1).flatten(0, 1)


def fit_importance(
    losses: Float[Tensor, " masks"], on: Bool[Tensor, "masks units"], prior: Float[Tensor, " units"]
) -> Fit:
    """The importance β of units, where the loss is c − mask · β, by ridge regression around the prior.

    β = b s + δ with s the prior over its mean and b ≥ 0 free: ‖y + M(b s + δ) − c‖² + λ‖δ‖² is smallest. Where the
    masks say nothing of a unit, the prior decides. λ is that of `STRENGTHS` whose predictions of left-out pairs agree
    best in order with their losses (Kendall's τ over five folds of pairs); of equal ones the larger.

    Args:
        losses: finite; of masks in pairs, as `draw_pairs` gives them.

    Raises:
        ValueError: fewer than two pairs, or losses that are not finite.
    """
    if len(losses) < 4 or len(losses) % 2 or not losses.isfinite().all():
        raise ValueError(f"{len(losses)} losses must be those of two or more pairs of masks, and finite.")
    design, y = on.double(), losses.double()
    start = prior.double() / prior.double().mean() if prior.sum() > 0 else torch.ones_like(prior, dtype=torch.float64)
    agreement = [_agreement(y, design, start, strength) for strength in STRENGTHS]
    strength = STRENGTHS[int(np.argmax(agreement))]
    return Fit(-_ridge(y, design, start, strength), strength)


def _ridge(
    y: Float[Tensor, " n"], design: Float[Tensor, "n units"], start: Float[Tensor, " units"], strength: float
) -> Float[Tensor, " units"]:
    """The slopes of the loss: b s + δ with b ≤ 0, solved among the masks, of which there are fewer than units."""
    centred, values = design - design.mean(dim=0), y - y.mean()
    kernel = centred @ centred.T
    held = strength * kernel.diagonal().mean().clamp_min(1e-30)
    inverse = torch.linalg.inv(kernel + held * torch.eye(len(y), dtype=torch.float64))
    along = centred @ start
    below = along @ inverse @ along
    b = ((along @ inverse @ values) / below).clamp_max(0) if below > 1e-12 else torch.zeros((), dtype=torch.float64)
    return b * start + centred.T @ inverse @ (values - b * along)


def _agreement(y: Tensor, design: Tensor, start: Tensor, strength: float) -> float:
    pair = torch.arange(len(y)) // 2
    found = []
    for fold in range(min(FOLDS, len(y) // 2)):
        out = pair % FOLDS == fold
        predicted = design[out] @ _ridge(y[~out], design[~out], start, strength)
        tau = kendalltau(predicted.numpy(), y[out].numpy()).statistic
        found.append(0.0 if np.isnan(tau) else tau)
    return float(np.mean(found))
