"""How long a model goes on, and how often it repeats itself, against the dense model on the same openings."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from labutils.stats.bootstrap import Interval
from labutils.stats.tables import interval_table
from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.knowledge import interval_of_models

MEASURES = {"tokens": "n_tokens", "repeated runs": "repetition"}


class Lengthening(NamedTuple):
    """Change of the mean number of tokens, and the shares of continuations that were cut off."""

    change: Interval
    dense_cut: float
    cut: float


def length_changes(openings: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Damaged minus dense, opening by opening: ``measure, arm, estimate, low, high``.

    >>> length_changes(frames["openings"], ["wanda@0.5"])

    A continuation that does not end by itself is cut off, so that a change of its length is at most what is left. Of
    several models the intervals are over models (`interval_of_models`).

    Args:
        openings: of `Reader`; "tokens" counts the tokens of a continuation, "repeated runs" the share of its runs of
            three tokens that it had said before.
    """
    pairs = _pairs(openings, arms)
    parts = [
        interval_table(_changes(pairs, column), ["arm"], interval_of_models).assign(measure=measure)
        for measure, column in MEASURES.items()
    ]
    return pd.concat(parts, ignore_index=True)


def lengthening(openings: pd.DataFrame, arms: Sequence[str]) -> Lengthening:
    """Does a damaged model go on longer? The mean change in tokens over arms, and how much of it could be seen.

    >>> lengthening(frames["openings"], ["wanda@0.5"]).change

    What is cut off would have been longer, so the change is biased towards zero by it; `dense_cut` and `cut` tell the
    shares of continuations that are.
    """
    pairs = _pairs(openings, arms)
    changes = _changes(pairs, "n_tokens").groupby(["model", "draw", "item"], as_index=False)["value"].mean()
    cut = [float((~pairs[column].astype(bool)).mean()) for column in ("ended_dense", "ended")]
    return Lengthening(interval_of_models(changes), *cut)


def _pairs(openings: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    dense = openings[openings["arm"] == DENSE].drop(columns=["arm", "draw"])
    return openings[openings["arm"].isin(list(arms))].merge(dense, on=["model", "item"], suffixes=("", "_dense"))


def _changes(pairs: pd.DataFrame, column: str) -> pd.DataFrame:
    return pairs.assign(value=pairs[column] - pairs[f"{column}_dense"])
