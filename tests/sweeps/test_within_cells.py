"""The correlation within cells against the mean of the cells' own ρ, a confound, and planted truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from labutils.stats.bootstrap import p_value
from labutils.sweeps.task_contrasts import rank_correlation
from labutils.sweeps.within_cells import within_cell_correlation

CELLS = ["method", "sparsity"]


def make_pairs(generator, n_tasks, rho, confound=0.0):
    """Two columns of which tasks have correlated levels; cells shift both by the same amount."""
    first = generator.normal(size=n_tasks)
    second = rho * first + np.sqrt(1 - rho**2) * generator.normal(size=n_tasks)
    frames = []
    for method in "mn":
        for sparsity in (0.5, 0.6, 0.7):
            shift = confound * (sparsity - 0.6)
            noise = 0.3 * generator.normal(size=(2, n_tasks))
            columns = {"x": first + noise[0] + shift, "y": second + noise[1] + shift}
            frames.append(pd.DataFrame({"method": method, "sparsity": sparsity, "task": range(n_tasks), **columns}))
    return pd.concat(frames, ignore_index=True)


def within(frame, **options):
    return within_cell_correlation(frame, "x", "y", cells=CELLS, cluster="task", n_resamples=400, **options)


def test_without_ties_it_is_the_mean_of_the_cells_own_correlations():
    frame = make_pairs(np.random.default_rng(0), 25, 0.9)
    found = within(frame)
    own = [spearmanr(part["x"], part["y"]).statistic for _, part in frame.groupby(CELLS)]
    assert found.estimate == pytest.approx(np.mean(own))
    assert found.low > 0 and found.n_items == 25 and found.units[0] == "task"


def test_what_grows_in_both_columns_alike_correlates_when_pooled_and_not_within_cells():
    frame = make_pairs(np.random.default_rng(1), 17, 0.0, confound=60.0)
    pooled = rank_correlation(frame, "x", "y", cluster="task")
    found = within(frame)
    assert pooled.low > 0.5
    assert found.low < 0 < found.high
    assert found.estimate == pytest.approx(within(frame.assign(x=np.exp(frame["x"]), y=frame["y"] * 3)).estimate)


@pytest.mark.parametrize("n_tasks", [6, 17])
def test_nothing_planted_is_rarely_found(n_tasks):
    generator = np.random.default_rng(2)
    found = [within(make_pairs(generator, n_tasks, 0.0), seed=seed) for seed in range(60)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) > 0.88  # 95 % less three standard errors


def test_rows_in_another_order_or_tasks_of_another_name_change_nothing():
    frame = make_pairs(np.random.default_rng(3), 8, 0.5)
    found, mixed = within(frame), within(frame.sample(frac=1, random_state=0))
    assert (found.estimate, found.low, found.high) == (mixed.estimate, mixed.low, mixed.high)
    named = within(frame.assign(task=frame["task"].map("abcdefgh".__getitem__)))
    assert (found.low, found.high) == (named.low, named.high)


def test_what_cannot_be_correlated_is_refused_or_has_no_value():
    frame = make_pairs(np.random.default_rng(4), 6, 0.5)
    assert not within(frame[frame["task"] < 3]).defined
    assert not within(frame.assign(y=1.0)).defined
    with pytest.raises(ValueError, match="needs a row of every task; 1 are missing"):
        within(frame.iloc[1:])
    with pytest.raises(ValueError, match="average them first"):
        within(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(ValueError, match="x needs a value"):
        within(frame.assign(x=frame["x"].where(frame["task"] > 0)))


def test_of_the_fewest_clusters_the_interval_can_be_judged():
    """Resamples of one cluster alone have no value; they are left out, so that a p can be had."""
    found = within(make_pairs(np.random.default_rng(0), 4, 0.5))
    assert found.low < found.estimate < found.high and 0 < p_value(found.samples) <= 1
