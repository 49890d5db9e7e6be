"""Which blocks to drop: ways to choose, by name."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from labutils.models.structure import check_causal
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.level_switching import LevelSearch
from labutils.pruning.registry import Registry
from labutils.structured.anatomy import read_anatomies
from labutils.structured.evopress import search_blocks
from labutils.structured.paths import Paths
from labutils.structured.search import Search, greedy_search
from labutils.structured.similarity import angular_distances, read_profile


@dataclass(frozen=True)
class Choice:
    """Blocks that go, and what decided.

    Attributes:
        blocks: in ascending order.
        table: one row per candidate: what was compared.
        search: where candidates were tried out.
    """

    blocks: tuple[int, ...]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    search: Search | LevelSearch | None = None


@dataclass(frozen=True)
class DepthOptions:
    """Options of the ways to choose.

    Attributes:
        spare_ends: `greedy` never takes the first or the last block that is left, as SLEB.
        race: see `greedy_search`.
        generations, offspring, seed: of `evopress`, see `search_levels`.
    """

    spare_ends: bool = True
    race: float | int = 5.0
    generations: int = 20
    offspring: int = 16
    seed: int = 0


Chooser = Callable[[BlockWalk | int, int, DepthOptions], Choice]


@dataclass(frozen=True)
class Depth:
    """A way to choose blocks.

    Attributes:
        chooser: gets the walk over the calibration, how many blocks go, and the options; where `reads_texts` is False
            the number of all blocks in place of the walk.
        options: those that it heeds, by their names in `DepthOptions`.
    """

    chooser: Chooser
    reads_texts: bool = True
    options: tuple[str, ...] = ()


DEPTH: Registry[Depth] = Registry("way to choose blocks")


def register_depth(
    name: str, *, reads_texts: bool = True, options: tuple[str, ...] = ()
) -> Callable[[Chooser], Chooser]:
    """Register a way to choose blocks; `drop_blocks` takes its name from then on.

    >>> @register_depth("every second", reads_texts=False)
    ... def every_second(total, n_blocks, options):
    ...     return lab.structured.Choice(tuple(range(1, 2 * n_blocks, 2)))

    Args:
        reads_texts, options: as in `Depth`.
    """

    def add(chooser: Chooser) -> Chooser:
        DEPTH.add(name, Depth(chooser, reads_texts, options))
        return chooser

    return add


@register_depth("angular")
def by_angle(walk: BlockWalk, n_blocks: int, options: DepthOptions) -> Choice:
    """The run of n blocks that turns the last token's state least (Deeper Layers; LLM-Streamline)."""
    distances = angular_distances(read_profile(walk).last, n_blocks)
    first = int(distances.argmin())
    table = pd.DataFrame({"first block": range(len(distances)), "angular distance": distances.tolist()})
    return Choice(tuple(range(first, first + n_blocks)), table)


@register_depth("influence")
def by_influence(walk: BlockWalk, n_blocks: int, options: DepthOptions) -> Choice:
    """The n blocks of least influence, 1 − mean cosine of what enters and leaves, all at once (ShortGPT)."""
    influence = read_profile(walk).influence.tolist()
    order = sorted(range(len(influence)), key=influence.__getitem__)  # of equal ones the lower number
    return Choice(tuple(sorted(order[:n_blocks])), pd.DataFrame({"block": range(len(order)), "influence": influence}))


@register_depth("greedy", options=("spare_ends", "race"))
def by_loss(walk: BlockWalk, n_blocks: int, options: DepthOptions) -> Choice:
    """One by one the block whose absence raises the loss least (SLEB)."""
    check_causal(walk.model, "a search by the loss")
    paths = Paths(walk, read_anatomies(walk.model))
    units = [(block, "block") for block in range(len(walk.blocks))]
    options_of_search = {"spare_ends": options.spare_ends, "race": options.race, "steps": n_blocks}
    search = greedy_search(paths, units, lambda removed, unit: len(removed) < n_blocks, **options_of_search)
    return Choice(tuple(sorted(block for block, _ in search.removed)), search.history, search)


@register_depth("evopress", options=("generations", "offspring", "seed"))
def by_switching(walk: BlockWalk, n_blocks: int, options: DepthOptions) -> Choice:
    """Those that a search finds for the least divergence of the output, from the choice by angle on (EvoPress)."""
    start = by_angle(walk, n_blocks, options).blocks
    blocks, search = search_blocks(
        walk, start, generations=options.generations, offspring=options.offspring, seed=options.seed
    )
    return Choice(blocks, search.path, search)


@register_depth("deepest", reads_texts=False)
def deepest(total: int, n_blocks: int, options: DepthOptions) -> Choice:
    """The n deepest blocks but the last, which stays (the simple rule of Deeper Layers)."""
    return Choice(tuple(range(total - 1 - n_blocks, total - 1)))


@register_depth("shallowest", reads_texts=False)
def shallowest(total: int, n_blocks: int, options: DepthOptions) -> Choice:
    """The first n blocks: what the deepest are compared with."""
    return Choice(tuple(range(n_blocks)))
