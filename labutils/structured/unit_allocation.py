"""How many units each block loses: equally many, those that score lowest over all blocks, or what a search finds."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Key = tuple[int, str]  # a block, and "neurons" or "groups"
Scores = Mapping[Key, Float[Tensor, " units"]]
Removed = dict[Key, list[int]]
Numbers = Mapping[str, Sequence[int]]  # of units of a kind that may go from every block; any where it is not named


def uniform(scores: Scores, costs: Mapping[Key, int], budget: float, may_go: Numbers | None = None) -> Removed:
    """The same number of each kind from every block, the lowest scores of each; of equal ones the lower number.

    Every kind loses the same share of its units. Groups are few, so their number is rounded first, and neurons make up
    for it.

    Args:
        costs: parameters of one unit.
        budget: parameters that shall go.
        may_go: numbers of units of a kind that a configuration can lack; the nearest is taken.
    """
    kinds = list(dict.fromkeys(kind for _, kind in scores))
    whole = {kind: sum(len(own) * costs[key] for key, own in scores.items() if key[1] == kind) for kind in kinds}
    left, removed = budget, {}
    for kind in sorted(kinds, key=lambda kind: kind == "neurons"):
        keys = [key for key in scores if key[1] == kind]
        count = min(len(scores[key]) for key in keys)
        remaining = sum(whole[other] for other in kinds if other not in {key[1] for key in removed})
        wanted = left * whole[kind] / remaining / sum(costs[key] for key in keys)
        allowed = (may_go or {}).get(kind, range(count))
        number = min((n for n in allowed if n < count), key=lambda n: (abs(n - wanted), n % 2, n))
        for key in keys:
            removed[key] = lowest(scores[key], number)
            left -= number * costs[key]
    return removed


def overall(scores: Scores, costs: Mapping[Key, int], budget: float, may_go: Numbers | None = None) -> Removed:
    """The lowest scores of all blocks and kinds, until what they cost is nearest to the budget.

    Every block keeps at least one unit of each kind. Blocks lose unequally many, and are padded to a width that there
    can be, so that `may_go` changes nothing here.
    """
    order = sorted((value, key, unit) for key, own in scores.items() for unit, value in enumerate(own.tolist()))
    removed: Removed = {key: [] for key in scores}
    spent = 0
    for _, key, unit in order:
        if len(removed[key]) == len(scores[key]) - 1:
            continue
        if abs(spent + costs[key] - budget) > abs(spent - budget):
            break
        removed[key].append(unit)
        spent += costs[key]
    return {key: sorted(units) for key, units in removed.items()}


ALLOCATIONS: dict[str, Callable[[Scores, Mapping[Key, int], float, Numbers | None], Removed]] = {
    "uniform": uniform,
    "global": overall,
    "evopress": uniform,  # where its search begins
}


def lowest(scores: Float[Tensor, " units"], number: int) -> list[int]:
    """The units with the lowest scores, in ascending order; of equal ones the lower number."""
    return sorted(torch.sort(scores, stable=True).indices[:number].tolist())
