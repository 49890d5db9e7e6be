"""Ranges of the fine-tuning's hyperparameters: the part of a study that each of them holds."""

from collections.abc import Sequence

import pandas as pd

from labutils.adaptation.configurations import Tuning, configuration_table
from labutils.stats.pairing import require_columns


def split_ranges(runs: pd.DataFrame, ranges: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The runs of every range; one run may lie in several.

        split_ranges(runs, ["all:", "usual: 2 <= epochs <= 4"])

    Args:
        runs: `runs` of a study, with the column `finetuning_line`.
        ranges: lines "name: condition", with a condition as for `runs_in_range`.

    Raises:
        LookupError: a missing column. ValueError: a line without a name and a colon, a name that stands twice, or a
            condition that cannot be read.
    """
    named = [tuple(part.strip() for part in line.partition(":")) for line in ranges]
    names = [name for name, _, _ in named]
    if not named or not all(name and colon for name, colon, _ in named) or len(set(names)) < len(names):
        raise ValueError(f"ranges={list(ranges)}: give lines 'name: condition', every name once, such as 'all:'")
    return {name: runs_in_range(runs, condition) for name, _, condition in named}


def runs_in_range(runs: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The runs whose fine-tuning fulfils a condition on its hyperparameters; an empty condition keeps all.

        runs_in_range(runs, "2 <= epochs <= 4 and method == 'full'")

    Args:
        runs: `runs` of a study, with the column `finetuning_line`.
        condition: as for `DataFrame.query`, on method, learning_rate, nth_rate (of its method, 1 is the lowest),
            batch_size, rank and epochs.

    Raises:
        LookupError: a missing column. ValueError: a condition that cannot be read, or names something else.
    """
    require_columns(runs, ["finetuning_line"])
    if not condition:
        return runs
    table = configuration_table(runs["finetuning_line"], Tuning)
    try:
        fulfils = table.eval(condition)
    except (NameError, SyntaxError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(condition, table, str(error)) from error
    if not isinstance(fulfils, pd.Series) or fulfils.dtype != bool:
        raise _unreadable(condition, table, "it is neither true nor false")
    return runs[runs["finetuning_line"].isin(table.index[fulfils])]


def _unreadable(condition: str, table: pd.DataFrame, why: str) -> ValueError:
    return ValueError(
        f"the range {condition!r} cannot be read ({why}); write a condition on {', '.join(table.columns)}, such as "
        "'2 <= epochs <= 4'"
    )
