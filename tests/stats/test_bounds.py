"""Intervals of one-sided bounds: their ends are the bounds at the level, and their p-value says what they say."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from labutils.stats.bootstrap import Interval, p_value
from labutils.stats.bounds import bound_tails, interval_of_bounds
from labutils.stats.extremes import lowest_cell
from labutils.stats.few_units import interval_over_units, lowest_over_units


def of_normal(n: int, level: float) -> Interval:
    tails = bound_tails(n)
    return interval_of_bounds(0.0, t.ppf(tails, 2), -t.ppf(tails, 2), level=level, n_items=9)


def of_cells(n: int, level: float, seed: int = 0) -> Interval:
    """Twelve cells, some equally low, over few draws."""
    generator, shape = np.random.default_rng(seed), (20, 3, 12)
    value = generator.normal(size=shape) + generator.normal(size=(20, 1, 12)) + np.r_[np.zeros(6), np.ones(6)]
    value += 0.3 * generator.normal(size=(1, 3, 12))
    index = np.indices(shape).reshape(3, -1)
    rows = pd.DataFrame({"item": index[0], "draw": index[1], "sparsity": index[2] / 20, "value": value.ravel()})
    return lowest_cell(rows, n_resamples=n, level=level, seed=seed).interval


def of_models(n: int, level: float) -> Interval:
    del n  # exact: nothing is resampled
    return lowest_over_units(np.random.default_rng(2).normal(size=(8, 4)), level=level)


@pytest.mark.parametrize("made", [of_normal, of_cells, of_models])
@pytest.mark.parametrize(("n", "level"), [(400, 0.95), (10_000, 0.95), (2000, 0.99), (501, 0.9)])
def test_the_p_value_is_below_the_level_where_the_interval_excludes_a_value_and_nowhere_else(made, n, level):
    found = made(n, level)
    step = 1e-9
    for inside in (found.low, found.low + step, found.estimate, found.high - step, found.high):
        assert p_value(found.samples, (inside,)) >= 1 - level
    for outside in (found.low - step, found.low - 1, found.high + step, found.high + 1):
        assert p_value(found.samples, (outside,)) < 1 - level
    assert found.low < found.estimate < found.high and found.level == level


@pytest.mark.parametrize("seed", range(4))
def test_bounds_grow_with_the_level(seed):
    levels = [0.8, 0.9, 0.95, 0.99]
    found = [of_cells(2000, level, seed) for level in levels]
    assert [each.low for each in found] == sorted((each.low for each in found), reverse=True)
    assert [each.high for each in found] == sorted(each.high for each in found)


def test_too_few_resamples_for_a_level_are_refused():
    with pytest.raises(ValueError, match=r"100 resamples are too few for a level of 0\.99: give at least 400"):
        of_normal(100, 0.99)
    assert of_normal(400, 0.99).n_resamples == 400


def test_of_one_cell_over_units_it_is_students_t():
    means = np.array([[0.3, -0.1, 0.6, 0.2]])
    alone = interval_over_units(pd.DataFrame({"model": list("abcd"), "estimate": means[0]}))
    found = lowest_over_units(means)
    assert found.estimate == pytest.approx(alone.estimate) and found.units == alone.units
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=2e-3)
    error = means.std(ddof=1) / 2
    assert found.low == pytest.approx(means.mean() + t.ppf(0.025, 3) * error, abs=2e-4)


def test_over_units_the_lower_end_is_that_of_the_lowest_cell_and_the_upper_one_is_for_all_at_once():
    means = np.random.default_rng(5).normal([[0.0], [0.2], [3.0]], 0.2, size=(3, 5))
    found, errors = lowest_over_units(means, n_items=40), means.std(axis=1, ddof=1) / 5**0.5
    lower = means.mean(axis=1) + t.ppf(0.025, 4) * errors
    upper = means.mean(axis=1) + t.ppf(1 - 0.025 / 3, 4) * errors
    assert (found.low, found.high) == pytest.approx((lower.min(), upper.min()), abs=1e-3)
    assert found.note == "over 5 models; the lowest of 3 cells" and found.units == ("item", "model")


@pytest.mark.parametrize("means", [np.ones((2, 1)), np.empty((0, 3)), np.array([[0.1, np.nan, 0.3]])])
def test_what_has_no_lowest_cell_is_refused(means):
    with pytest.raises(ValueError, match="needs finite means of at least one cell and two rules"):
        lowest_over_units(means, unit="rule")
