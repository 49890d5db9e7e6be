"""`shrink`: width pruning by a name."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.core.options import suggest
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.models.wrappers import bare_model
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.inputs import Calibration
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.evopress import read_width_options, search_widths
from labutils.structured.gradients import matrix_gradients
from labutils.structured.removal import Removal
from labutils.structured.repair import least_squares, mean_of_removed
from labutils.structured.report import Smaller, count_blocks
from labutils.structured.surgery import carve, plan_surgery
from labutils.structured.unit_allocation import ALLOCATIONS, Key, Removed
from labutils.structured.unit_scores import UNIT_SCORES, UnitScore
from labutils.structured.views import KINDS, Activations, View, make_view, walk_activations
from labutils.structured.width import (
    as_removal,
    check_any,
    check_budget,
    check_parts,
    check_request,
    group_numbers,
    padded_groups,
    report_units,
)

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
    **options: object,
) -> Smaller:
    """A narrower model, without some of its neurons or groups of heads; the dense one stays as it is.

    >>> smaller, report = lab.shrink(model, tokens, share=0.2)
    >>> smaller.save_pretrained("smaller")  # a plain folder: AutoModelForCausalLM.from_pretrained("smaller")

    Units are scored block by block, on one pass of the dense model; least squares read a second one. A configuration
    has one width for all blocks: where blocks lose unequally many units, they are padded with zeros to the widest, and
    the report tells what was really saved. Groups go in numbers that the configuration can express
    (`labutils.structured.expressible_groups`): with "uniform" the nearest, so that of few groups often none goes where
    neurons can make up for it; with "global" blocks are padded to the next.

    Args:
        calibration: as in `prune`.
        share: of the blocks' parameters that goes with the removed units.
        units: "neurons" of the feed-forward parts, "groups" (key-value heads with all their query heads), or both.
        method: "output" (energy of what a unit adds to its part's output), "flap", "wanda-sp", "minitron", "2ssp"
            (neurons only), "taylor" (LLM-Pruner), "magnitude", or a score that was registered.
        allocation: "uniform" (equally many per block), "global" (the lowest of all), or "evopress" (the lowest of each
            block, how many being searched from uniform on for the least divergence of the output, the total kept).
            Default: the method's own, which is global for "flap" and uniform for the others.
        standardise: compare scores in standard deviations of their own kind and block; of scores of channels these,
            before they are averaged over a unit. Default: True for "flap".
        repair: "none"; "bias", the mean of what removed units put out, where the architecture can have a bias there; or
            "least-squares", other weights for the units that stay. Default: "bias" for "flap", "least-squares" for
            "output", none for the others.
        **options: of "evopress": `generations`, `offspring`, `levels` and `level_range` as in `prune`, and `seed`.

    Raises:
        ValueError: a share outside (0, 1), more than these units have, or too little for any; unknown units or
            repairs or options; a score that is not finite.
        LookupError: an unknown method or allocation, units that the score is not defined for; or an architecture that
            cannot express it, which is told before anything runs.
    """
    started, model = time.perf_counter(), bare_model(model)
    score, recipe = read_recipe(method, allocation, standardise, repair)
    searched, search = read_width_options(recipe.allocation, options), None
    check_request(share, units)
    anatomies, blocks = read_anatomies(model), find_blocks(model)[1]
    kinds, biases, groups = check_architecture(model, anatomies, units, method, recipe)
    walk = BlockWalk(model, calibration, batch_size=batch_size)
    gradients = matrix_gradients(model, calibration, batch_size=batch_size) if score.gradients else None
    scores, costs, statistics = {}, {}, {}
    for key, own in walk_activations(walk, anatomies, kinds, pairs="unit" if score.moments else "none"):
        view = make_view(blocks[key[0]], key[0], anatomies[key[0]], key[1], own, gradients and gradients[key[0]])
        scores[key] = score.of_units(view, standardise=recipe.standardise)
        costs[key], statistics[key] = view.cost, replace(own, products=0.0)
    budget = share * count_blocks(model)
    check_budget({key: len(own) for key, own in scores.items()}, costs, budget, share)
    may_go = {"groups": [groups[-1] - left for left in groups]} if groups else None
    removed = ALLOCATIONS[recipe.allocation](scores, costs, budget, may_go)
    check_any(removed, share, kinds, groups)
    if searched:
        removed, search = search_widths(
            walk, anatomies, scores, costs, removed, statistics, repair=recipe.repair, options=searched
        )
    removal = as_removal(removed)
    padded = padded_groups(removal, anatomies, groups)
    smaller = carve(model, removal, anatomies, biases=biases, n_groups=padded)
    if recipe.repair == "bias":
        _add_biases(smaller, model, statistics, removed, anatomies)
    elif recipe.repair == "least-squares":
        _fit(smaller, walk, removed, anatomies, kinds)
    asked = {
        "method": method,
        "share": share,
        "units": tuple(kinds),
        **vars(recipe),
        **(vars(searched) if searched else {}),
    }
    report = report_units(model, smaller, removed, costs, scores, asked)
    widths = plan_surgery(model, removal, anatomies, biases=biases, n_groups=padded).widths
    return Smaller(smaller, replace(report, widths=widths, search=search, seconds=time.perf_counter() - started))


def check_architecture(
    model: PreTrainedModel, anatomies: Sequence[Anatomy], units: Sequence[str], method: str, recipe: Recipe
) -> tuple[list[str], frozenset[str], list[int]]:
    """The kinds of units in their order, the parts that get a bias, and the numbers of groups that there can be.

    Raises:
        LookupError: blocks without such units, a score that is not defined for them, or a configuration that cannot
            express it.
    """
    kinds = [kind for kind in KINDS if kind in units]
    check_parts(model, anatomies, kinds)
    known = UNIT_SCORES[method].kinds
    if missing := [kind for kind in kinds if kind not in known]:
        raise LookupError(f"method={method!r} scores {', '.join(known)}, not {missing[0]}.")
    biases = frozenset(KINDS[kind] for kind in kinds) if recipe.repair == "bias" else frozenset()
    plan_surgery(model, Removal(), anatomies, biases=biases)  # refuses a bias that cannot be expressed
    return kinds, biases, group_numbers(model, anatomies) if "groups" in kinds else []


def read_recipe(
    method: str, allocation: str | None, standardise: bool | None, repair: str | None
) -> tuple[UnitScore, Recipe]:
    """A score, and its method's own recipe but for what is given; ValueError and LookupError as `shrink`."""
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


@torch.no_grad()
def _add_biases(
    smaller: PreTrainedModel,
    model: PreTrainedModel,
    statistics: dict[Key, Activations],
    removed: Removed,
    anatomies: Sequence[Anatomy],
) -> None:
    """Add to the biases of the smaller model's last matrices the mean of what removed units put out."""
    blocks, dense = find_blocks(smaller)[1], find_blocks(model)[1]
    for (index, kind), own in statistics.items():
        if units := removed[index, kind]:
            layer = prunable_layers(blocks[index])[getattr(anatomies[index], KINDS[kind]).out]
            view = make_view(dense[index], index, anatomies[index], kind, own)
            layer.bias += mean_of_removed(view, units).to(layer.bias)


@torch.no_grad()
def _fit(
    smaller: PreTrainedModel, walk: BlockWalk, removed: Removed, anatomies: Sequence[Anatomy], kinds: Sequence[str]
) -> None:
    """Change the last matrices of the smaller model, whose units stand in the order in which they stayed."""
    blocks = find_blocks(smaller)[1]
    for (index, kind), own in walk_activations(walk, anatomies, kinds, pairs="all"):
        if units := removed[index, kind]:
            view = make_view(walk.block(index), index, anatomies[index], kind, own)
            kept = _kept_channels(view, units)
            weight = weight_matrix(prunable_layers(blocks[index])[getattr(anatomies[index], KINDS[kind]).out])
            weight[:, : len(kept)] = least_squares(view, units)[:, kept].to(weight)


def _kept_channels(view: View, removed: Sequence[int]) -> Tensor:
    units = torch.tensor([unit for unit in range(view.count) if unit not in set(removed)])
    return (units[:, None] * view.width + torch.arange(view.width)).flatten()
