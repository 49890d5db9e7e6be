"""What a smaller model has lost, and how it was chosen."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from transformers import PreTrainedModel

from labutils.models.structure import find_blocks
from labutils.pruning.level_switching import LevelSearch
from labutils.structured.removal import Removal
from labutils.structured.search import Search


@dataclass(frozen=True)
class ShrinkReport:
    """How a smaller model was made.

    Attributes:
        removal: what was taken out, by its numbers in the dense model.
        table: what decided: one row per candidate.
        parameters_before, parameters_after: of the whole model, tied ones once; what a file or a computer holds.
        removed_share: of the parameters of all blocks, those of the units that do nothing any more; where units were
            padded or set to zero it is more than what was saved.
        saved_share: of the parameters of all blocks, those that are no longer there.
        widths: neurons, groups and experts of every block afterwards; None where they stayed as they were.
        options: what was asked for.
        seconds: of the whole, surgery and proof included.
        search: where candidates were tried out by the loss or, with a `path`, by the divergence of the output.
    """

    removal: Removal
    table: pd.DataFrame
    parameters_before: int
    parameters_after: int
    removed_share: float
    saved_share: float
    widths: dict[str, int | None]
    options: dict[str, object]
    seconds: float = float("nan")
    search: Search | LevelSearch | None = field(default=None, repr=False)


class Smaller(NamedTuple):
    """A smaller model, of its own memory, and how it was made."""

    model: PreTrainedModel
    report: ShrinkReport


def count_blocks(model: PreTrainedModel) -> int:
    """Parameters of all blocks together."""
    return sum(parameter.numel() for parameter in find_blocks(model)[1].parameters())


def count_all(model: PreTrainedModel) -> int:
    """Parameters of a model; tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
