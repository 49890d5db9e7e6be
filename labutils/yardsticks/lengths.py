"""How long a model goes on, and how often it repeats itself, against the dense model on the same openings."""

from collections.abc import Sequence

import pandas as pd

from labutils.stats.tables import interval_table
from labutils.yardsticks.damage import DENSE

MEASURES = {"tokens": "n_tokens", "repeated runs": "repetition"}


def length_changes(openings: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Damaged minus dense, opening by opening: ``measure, arm, estimate, low, high``.

    >>> length_changes(frames["openings"], ["wanda@0.5"])

    A continuation that does not end by itself is cut off, so that a change of its length is at most what is left.

    Args:
        openings: of `Reader`; "tokens" counts the tokens of a continuation, "repeated runs" the share of its runs of
            three tokens that it had said before.
    """
    dense = openings[openings["arm"] == DENSE].drop(columns=["arm", "draw"])
    pairs = openings[openings["arm"].isin(list(arms))].merge(dense, on=["model", "item"], suffixes=("", "_dense"))
    parts = [
        interval_table(pairs.assign(value=pairs[column] - pairs[f"{column}_dense"]), ["arm"]).assign(measure=measure)
        for measure, column in MEASURES.items()
    ]
    return pd.concat(parts, ignore_index=True)
