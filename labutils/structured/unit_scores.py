"""How much a neuron or a group of heads matters: scores of units, by name. Higher stays.

Formulas: Minitron (Muralidharan et al. 2024), Wanda-sp and FLAP (An et al., AAAI 2024), LLM-Pruner (Ma et al., NeurIPS
2023), and the energy of what a unit adds to its part's output (in the manner of Greedy Output Approximation, CPAL
2025, whose own equations may differ), 2SSP's first stage (arXiv 2501.17771).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.registry import Registry
from labutils.structured.views import KINDS, View

Function = Callable[[View], Float[Tensor, "..."]]


@dataclass(frozen=True)
class UnitScore:
    """A score and what it reads beside weights.

    Attributes:
        function: gives a value for every unit, [units], or for every channel of a unit, [units, width].
        moments: it reads second moments of a unit's channels in pairs; gradients: those of the loss.
        of_channels: "mean" or "sum" over a unit's channels, of a function that gives values for channels.
        kinds: of units that it is defined for.
    """

    function: Function
    moments: bool = False
    gradients: bool = False
    of_channels: str | None = None
    kinds: tuple[str, ...] = tuple(KINDS)

    def of_units(self, view: View, *, standardise: bool = False) -> Float[Tensor, " units"]:
        """The score of every unit, in double precision.

        Args:
            standardise: in standard deviations from the mean of the same kind in the same block: of channels where the
                score has values for them, of which a unit then has the mean (FLAP); else of units.

        Raises:
            ValueError: values of another shape than units or channels have, or that are not finite.
        """
        found = torch.as_tensor(self.function(view)).double()
        wanted = (view.count, view.width) if self.of_channels else (view.count,)
        check_scores(found, wanted, f"the score of the {view.kind} of block {view.block}")
        if not self.of_channels:
            return standardised(found) if standardise else found
        if standardise:
            return standardised(found).mean(dim=1)
        return found.mean(dim=1) if self.of_channels == "mean" else found.sum(dim=1)


def check_scores(values: Float[Tensor, "..."], shape: tuple[int, ...], what: str) -> None:
    """ValueError unless there is a finite value for each."""
    if tuple(values.shape) != shape:
        raise ValueError(f"{what} has the shape {list(values.shape)}; there must be {list(shape)} values.")
    if not values.isfinite().all():
        place = (~values.isfinite()).flatten().nonzero()[0].item()
        raise ValueError(f"{what} is {values.flatten()[place].item()} at place {place}; scores must be finite.")


def standardised(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In standard deviations from the mean of all; zeros where all are equal."""
    spread = values.std(correction=0)
    return (values - values.mean()) / spread if spread > 0 else torch.zeros_like(values)


UNIT_SCORES: Registry[UnitScore] = Registry("score of units")


def register_unit_score(
    name: str,
    *,
    moments: bool = False,
    gradients: bool = False,
    of_channels: str | None = None,
    kinds: tuple[str, ...] = tuple(KINDS),
) -> Callable[[Function], Function]:
    """Register a score of units, higher for those that stay; `shrink` takes its name from then on.

    >>> @register_unit_score("mean square")
    ... def mean_square(view):
    ...     return view.per_unit(view.activations.squares).sum(dim=1)

    Args:
        moments: it reads `view.moments`; gradients: it reads the gradients.
        of_channels, kinds: as in `UnitScore`.

    Raises:
        ValueError: another `of_channels` than "mean" or "sum", or no such kind of units.
    """
    if of_channels not in (None, "mean", "sum"):
        raise ValueError(f"of_channels={of_channels!r} must be 'mean' or 'sum', or None for a score of whole units.")
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"kinds={kinds!r} must be one or both of {', '.join(KINDS)}.")

    def add(function: Function) -> Function:
        UNIT_SCORES.add(name, UnitScore(function, moments, gradients, of_channels, kinds))
        return function

    return add


@register_unit_score("magnitude", of_channels="sum")
def magnitude(view: View) -> Float[Tensor, "units width"]:
    """Mean |W| of the columns of the last matrix, summed over a unit's channels."""
    return view.per_unit(view.out.double().abs().mean(dim=0))


@register_unit_score("minitron")
def minitron(view: View) -> Float[Tensor, " units"]:
    """√Σ_b a_b², a_b the mean |x| over the tokens of sequence b; of a group the norm over its channels."""
    return view.per_unit(view.activations.squared_means).sum(dim=1).sqrt()


@register_unit_score("2ssp", kinds=("neurons",))
def two_stages(view: View) -> Float[Tensor, " units"]:
    """mean_b ‖x_b,n‖₂: of a neuron the norm over the tokens of a sequence, averaged over sequences."""
    return view.activations.sequence_norms / view.activations.n_sequences


@register_unit_score("wanda-sp", of_channels="sum")
def wanda_sp(view: View) -> Float[Tensor, "units width"]:
    """mean_i |W_ij| · ‖x_j‖₂, summed over a unit's channels."""
    return view.per_unit(view.out.double().abs().mean(dim=0) * view.activations.squares.sqrt())


@register_unit_score("flap", of_channels="mean")
def flap(view: View) -> Float[Tensor, "units width"]:
    """Var_t(x_j) · ‖W_:j‖₂²; of a group the mean over its channels, each standardised first where that is asked for.

    The authors' code squares the values of heads once more before it standardises; no equation of the paper says so,
    and it is not done here.
    """
    return view.per_unit(view.activations.variance * view.out.double().square().sum(dim=0))


@register_unit_score("taylor", gradients=True)
def taylor(view: View) -> Float[Tensor, " units"]:
    """Σ |w · ∂L/∂w| over all weights that go with a unit (LLM-Pruner's element¹, summed)."""
    made = (view.makers.double() * view.maker_gradients.double()).abs().sum(dim=1)
    read = (view.out.double() * view.out_gradients.double()).abs().sum(dim=0)
    return made + view.per_unit(read).sum(dim=1)


@register_unit_score("output", moments=True)
def output_energy(view: View) -> Float[Tensor, " units"]:
    """tr(W_k C_k W_kᵀ): the mean square of what a unit adds to its part's output, C_k its channels' second moments."""
    found = []
    for unit, moments in enumerate(view.moments):
        weight = view.out[:, unit * view.width : (unit + 1) * view.width].double()
        found.append((weight @ moments * weight).sum() / view.activations.count)
    return torch.stack(found)
