"""EvoPress over structures: which blocks go, and how many units each block loses, searched by the output.

The search is `pruning.level_switching`. A block is at level 1 where it is skipped, and at 0 where it stays. Of a
block's units (neurons, groups) a few more or fewer go at each level, the lowest scores first, while all blocks of
equal units together lose what the uniform allocation takes. A unit is gone where the last matrix of its part does not
read it, so that this matrix, made for every level beforehand and repaired as the smaller model's will be, is all that
is exchanged.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labutils.core.options import suggest
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.level_reading import LeveledMatrix, LevelReader, MatrixReader
from labutils.pruning.level_switching import Levels, LevelSearch, SearchOptions, search_levels
from labutils.pruning.registry import check_values, option_names
from labutils.pruning.restoring import WeightSnapshot
from labutils.structured.anatomy import Anatomy
from labutils.structured.repair import channels_of, least_squares, mean_of_removed
from labutils.structured.unit_allocation import Key, Removed, Scores, lowest
from labutils.structured.views import KINDS, Activations, View, make_view, walk_activations


class BlockReader(LevelReader):
    """Units are blocks, which hand on what they read at level 1."""

    def __init__(self, walk: BlockWalk):
        super().__init__(walk, range(len(walk.blocks)))

    def step(self, index: int, part: int, hidden: Float[Tensor, "..."], levels: Levels) -> Float[Tensor, "..."]:
        return hidden if levels[index] else super().step(index, part, hidden, levels)


def search_blocks(
    walk: BlockWalk, start: Sequence[int], *, generations: int, offspring: int, seed: int
) -> tuple[tuple[int, ...], LevelSearch]:
    """As many blocks as in `start` without which the output diverges least, as far as they are found; and the search.

    >>> search_blocks(walk, (2, 3), generations=10, offspring=8, seed=0)[0]
    """
    total, reader = len(walk.blocks), BlockReader(walk)
    levels = [int(block in start) for block in range(total)]
    found = search_levels(
        levels, [0] * total, [1] * total, reader.read, n_parts=reader.n_parts, generations=generations,
        offspring=offspring, seed=seed,
    )  # fmt: skip
    return tuple(block for block, level in enumerate(found.levels) if level), found


@dataclass(frozen=True)
class WidthOptions(SearchOptions):
    """Options of the allocation "evopress" of `shrink`: as in `prune`, and the seed of what is tried."""

    seed: int = 0


def read_width_options(allocation: str, given: Mapping[str, object]) -> WidthOptions | None:
    """The options of a search; None for an allocation that does not search, which has none.

    Raises:
        TypeError: an argument that `shrink` does not have, whatever the allocation.
        ValueError: an option that the allocation does not heed, or a value that cannot be.
    """
    known = option_names(WidthOptions)
    for name in given:
        if name not in known:
            others = ("share", "units", "method", "allocation", "standardise", "repair", "batch_size")
            raise TypeError(f"shrink has no argument {name!r}.{suggest(name, (*others, *known))}")
        if allocation != "evopress":
            raise ValueError(
                f'{name} is an option of allocation="evopress"; the call has allocation={allocation!r}. Leave it out, '
                "or choose that allocation."
            )
    check_values(WidthOptions, given)
    return WidthOptions(**given) if allocation == "evopress" else None


@dataclass(frozen=True)
class Widths:
    """How many units of each part go at its levels.

    Attributes:
        start: at level 0; `step` are added at each further one.
    """

    start: Mapping[Key, int]
    step: Mapping[Key, int]
    lowest: Mapping[Key, int]
    highest: Mapping[Key, int]

    def count(self, key: Key, level: int) -> int:
        return self.start[key] + level * self.step[key]


def plan_widths(
    totals: Mapping[Key, int], costs: Mapping[Key, int], start: Mapping[Key, int], options: WidthOptions
) -> Widths:
    """The levels of every part; those of one kind whose units cost the same have the same step.

    >>> plan_widths({(0, "neurons"): 64, (1, "neurons"): 64}, {(0, "neurons"): 9, (1, "neurons"): 9},
    ...             {(0, "neurons"): 16, (1, "neurons"): 16}, WidthOptions(levels=4)).step[0, "neurons"]
    2

    Args:
        totals: units of every part, of which one must stay.
        costs: parameters of one unit.
        start: units that go at level 0.
    """
    room: dict[tuple[str, int], int] = {}
    for key, total in totals.items():
        alike = key[1], costs[key]
        room[alike] = min(room.get(alike, total), start[key], total - start[key])
    steps = {alike: max(1, round(options.level_range * own / options.levels)) for alike, own in room.items()}
    step = {key: steps[key[1], costs[key]] for key in totals}
    low = {key: -min(options.levels, start[key] // step[key]) for key in totals}
    high = {key: min(options.levels, (total - 1 - start[key]) // step[key]) for key, total in totals.items()}
    return Widths(start, step, low, high)


@torch.no_grad()
def search_widths(
    walk: BlockWalk,
    anatomies: Sequence[Anatomy],
    scores: Scores,
    costs: Mapping[Key, int],
    removed: Removed,
    statistics: Mapping[Key, Activations],
    *,
    repair: str,
    options: WidthOptions,
) -> tuple[Removed, LevelSearch]:
    """Which units go from each part, as many of equal cost as in `removed`; the model stays as it is.

    Args:
        statistics: of the parts' last matrices, for biases.
        repair: as in `shrink`.

    Raises:
        ValueError: no two parts can exchange units.
    """
    keys = sorted(scores)
    totals = {key: len(scores[key]) for key in keys}
    widths = plan_widths(totals, costs, {key: len(removed[key]) for key in keys}, options)
    kinds = list(dict.fromkeys(kind for _, kind in scores))
    fitted = repair == "least-squares"
    read = dict(walk_activations(walk, anatomies, kinds, pairs="all")) if fitted else statistics
    layers = [prunable_layers(walk.block(block))[getattr(anatomies[block], KINDS[kind]).out] for block, kind in keys]
    matrices, biases = [], []
    for key, layer in zip(keys, layers, strict=True):
        view = make_view(walk.block(key[0]), key[0], anatomies[key[0]], key[1], read[key])
        levels = range(widths.lowest[key], widths.highest[key] + 1)
        gone = {level: lowest(scores[key], widths.count(key, level)) for level in levels}
        weight = weight_matrix(layer)
        made = {level: last_matrix(view, units, fitted=fitted).to(weight.dtype) for level, units in gone.items()}
        matrices.append(LeveledMatrix(key[0], weight, made))
        constants = {level: mean_of_removed(view, units).to(weight) for level, units in gone.items()}
        biases.append(constants if repair == "bias" else {})
    with WeightSnapshot(walk.blocks) as dense, ExitStack() as hooks:
        reader = MatrixReader(walk, matrices)
        for unit, layer in enumerate(layers if repair == "bias" else ()):
            hooks.enter_context(layer.register_forward_hook(partial(_add_constant, reader, unit, biases[unit])))
        found = search_levels(
            [0] * len(keys), [widths.lowest[key] for key in keys], [widths.highest[key] for key in keys], reader.read,
            n_parts=reader.n_parts, generations=options.generations, offspring=options.offspring,
            kinds=[(key[1], costs[key]) for key in keys], seed=options.seed,
        )  # fmt: skip
        dense.restore()
    chosen = zip(keys, found.levels, strict=True)
    return {key: lowest(scores[key], widths.count(key, level)) for key, level in chosen}, found


def last_matrix(view: View, removed: Sequence[int], *, fitted: bool) -> Float[Tensor, "hidden channels"]:
    """A part's last matrix when these units are gone, by zeros in their place; `fitted` for least squares."""
    if fitted and removed:
        return least_squares(view, removed)
    return view.out.index_fill(1, channels_of(view, removed), 0)


def _add_constant(
    reader: MatrixReader, unit: int, constants: Mapping[int, Tensor], layer: nn.Module, args: tuple, output: Tensor
) -> Tensor:
    """What a bias would add at the level that the unit has now; nothing to the dense model."""
    level = reader.now[unit]
    return output if level is None else output + constants[level]
