"""How much a neuron or a group of heads matters: scores of units, by name. Higher stays.

Formulas: Minitron (Muralidharan et al. 2024), Wanda-sp and FLAP (An et al., AAAI 2024), LLM-Pruner (Ma et al., NeurIPS
2023), and the energy of what a unit adds to its part's output (in the manner of Greedy Output Approximation, CPAL
2025, whose own equations may differ).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.registry import Registry
from labutils.structured.views import View

Function = Callable[[View], Float[Tensor, " units"]]


@dataclass(frozen=True)
class UnitScore:
    """A score and what it reads beside weights: second moments of channels in pairs, or gradients."""

    function: Function
    gram: bool = False
    gradients: bool = False


UNIT_SCORES: Registry[UnitScore] = Registry("score of units")


def register_unit_score(name: str, *, gram: bool = False, gradients: bool = False) -> Callable[[Function], Function]:
    """Register a score of units, higher for those that stay; `shrink` takes its name from then on.

    >>> @register_unit_score("mean square")
    ... def mean_square(view):
    ...     return view.per_unit(view.activations.squares).sum(dim=1)

    Args:
        gram: it reads `view.activations.gram`; gradients: it reads the gradients.
    """

    def add(function: Function) -> Function:
        UNIT_SCORES.add(name, UnitScore(function, gram, gradients))
        return function

    return add


@register_unit_score("magnitude")
def magnitude(view: View) -> Float[Tensor, " units"]:
    """Mean |W| of the columns of the last matrix, summed over a unit's channels."""
    return view.per_unit(view.out.double().abs().mean(dim=0)).sum(dim=1)


@register_unit_score("minitron")
def minitron(view: View) -> Float[Tensor, " units"]:
    """√Σ_b a_b², a_b the mean |x| over the tokens of sequence b; of a group the norm over its channels."""
    squares = torch.stack(view.activations.sequence_means).square().sum(dim=0)
    return view.per_unit(squares).sum(dim=1).sqrt()


@register_unit_score("wanda-sp")
def wanda_sp(view: View) -> Float[Tensor, " units"]:
    """mean_i |W_ij| · ‖x_j‖₂, summed over a unit's channels."""
    channels = view.out.double().abs().mean(dim=0) * view.activations.squares.sqrt()
    return view.per_unit(channels).sum(dim=1)


@register_unit_score("flap")
def flap(view: View) -> Float[Tensor, " units"]:
    """Var_t(x_j) · ‖W_:j‖₂²; of a group the mean over its channels."""
    channels = view.activations.variance * view.out.double().square().sum(dim=0)
    return view.per_unit(channels).mean(dim=1)


@register_unit_score("taylor", gradients=True)
def taylor(view: View) -> Float[Tensor, " units"]:
    """Σ |w · ∂L/∂w| over all weights that go with a unit (LLM-Pruner's element¹, summed)."""
    made = (view.makers.double() * view.maker_gradients.double()).abs().sum(dim=1)
    read = (view.out.double() * view.out_gradients.double()).abs().sum(dim=0)
    return made + view.per_unit(read).sum(dim=1)


@register_unit_score("output", gram=True)
def output_energy(view: View) -> Float[Tensor, " units"]:
    """tr(W_k C_k W_kᵀ): the mean square of what a unit adds to its part's output, C_k its channels' second moments."""
    found = []
    for unit in range(view.count):
        places = slice(unit * view.width, (unit + 1) * view.width)
        weight, gram = view.out[:, places].double(), view.activations.gram[places, places]
        found.append((weight @ gram * weight).sum() / view.activations.count)
    return torch.stack(found)
