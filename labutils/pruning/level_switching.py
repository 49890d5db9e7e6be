"""Search over levels whose total is fixed, by switching them in pairs: the evolutionary search of EvoPress.

A unit (a matrix, a block) stands at a whole-numbered level, and what one level costs is the same for all units of a
kind. An offspring of the best assignment so far raises one unit by a level and lowers another of its kind by one, once,
twice or thrice, so that every kind keeps its total. Nothing is assumed of the fitness, not even that a unit's error
grows with its level. Offspring are read on few parts of a sample first, and a quarter of them on four times as many,
until one is left, which is read on all of them and replaces its parent only where it is better.

Source: Sieberling, Kuznedelev, Kurtic, Alistarh 2024 (ICML 2025, arXiv 2410.14649): switches in pairs, the minimum of
two draws from 1 to 3 for their number, rounds that cost alike. Theirs draw each round's sample anew, and keep an eighth
at first; here a round reads on, and the last one reads the whole sample, so that what is found never loses to the
start.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labutils.core.progress import progress
from labutils.core.seeding import generator

Levels = tuple[int, ...]
Read = Callable[[Sequence[Levels], Sequence[int]], Sequence[float]]

MOST_SWITCHES = 3
ROUND_FACTOR = 4  # candidates of one round for one of the next, which reads so many times as much
TRIES = 20  # draws for each offspring, where few assignments can be reached


@dataclass(frozen=True)
class SearchOptions:
    """How long is searched, and among which levels.

    Attributes:
        generations, offspring: how many are tried, and how many in each.
        levels: on either side of the uniform share; what a unit is at each of them is kept in memory.
        level_range: how far the outermost are from it in a unit of mean size, as a share of what it loses or, where
            that is less, of what stays.
    """

    generations: int = 50
    offspring: int = 16
    levels: int = 8
    level_range: float = 0.5

    def __post_init__(self) -> None:
        for name in ("generations", "offspring", "levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1.")
        if not 0 < self.level_range <= 1:
            raise ValueError(
                f"level_range={self.level_range!r} must be above 0 and at most 1, where a unit of mean size is whole "
                "or empty at its outermost levels."
            )


@dataclass(frozen=True)
class LevelSearch:
    """What a search found.

    Attributes:
        levels: the best assignment.
        path: one row per generation: generation (0 is the start), fitness of the best assignment after it, tried (how
            many offspring), challenger (fitness of the one that was left), taken, and moved (how many units stand at
            another level than at the start). Fitness is that of the whole sample.
    """

    levels: Levels
    path: pd.DataFrame


def search_levels(
    start: Sequence[int],
    lowest: Sequence[int],
    highest: Sequence[int],
    read: Read,
    *,
    n_parts: int = 1,
    generations: int,
    offspring: int,
    kinds: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> LevelSearch:
    """The best assignment of levels that is found from `start`; no worse than it, and of the same total in every kind.

    >>> cost = lambda levels: sum((level - best) ** 2 for level, best in zip(levels, (2, -1, -1)))
    >>> search_levels(
    ...     [0, 0, 0], [-2] * 3, [2] * 3, lambda found, parts: [cost(levels) for levels in found],
    ...     generations=20, offspring=4,
    ... ).levels
    (2, -1, -1)

    Args:
        lowest, highest: levels that each unit may take.
        read: the fitness of assignments on parts of a sample, lower is better, which adds up over the parts.
        n_parts: of the sample, numbered from 0 on.
        generations, offspring: how many, and how many in each; together the budget of the search.
        kinds: of the units; only those of one kind exchange levels. All are alike by default.
        seed: of the offspring, and of the parts that they are read on.

    Raises:
        ValueError: bounds that do not belong to the units or exclude their start, numbers below 1, no two units that
            can exchange a level, or a start whose fitness is not finite.
    """
    units = _check(start, lowest, highest, kinds, n_parts=n_parts, generations=generations, offspring=offspring)
    first = best = tuple(start)
    (fitness,) = read([best], range(n_parts))
    if not math.isfinite(fitness):
        raise ValueError(
            f"The search starts from a model whose output is not finite (fitness {fitness}). Load the model in "
            "float32, ask for less sparsity, or give another calibration."
        )
    rows = [(0, fitness, 0, float("nan"), False, 0)]
    draws = generator(seed, "level switching")
    for number in progress(range(1, generations + 1), description="search levels", unit="generation"):
        children = draw_offspring(best, lowest, highest, units, offspring, draws)
        challenger, value = select(children, draws.permutation(n_parts).tolist(), read)
        taken = value < fitness
        best, fitness = (challenger, value) if taken else (best, fitness)
        moved = sum(level != old for level, old in zip(best, first, strict=True))
        rows.append((number, fitness, len(children), value, taken, moved))
    columns = ["generation", "fitness", "tried", "challenger", "taken", "moved"]
    return LevelSearch(best, pd.DataFrame(rows, columns=columns))


def draw_offspring(
    parent: Levels,
    lowest: Sequence[int],
    highest: Sequence[int],
    kinds: Sequence[Hashable],
    number: int,
    draws: np.random.Generator,
) -> list[Levels]:
    """So many distinct assignments of the same total in every kind, by one to three switches each.

    Fewer, where there are not so many around the parent; at least one, where any two units can exchange a level.
    """
    found: dict[Levels, None] = {}
    for _ in range(TRIES * number):
        child = list(parent)
        for _ in range(int(draws.integers(1, MOST_SWITCHES + 1, size=2).min())):
            _switch(child, lowest, highest, kinds, draws)
        if tuple(child) != parent:
            found[tuple(child)] = None
        if len(found) == number:
            break
    return list(found)


def _switch(
    levels: list[int],
    lowest: Sequence[int],
    highest: Sequence[int],
    kinds: Sequence[Hashable],
    draws: np.random.Generator,
) -> None:
    """Raise one unit by a level and lower another of its kind by one, in place; nothing where no two can."""
    if partners := _partners(levels, lowest, highest, kinds):
        raised = list(partners)[draws.integers(len(partners))]
        levels[partners[raised][draws.integers(len(partners[raised]))]] -= 1
        levels[raised] += 1


def _partners(
    levels: Sequence[int], lowest: Sequence[int], highest: Sequence[int], kinds: Sequence[Hashable]
) -> dict[int, list[int]]:
    """Of every unit that can rise those of its kind that can fall in exchange, where there are any."""
    units = range(len(levels))
    falling = [unit for unit in units if levels[unit] > lowest[unit]]
    found = {
        unit: [other for other in falling if other != unit and kinds[other] == kinds[unit]]
        for unit in units
        if levels[unit] < highest[unit]
    }
    return {unit: own for unit, own in found.items() if own}


def plan_rounds(candidates: int, n_parts: int) -> list[tuple[int, int]]:
    """Per round, how many candidates enter it and how many parts they have been read on at its end.

    >>> plan_rounds(16, 8)
    [(16, 1), (4, 2), (1, 8)]
    """
    entering = [candidates]
    while entering[-1] > 1:
        entering.append(math.ceil(entering[-1] / ROUND_FACTOR))
    last = len(entering) - 1
    return [(count, math.ceil(n_parts / ROUND_FACTOR ** (last - place))) for place, count in enumerate(entering)]


def count_reads(candidates: int, n_parts: int) -> int:
    """Parts that the rounds of one generation read, over all its candidates.

    >>> count_reads(16, 8)
    26
    """
    total = seen = 0
    for count, parts in plan_rounds(candidates, n_parts):
        total, seen = total + count * (parts - seen), parts
    return total


def select(children: Sequence[Levels], parts: Sequence[int], read: Read) -> tuple[Levels, float]:
    """The candidate that is left after all rounds, and its fitness on all parts; of equal ones the first."""
    alive, seen = dict.fromkeys(children, 0.0), 0
    for count, until in plan_rounds(len(children), len(parts)):
        alive = dict(sorted(alive.items(), key=lambda item: item[1])[:count])
        if until > seen:
            values = read(list(alive), parts[seen:until])
            known = zip(alive.items(), values, strict=True)
            alive = {levels: _or_worst(before + value) for (levels, before), value in known}
        seen = until
    return min(alive.items(), key=lambda item: item[1])


def _or_worst(fitness: float) -> float:
    return fitness if math.isfinite(fitness) else math.inf


def _check(
    start: Sequence[int], lowest: Sequence[int], highest: Sequence[int], kinds: Sequence[Hashable] | None,
    **numbers: int,
) -> Sequence[Hashable]:  # fmt: skip
    """The kinds; a ValueError for what cannot be searched."""
    kinds = [None] * len(start) if kinds is None else kinds
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r} must be a whole number of at least 1.")
    if not len(start) == len(lowest) == len(highest) == len(kinds):
        raise ValueError(
            f"{len(start)} units have {len(lowest)} lowest and {len(highest)} highest levels and {len(kinds)} kinds; "
            "give one of each to every unit."
        )
    for unit, (low, level, high) in enumerate(zip(lowest, start, highest, strict=True)):
        if not low <= level <= high:
            raise ValueError(f"unit {unit} starts at level {level}, outside its levels {low} to {high}.")
    if not _partners(start, lowest, highest, kinds):
        raise ValueError(
            "No unit can be raised by a level while another of its kind is lowered, so there is nothing to search. Ask "
            "for more or less to go, for other levels, or for the uniform allocation."
        )
    return kinds
