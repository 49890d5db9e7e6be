"""Which calibration set makes the difference: every set left out once, and one set against each and the best of others.

All take `add_drops` of a task sweep over several calibration sets with the same draws, methods, sparsities and items.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import Interval, crossed_bootstrap
from labutils.stats.evidence import keeps_evidence
from labutils.sweeps.task_contrasts import calibration_gain
from labutils.sweeps.variance import SetEffect, score_table, set_effect

NONE = "none"


def leave_one_set_out(drops: pd.DataFrame, *, seed: int = 0) -> dict[str, SetEffect]:
    """The set effect of all sets, and without each of them in turn: does one set decide?

    >>> effects = leave_one_set_out(drops)
    >>> effects["lab:review"].log_ratio, effects["none"].log_ratio

    Returns:
        the set that is left out → the effect of the others; "none" → that of all. Undefined where fewer than two sets
        are left.
    """
    names = list(dict.fromkeys(drops["calibration"]))
    parts = {NONE: drops} | {name: drops[drops["calibration"] != name] for name in names}
    return {left_out: effect_of_sets(part, seed=seed) for left_out, part in parts.items() if len(part)}


@keeps_evidence("log_ratio")
def effect_of_sets(drops: pd.DataFrame, *, seed: int = 0) -> SetEffect:
    """The set effect of all sets, by `set_effect` from `score_table`.

    >>> effect_of_sets(drops).log_ratio
    """
    return set_effect(score_table(drops), seed=seed)


def gains_over_sets(drops: pd.DataFrame, candidate: str, *, others: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """What calibrating with `candidate` gains over each of `others`, paired item by item; positive favours `candidate`.

    >>> gains_over_sets(drops, "lab:review + lab:narrative", others=["lab:review", "random"])

    Returns:
        ``calibration, estimate, low, high`` in score per item, intervals over items and calibration draws.
    """
    found = {other: calibration_gain(drops, other, candidate, n_resamples=2000, seed=seed) for other in others}
    rows = [(other, each.estimate, each.low, each.high) for other, each in found.items()]
    return pd.DataFrame(rows, columns=["calibration", "estimate", "low", "high"])


class GainOverBest(NamedTuple):
    """The gain over the best of several sets, and how often each was found best (shares that add up to one)."""

    gain: Interval
    chosen: dict[str, float]


def gain_over_best(
    drops: pd.DataFrame, candidate: str, *, others: Sequence[str], n_splits: int = 50, seed: int = 0
) -> GainOverBest:
    """What `candidate` gains over the best of `others`, where the best is chosen on other items and other draws.

    >>> gain_over_best(drops, "lab:review + lab:narrative", others=["lab:review", "lab:narrative"]).gain

    The lowest of several noisy means is lower than the mean of the best set. So one half of each task's items and of
    the draws says which of `others` loses least, and the other half what `candidate` gains over it, both ways round,
    averaged over random splits. With one draw the items alone are split. The interval resamples items and draws; the
    choices are held fixed.

    Raises:
        ValueError: fewer than two items of a task, or sets that were not read on the same items and draws.
    """
    keys = ["draw", "task", "item"]
    tables = {name: _by_draw_and_item(drops, name, keys) for name in (candidate, *others)}
    own, rest = tables[candidate], [tables[other] for other in others]
    if any(not table.index.equals(own.index) or not table.columns.equals(own.columns) for table in rest):
        raise ValueError(f"{candidate!r} and the other sets must be read on the same draws and items")
    values = np.stack([table.to_numpy() for table in rest])
    shares = _shares_of_choice(values, own.columns.get_level_values("task"), n_splits, np.random.default_rng(seed))
    gained = (shares * values).sum(axis=0) - own
    frame = gained.stack(["task", "item"], future_stack=True).rename("value").reset_index()
    gain = crossed_bootstrap(frame, cells=(), strata=["task"], n_resamples=2000, seed=seed)
    return GainOverBest(gain, dict(zip(others, shares.mean(axis=(1, 2)).tolist(), strict=True)))


def _by_draw_and_item(drops: pd.DataFrame, name: str, keys: Sequence[str]) -> pd.DataFrame:
    """Means over methods and sparsities of one set: draws × (task, item)."""
    means = drops[drops["calibration"] == name].groupby(list(keys))["value"].mean()
    table = means.unstack(["task", "item"]).sort_index().sort_index(axis=1)
    if table.empty or table.isna().any(axis=None):
        raise ValueError(f"{name!r} must be read on the same items in every draw; it has {table.notna().sum().sum()}")
    return table


def _shares_of_choice(
    values: Float[np.ndarray, "sets draws items"], tasks: pd.Index, n_splits: int, generator: np.random.Generator
) -> Float[np.ndarray, "sets draws items"]:
    """In which share of the splits each set was best on the halves that do not hold the draw and the item.

    Every task weighs alike in the choice, as in the gain.
    """
    places = [np.flatnonzero(tasks == task) for task in dict.fromkeys(tasks)]
    if min(map(len, places)) < 2:
        raise ValueError("halves need at least two items of every task; read more")
    n_draws = values.shape[1]
    shares, splits = np.zeros_like(values), np.zeros(values.shape[1:])
    for _ in range(n_splits):
        first = np.zeros(values.shape[2], dtype=bool)
        for own in places:
            first[generator.permutation(own)[: len(own) // 2]] = True
        order = generator.permutation(n_draws)
        early = np.isin(np.arange(n_draws), order[: max(1, n_draws // 2)])
        late = early if n_draws == 1 else ~early
        halves = [(early, first, late, ~first), (late, ~first, early, first)]
        if n_draws > 1:
            halves += [(early, ~first, late, first), (late, first, early, ~first)]
        for draws, items, read_draws, read_items in halves:
            chosen = _best(values[:, draws], items, places)
            shares[chosen] += np.outer(read_draws, read_items)
            splits += np.outer(read_draws, read_items)
    return shares / splits


def _best(values: Float[np.ndarray, "sets draws items"], items: np.ndarray, places: Sequence[np.ndarray]) -> int:
    means = [values[:, :, own[items[own]]].mean(axis=(1, 2)) for own in places]
    return int(np.mean(means, axis=0).argmin())
