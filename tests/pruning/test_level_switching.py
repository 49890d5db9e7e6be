"""The search over levels: planted optima that exhaustive search finds, its totals, its rounds, and what it refuses."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from labutils.pruning.level_switching import Levels, count_reads, plan_rounds, search_levels, select

UNITS, K, PARTS = 6, 2, 5


class Planted:
    """A fitness with bumps, on parts that differ: each unit likes a level of its own, and pairs interact."""

    def __init__(self, seed: int):
        draws = random.Random(seed)
        liked = [draws.randint(-K, K) for _ in range(UNITS)]
        bowls = [[(level - own) ** 2 + draws.gauss(0, 0.4) for level in range(-K, K + 1)] for own in liked]
        self.own = [[[value / PARTS + draws.gauss(0, 0.1) for value in bowl] for bowl in bowls] for _ in range(PARTS)]
        self.pairs = [[draws.gauss(0, 0.1) for _ in range(UNITS)] for _ in range(UNITS)]
        self.counted = 0

    def on_part(self, levels: Levels, part: int) -> float:
        alone = sum(self.own[part][unit][level + K] for unit, level in enumerate(levels))
        return alone + sum(self.pairs[a][b] * levels[a] * levels[b] for a in range(UNITS) for b in range(a)) / PARTS

    def whole(self, levels: Levels) -> float:
        return sum(self.on_part(levels, part) for part in range(PARTS))

    def read(self, candidates: Sequence[Levels], parts: Sequence[int]) -> list[float]:
        self.counted += len(candidates) * len(parts)
        return [sum(self.on_part(levels, part) for part in parts) for levels in candidates]

    def search(self, **asked: object):
        asked = {"n_parts": PARTS, "generations": 60, "offspring": 12} | asked
        return search_levels([0] * UNITS, [-K] * UNITS, [K] * UNITS, self.read, **asked)


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_optimum_is_found(seed: int) -> None:
    planted = Planted(seed)
    reachable = [own for own in itertools.product(range(-K, K + 1), repeat=UNITS) if sum(own) == 0]
    optimum = min(reachable, key=planted.whole)
    assert planted.whole(optimum) < planted.whole((0,) * UNITS) - 1
    found = planted.search(seed=seed)
    assert found.levels == optimum
    assert found.path["fitness"].iloc[-1] == pytest.approx(planted.whole(optimum))
    assert planted.counted == PARTS + 60 * count_reads(12, PARTS)


def test_the_path_never_rises_and_tells_what_happened() -> None:
    planted = Planted(9)
    found = planted.search(generations=15, offspring=5)
    path = found.path
    assert path["generation"].tolist() == list(range(16)) and path["tried"].tolist() == [0] + [5] * 15
    assert path["fitness"].iloc[0] == pytest.approx(planted.whole((0,) * UNITS))
    for before, now in itertools.pairwise(path.itertuples()):
        assert now.taken == (now.challenger < before.fitness)
        assert now.fitness == (now.challenger if now.taken else before.fitness)
    assert path["moved"].iloc[-1] == sum(level != 0 for level in found.levels) > 0


def test_the_same_seed_finds_the_same_on_the_same_way() -> None:
    first, again, other = (Planted(4).search(generations=6, seed=seed) for seed in (1, 1, 2))
    assert first.levels == again.levels and first.path.equals(again.path)
    assert not first.path.equals(other.path)


def test_a_start_that_nothing_beats_stays() -> None:
    found = search_levels(
        [0] * 4, [-2] * 4, [2] * 4, lambda own, parts: [sum(map(abs, levels)) for levels in own], generations=20,
        offspring=8,
    )  # fmt: skip
    assert found.levels == (0, 0, 0, 0) and not found.path["taken"].any() and set(found.path["fitness"]) == {0}


def test_only_units_of_one_kind_exchange_levels_and_bounds_hold() -> None:
    kinds, low, high = ["a", "b", "a", "b", "c"], [-1, 0, -3, -2, 0], [2, 1, 0, 2, 4]
    seen: set[Levels] = set()

    def read(candidates: Sequence[Levels], parts: Sequence[int]) -> list[float]:
        seen.update(candidates)
        return [-levels[0] - 2 * levels[1] - 5 * levels[4] for levels in candidates]

    found = search_levels([0] * 5, low, high, read, generations=30, offspring=3, kinds=kinds)
    assert found.levels == (2, 1, -2, -1, 0)
    for levels in seen:
        assert levels[0] + levels[2] == levels[1] + levels[3] == levels[4] == 0
        assert all(a <= level <= b for a, level, b in zip(low, levels, high, strict=True))


@pytest.mark.parametrize(("candidates", "n_parts"), [(16, 8), (64, 64), (7, 3), (1, 5), (5, 1)])
def test_rounds_read_more_of_fewer_and_cost_what_is_told(candidates: int, n_parts: int) -> None:
    rounds = plan_rounds(candidates, n_parts)
    assert rounds[0][0] == candidates and rounds[-1] == (1, n_parts) or candidates == 1
    assert rounds[-1][1] == n_parts and all(a[0] > b[0] and a[1] <= b[1] for a, b in itertools.pairwise(rounds))
    counted: list[tuple[int, int]] = []

    def read(own: Sequence[Levels], parts: Sequence[int]) -> list[float]:
        counted.append((len(own), len(parts)))
        return [float(levels[0] * len(parts)) for levels in own]

    best, value = select([(place,) for place in range(candidates, 0, -1)], range(n_parts), read)
    assert best == (1,) and value == n_parts
    assert sum(a * b for a, b in counted) == count_reads(candidates, n_parts)


def test_a_candidate_that_breaks_is_the_worst_one() -> None:
    best, value = select([(1,), (2,)], [0, 1], lambda own, parts: [math.nan if o == (1,) else 9.0 for o in own])
    assert best == (2,) and value == 18

    def read(candidates: Sequence[Levels], parts: Sequence[int]) -> list[float]:
        return [math.nan if any(levels) else 1.0 for levels in candidates]

    found = search_levels([0, 0], [-1, -1], [1, 1], read, generations=3, offspring=2)
    assert found.levels == (0, 0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"generations": 0}, "generations=0 must be a whole number of at least 1"),
        ({"offspring": True}, "offspring=True must be"),
        ({"n_parts": 0}, "n_parts=0 must be"),
        ({"start": [0, 3]}, "unit 1 starts at level 3, outside its levels -1 to 1"),
        ({"lowest": [0, -1], "highest": [0, 1]}, "No unit can be raised .* nothing to search"),
        ({"kinds": ["a", "b"]}, "No unit can be raised"),
        ({"lowest": [-1]}, "2 units have 1 lowest"),
        ({"kinds": ["a"]}, "1 kinds"),
        ({"read": lambda own, parts: [math.inf]}, "output is not finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(asked: dict, message: str) -> None:
    usual = {"start": [0, 0], "lowest": [-1, -1], "highest": [1, 1], "read": lambda own, parts: [0.0] * len(own)}
    with pytest.raises(ValueError, match=message):
        search_levels(**{**usual, "generations": 2, "offspring": 2, **asked})
