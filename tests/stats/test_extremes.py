"""The lowest cell has an interval that covers it, and that is not lowered by the number of cells."""

import numpy as np
import pandas as pd
import pytest

from labutils.stats.bootstrap import crossed_bootstrap
from labutils.stats.extremes import lowest_cell


def simulate(generator: np.random.Generator, means: np.ndarray, *, n_items: int = 40, n_draws: int = 5) -> pd.DataFrame:
    """Items common to all cells, items and draws of each cell, and noise, around planted means."""
    shape = (n_items, n_draws, len(means))
    item = generator.normal(size=(n_items, 1, 1)) + generator.normal(size=(n_items, 1, len(means)))
    draw = 0.3 * generator.normal(size=(1, n_draws, len(means)))
    value = means + 0.7 * item + draw + 0.5 * generator.normal(size=shape)
    index = np.indices(shape).reshape(3, -1)
    return pd.DataFrame({"item": index[0], "draw": index[1], "sparsity": index[2] / 10, "value": value.ravel()})


@pytest.mark.parametrize("planted", ["one low", "two low", "all equal"])
def test_planted_minima_are_covered(planted):
    """150 studies; a coverage of 95 % misses 14 or more of them once in 200 times."""
    means = {"one low": np.r_[-1, np.ones(11)], "two low": np.r_[-1, -1, np.ones(10)], "all equal": np.zeros(12)}[
        planted
    ]
    generator, missed = np.random.default_rng(3), 0
    for study in range(150):
        found = lowest_cell(simulate(generator, means), n_resamples=400, seed=study).interval
        missed += not found.low <= means.min() <= found.high
    assert missed <= 13


def test_no_worse_everywhere_is_wrongly_found_at_most_as_often_as_stated():
    """One cell lies exactly at the margin: "nowhere worse" may be said of 2.5 % of the studies, of 150 not 12."""
    means, generator = np.r_[-0.1, np.zeros(11)], np.random.default_rng(4)
    wrong = sum(
        lowest_cell(simulate(generator, means), n_resamples=400, seed=study).interval.low > -0.1 for study in range(150)
    )
    assert wrong <= 11


def test_the_table_holds_every_cell_with_the_interval_it_has_alone():
    rows = simulate(np.random.default_rng(0), np.array([0.0, -2.0, 1.0]))
    found = lowest_cell(rows)
    assert found.cells["sparsity"].tolist() == [0.0, 0.1, 0.2] and found.cells["estimate"].idxmin() == 1
    alone = crossed_bootstrap(rows[rows["sparsity"] == 0.1])
    assert found.interval.estimate == pytest.approx(alone.estimate)
    assert (found.interval.low, found.interval.high) == pytest.approx((alone.low, alone.high), abs=0.08)
    assert "lowest of 3 cells" in found.interval.note


def test_arms_that_agree_exactly_have_no_width():
    rows = simulate(np.random.default_rng(0), np.zeros(2)).assign(value=0.0)
    found = lowest_cell(rows).interval
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_a_failure_in_one_setting_is_not_averaged_away():
    """Eight settings of which one loses a nat: the mean over settings hides it, the lowest cell does not."""
    generator = np.random.default_rng(1)
    frames = [
        simulate(generator, np.array([-1.0 if setting == 3 else 0.0, 0.0])).assign(
            model="m", evaluation=f"text {setting}"
        )
        for setting in range(8)
    ]
    rows = pd.concat(frames, ignore_index=True)
    assert crossed_bootstrap(rows).estimate > -0.2
    found = lowest_cell(rows)
    assert found.interval.high < -0.2 and found.cells.loc[found.cells["estimate"].idxmin(), "evaluation"] == "text 3"


def test_the_order_of_rows_and_the_names_of_settings_change_nothing():
    rows = simulate(np.random.default_rng(2), np.array([0.0, -0.5])).assign(model="a")
    shuffled = rows.sample(frac=1, random_state=0).assign(model="b")
    assert lowest_cell(shuffled).interval == lowest_cell(rows).interval
