"""What all ways of taking units out have in common: what may be asked for, what goes, and what is told afterwards."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel

from labutils.structured.anatomy import Anatomy
from labutils.structured.removal import Removal
from labutils.structured.report import ShrinkReport, count_all, count_blocks
from labutils.structured.surgery import expressible_groups
from labutils.structured.unit_allocation import Key, Removed
from labutils.structured.views import KINDS


def check_request(share: object, units: Sequence[str]) -> None:
    """ValueError unless a share lies between 0 and 1 and the units are one or both kinds."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"share={share!r} must lie between 0 and 1: 0.2 takes a fifth of the blocks' parameters.")
    if isinstance(units, str) or not units or set(units) - set(KINDS):
        raise ValueError(f"units={units!r} must be a list of one or both of {', '.join(KINDS)}.")


def check_parts(model: PreTrainedModel, anatomies: Sequence[Anatomy], kinds: Sequence[str]) -> None:
    """LookupError where a block has not all kinds of units."""
    for kind in kinds:
        missing = [index for index, anatomy in enumerate(anatomies) if getattr(anatomy, KINDS[kind]) is None]
        if missing:
            other = " Experts go by `drop_experts`." if anatomies[missing[0]].experts else ""
            raise LookupError(f"block {missing[0]} of a {type(model).__name__} has no {kind} to take out.{other}")


def group_numbers(model: PreTrainedModel, anatomies: Sequence[Anatomy]) -> list[int]:
    """Numbers of key-value groups that the configuration can express, in ascending order; the last is what it has.

    Raises:
        LookupError: there is no other number than that.
    """
    found = expressible_groups(model, anatomies)
    if len(found) < 2:
        raise LookupError(
            f"{type(model.config).__name__} can express no other number of key-value groups than the {found[-1]} that "
            'this model has. Take out neurons (units=["neurons"]) or whole blocks.'
        )
    return found


def check_budget(counts: Mapping[Key, int], costs: Mapping[Key, int], budget: float, share: float) -> None:
    """ValueError for more than these units have when every block keeps one of each kind."""
    most = sum((count - 1) * costs[key] for key, count in counts.items())
    if budget > most:
        whole = budget / share
        raise ValueError(
            f"share={share} asks for more than these units have: at most {most / whole:.2f} of the blocks' parameters "
            "can go with them when every block keeps one of each kind. Ask for less, or for both kinds."
        )


def check_any(removed: Removed, share: float, kinds: Sequence[str], groups: Sequence[int] = ()) -> None:
    """ValueError where nothing would go."""
    if not any(removed.values()):
        left = ", ".join(map(str, groups))
        told = f" The configuration can express {left} groups in a block." if groups else ""
        raise ValueError(f"share={share} is too little for any of the {' or '.join(kinds)} to go.{told} Ask for more.")


def as_removal(removed: Removed) -> Removal:
    """The units that go, as surgery takes them."""
    parts = {kind: {block: tuple(own) for (block, of), own in removed.items() if of == kind} for kind in KINDS}
    return Removal(neurons=parts["neurons"], groups=parts["groups"])


def padded_groups(removal: Removal, anatomies: Sequence[Anatomy], groups: Sequence[int]) -> int | None:
    """The number of groups that every block gets: the next one that there can be above the widest block's."""
    if not any(removal.groups.values()):
        return None
    own = range(len(anatomies))
    widest = max(anatomies[block].attention.n_groups - len(removal.groups.get(block, ())) for block in own)
    return min(count for count in groups if count >= widest)


def report_units(
    model: PreTrainedModel,
    smaller: PreTrainedModel,
    removed: Removed,
    costs: Mapping[Key, int],
    scores: Mapping[Key, Tensor],
    asked: dict[str, object],
) -> ShrinkReport:
    """The report, still without widths and seconds."""
    rows = [
        (*key, unit, value, unit in removed[key])
        for key, own in scores.items()
        for unit, value in enumerate(own.tolist())
    ]
    before, after, whole = count_all(model), count_all(smaller), count_blocks(model)
    gone = sum(len(units) * costs[key] for key, units in removed.items()) / whole
    table = pd.DataFrame(rows, columns=["block", "kind", "unit", "score", "removed"])
    return ShrinkReport(as_removal(removed), table, before, after, gone, (before - after) / whole, {}, asked)
