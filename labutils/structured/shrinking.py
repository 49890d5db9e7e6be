"""`shrink`: width pruning by a name."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.core.options import suggest
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.models.wrappers import bare_model
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.inputs import Calibration
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.gradients import matrix_gradients
from labutils.structured.removal import Removal
from labutils.structured.repair import least_squares, mean_of_removed
from labutils.structured.report import ShrinkReport, Smaller, count_all, count_blocks
from labutils.structured.surgery import carve, plan_surgery
from labutils.structured.unit_allocation import ALLOCATIONS, Key, Removed, standardised
from labutils.structured.unit_scores import UNIT_SCORES, UnitScore
from labutils.structured.views import KINDS, View, make_view, read_activations

REPAIRS = ("none", "bias", "least-squares")


@dataclass(frozen=True)
class Recipe:
    """How a published method scores, allocates, and makes up for what goes."""

    allocation: str = "uniform"
    standardise: bool = False
    repair: str = "none"


RECIPES = {"flap": Recipe("global", True, "bias"), "output": Recipe(repair="least-squares")}


def shrink(
    model: nn.Module,
    calibration: Calibration,
    *,
    share: float,
    units: Sequence[str] = ("neurons",),
    method: str = "output",
    allocation: str | None = None,
    standardise: bool | None = None,
    repair: str | None = None,
    batch_size: int = 8,
) -> Smaller:
    """A narrower model, without some of its neurons or groups of heads; the dense one stays as it is.

    >>> smaller, report = lab.shrink(model, tokens, share=0.2)
    >>> smaller.save_pretrained("smaller")  # a plain folder: AutoModelForCausalLM.from_pretrained("smaller")

    All units are scored on one pass of the dense model. A configuration has one width for all blocks: where blocks lose
    unequally many units, they are padded with zeros to the widest, and the report tells what was really saved.

    Args:
        calibration: as in `prune`.
        share: of the blocks' parameters that goes with the removed units.
        units: "neurons" of the feed-forward parts, "groups" (key-value heads with all their query heads), or both.
        method: "output" (energy of what a unit adds to its part's output), "flap", "wanda-sp", "minitron", "taylor"
            (LLM-Pruner), "magnitude", or a score that was registered.
        allocation: "uniform" (equally many per block) or "global" (the lowest of all). Default: the method's own, which
            is global for "flap" and uniform for the others.
        standardise: compare scores in standard deviations of their own kind and block. Default: True for "flap".
        repair: "none"; "bias", the mean of what removed units put out, where the architecture can have a bias there; or
            "least-squares", other weights for the units that stay. Default: "bias" for "flap", "least-squares" for
            "output", none for the others.

    Raises:
        ValueError: a share outside (0, 1) or more than these units have, unknown units or repairs.
        LookupError: an unknown method or allocation; or an architecture that cannot express it.
    """
    started, model = time.perf_counter(), bare_model(model)
    score, recipe = _recipe(method, allocation, standardise, repair)
    _check(share, units)
    anatomies, blocks = read_anatomies(model), find_blocks(model)[1]
    kinds = [kind for kind in KINDS if kind in units]
    _check_parts(model, anatomies, kinds)
    biases = frozenset(KINDS[kind] for kind in kinds) if recipe.repair == "bias" else frozenset()
    plan_surgery(model, Removal(), anatomies, biases=biases)  # refuses a bias that cannot be expressed
    walk = BlockWalk(model, calibration, batch_size=batch_size)
    activations = read_activations(walk, anatomies, kinds, gram=score.gram or recipe.repair == "least-squares")
    gradients = matrix_gradients(model, calibration, batch_size=batch_size) if score.gradients else None
    views = {
        key: make_view(blocks[key[0]], key[0], anatomies[key[0]], key[1], own, gradients and gradients[key[0]])
        for key, own in activations.items()
    }
    budget = share * count_blocks(model)
    _check_budget(views, budget, share)
    scores = {key: score.function(view).double() for key, view in views.items()}
    compared = {key: standardised(own) for key, own in scores.items()} if recipe.standardise else scores
    removed = ALLOCATIONS[recipe.allocation](compared, {key: view.cost for key, view in views.items()}, budget)
    removal = _removal(removed)
    smaller = carve(model, removal, anatomies, biases=biases)
    _repair(smaller, views, removed, anatomies, recipe.repair)
    asked = {"method": method, "share": share, "units": tuple(kinds), **vars(recipe)}
    report = _report(model, smaller, removal, views, compared, removed, asked)
    widths = plan_surgery(model, removal, anatomies, biases=biases).widths
    return Smaller(smaller, replace(report, widths=widths, seconds=time.perf_counter() - started))


def _recipe(
    method: str, allocation: str | None, standardise: bool | None, repair: str | None
) -> tuple[UnitScore, Recipe]:
    score, own = UNIT_SCORES[method], RECIPES.get(method, Recipe())
    made = Recipe(
        own.allocation if allocation is None else allocation,
        own.standardise if standardise is None else standardise,
        own.repair if repair is None else repair,
    )
    if made.allocation not in ALLOCATIONS:
        hint = suggest(str(made.allocation), ALLOCATIONS)
        known = ", ".join(ALLOCATIONS)
        raise LookupError(f"there is no allocation {made.allocation!r} of units.{hint} Known: {known}.")
    if made.repair not in REPAIRS:
        raise ValueError(f"repair={made.repair!r} must be one of {', '.join(REPAIRS)}.")
    if not isinstance(made.standardise, bool):
        raise ValueError(f"standardise={made.standardise!r} must be True or False.")
    return score, made


def _check(share: object, units: Sequence[str]) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"share={share!r} must lie between 0 and 1: 0.2 takes a fifth of the blocks' parameters.")
    if isinstance(units, str) or not units or set(units) - set(KINDS):
        raise ValueError(f"units={units!r} must be a list of one or both of {', '.join(KINDS)}.")


def _check_parts(model: PreTrainedModel, anatomies: Sequence[Anatomy], kinds: Sequence[str]) -> None:
    for kind in kinds:
        missing = [index for index, anatomy in enumerate(anatomies) if getattr(anatomy, KINDS[kind]) is None]
        if missing:
            other = " Experts go by `drop_experts`." if anatomies[missing[0]].experts else ""
            raise LookupError(f"block {missing[0]} of a {type(model).__name__} has no {kind} to take out.{other}")


def _check_budget(views: dict[Key, View], budget: float, share: float) -> None:
    most = sum((view.count - 1) * view.cost for view in views.values())
    if budget > most:
        whole = budget / share
        raise ValueError(
            f"share={share} asks for more than these units have: at most {most / whole:.2f} of the blocks' parameters "
            "can go with them when every block keeps one of each kind. Ask for less, or for both kinds."
        )


def _removal(removed: Removed) -> Removal:
    parts = {kind: {block: tuple(own) for (block, of), own in removed.items() if of == kind} for kind in KINDS}
    return Removal(neurons=parts["neurons"], groups=parts["groups"])


@torch.no_grad()
def _repair(
    smaller: PreTrainedModel, views: dict[Key, View], removed: Removed, anatomies: Sequence[Anatomy], repair: str
) -> None:
    """Change the last matrices of the smaller model, whose units stand in the order in which they stayed."""
    blocks = find_blocks(smaller)[1]
    for (index, kind), view in views.items():
        units = removed[index, kind]
        if not units or repair == "none":
            continue
        layer = prunable_layers(blocks[index])[getattr(anatomies[index], KINDS[kind]).out]
        if repair == "bias":
            layer.bias += mean_of_removed(view, units).to(layer.bias)
        else:
            kept = _kept_channels(view, units)
            weight = weight_matrix(layer)
            weight[:, : len(kept)] = least_squares(view, units)[:, kept].to(weight)


def _kept_channels(view: View, removed: Sequence[int]) -> Tensor:
    units = torch.tensor([unit for unit in range(view.count) if unit not in set(removed)])
    return (units[:, None] * view.width + torch.arange(view.width)).flatten()


def _report(
    model: PreTrainedModel,
    smaller: PreTrainedModel,
    removal: Removal,
    views: dict[Key, View],
    scores: dict[Key, Tensor],
    removed: Removed,
    asked: dict[str, object],
) -> ShrinkReport:
    rows = [
        (*key, unit, value, unit in removed[key])
        for key, own in scores.items()
        for unit, value in enumerate(own.tolist())
    ]
    before, after, whole = count_all(model), count_all(smaller), count_blocks(model)
    gone = sum(len(units) * views[key].cost for key, units in removed.items()) / whole
    table = pd.DataFrame(rows, columns=["block", "kind", "unit", "score", "removed"])
    return ShrinkReport(removal, table, before, after, gone, (before - after) / whole, {}, asked)
