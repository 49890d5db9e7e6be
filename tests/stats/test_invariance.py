"""What a verdict says does not depend on the names of units, nor on the order of rows."""

import numpy as np
import pandas as pd
import pytest

from labutils.claims.outcomes import decide
from labutils.stats.bootstrap import Interval, crossed_bootstrap, crossover, slope
from labutils.stats.extremes import lowest_cell
from labutils.stats.few_units import interval_over_units
from labutils.sweeps.task_contrasts import family_contrast, knowledge_contrast, rank_correlation
from labutils.sweeps.variance import score_table, set_effect

MARGIN = 0.05
GRID = [0.2, 0.4, 0.6, 0.8]


def differences() -> pd.DataFrame:
    """Four draws × 12 items × 4 sparsities on two texts; the difference grows from −0.2 to 0.4."""
    generator = np.random.default_rng(0)
    shape = (4, 12, 4, 2)
    index = np.indices(shape).reshape(4, -1)
    value = 0.2 * np.arange(4)[None, None, :, None] - 0.2 + 0.05 * generator.normal(size=shape)
    value = value + 0.1 * generator.normal(size=(1, 12, 1, 2)) + 0.03 * generator.normal(size=(4, 1, 1, 2))
    frame = pd.DataFrame({"draw": index[0], "item": index[1], "sparsity": np.take(GRID, index[2])})
    text = np.array(["a", "b"])[index[3]]
    return frame.assign(value=value.ravel(), model="m", calibration=text, evaluation=text)


def task_drops() -> pd.DataFrame:
    """Five tasks, two of them of a family that loses more."""
    generator = np.random.default_rng(1)
    index = np.indices((5, 3, 20, 2)).reshape(4, -1)
    frame = pd.DataFrame(dict(zip(("task", "draw", "item", "method"), index, strict=True)))
    frame["value"] = (generator.random(len(frame)) < np.where(frame["task"] < 2, 0.35, 0.1)).astype(float)
    frame["family"] = np.where(frame["task"] < 2, "in", "out")
    frame["dense"] = (frame["item"] % 10 > 0).astype(float)
    return frame.assign(task="t" + frame["task"].astype(str), sparsity=0.5, calibration="c", chance=0.25)


def texts() -> pd.DataFrame:
    generator = np.random.default_rng(2)
    dense = 1 + 0.1 * generator.normal(size=10)
    index = np.indices((3, 10, 2)).reshape(3, -1)
    pruned = pd.DataFrame({"draw": index[0], "item": index[1], "method": index[2], "loss": dense[index[1]] + 0.02})
    before = pd.DataFrame({"draw": -1, "item": range(10), "method": "dense", "loss": dense})
    return pd.concat([before, pruned]).assign(evaluation="w", sparsity=0.5, calibration="c")


def concepts() -> pd.DataFrame:
    generator = np.random.default_rng(3)
    level = np.repeat(generator.normal(size=8), 6)
    x, y = level + generator.normal(size=(2, 48))
    return pd.DataFrame({"task": np.repeat(np.arange(8), 6), "x": x, "y": y})


def sets() -> pd.DataFrame:
    generator = np.random.default_rng(4)
    index = np.indices((4, 3, 6)).reshape(3, -1)
    value = generator.normal(size=(4, 1, 1)) + 0.3 * generator.normal(size=(4, 3, 1)) + generator.normal(size=(1, 1, 6))
    frame = pd.DataFrame(dict(zip(("calibration", "draw", "item"), index, strict=True)))
    return frame.assign(task="t", value=np.broadcast_to(value, (4, 3, 6)).ravel())


def models() -> pd.DataFrame:
    return pd.DataFrame({"model": ["x", "y", "z"], "estimate": [0.3, 0.4, 0.35]})


# A statistic, its rows, and the columns whose values are names of units and no more.
STATISTICS = {
    "mean": (crossed_bootstrap, differences, ["draw", "item", "calibration", "evaluation", "model"]),
    "slope": (lambda rows: crossed_bootstrap(rows, slope(GRID)), differences, ["draw", "item", "evaluation"]),
    "crossing": (lambda rows: crossed_bootstrap(rows, crossover(GRID)), differences, ["draw", "item", "evaluation"]),
    "lowest": (lambda rows: lowest_cell(rows).interval, differences, ["draw", "item", "evaluation", "model"]),
    "units": (interval_over_units, models, ["model"]),
    "family": (lambda rows: family_contrast(rows, "in"), task_drops, ["draw", "item", "task", "method", "calibration"]),
    "knowledge": (lambda rows: knowledge_contrast(rows, texts()), task_drops, ["item", "task"]),
    "ranks": (lambda rows: rank_correlation(rows, "x", "y", cluster="task"), concepts, ["task"]),
    "sets": (lambda rows: set_effect(score_table(rows)).log_ratio, sets, ["calibration", "draw", "item", "task"]),
}
# The resampling follows the order of names, so that an interval may move by the error of its own simulation: of 10,000
# resamples a percentile's is 3 % of the width.
SIMULATION = 0.05


def outcomes(found: Interval) -> list[str]:
    return [decide(kind, found.low, found.high, MARGIN) for kind in ("positive", "no_worse", "negative_result")]


@pytest.mark.parametrize("name", STATISTICS)
def test_the_order_of_rows_changes_nothing(name):
    statistic, rows, _ = STATISTICS[name]
    assert statistic(rows().sample(frac=1, random_state=1)) == statistic(rows())


@pytest.mark.parametrize("name", STATISTICS)
def test_the_names_of_units_change_no_outcome(name):
    statistic, rows, columns = STATISTICS[name]
    before, renamed = statistic(rows()), rows()
    generator = np.random.default_rng(5)
    for column in columns:
        old = sorted(renamed[column].unique())
        new = dict(zip(old, generator.permutation([f"name {number}" for number in range(len(old))]), strict=True))
        renamed[column] = renamed[column].map(new)
    after = statistic(renamed)
    width = before.high - before.low
    assert after.estimate == pytest.approx(before.estimate)
    assert (after.low, after.high) == pytest.approx((before.low, before.high), abs=SIMULATION * width)
    assert outcomes(after) == outcomes(before)


@pytest.mark.parametrize("name", ["units", "ranks", "sets"])
def test_where_nothing_is_drawn_by_name_the_interval_is_the_same(name):
    statistic, rows, columns = STATISTICS[name]
    renamed = rows()
    for column in columns:
        renamed[column] = renamed[column].map({old: f"u{9 - n}" for n, old in enumerate(renamed[column].unique())})
    before, after = statistic(rows()), statistic(renamed)
    assert (after.low, after.high) == pytest.approx((before.low, before.high))
