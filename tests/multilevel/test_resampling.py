"""Bootstrap intervals: what is drawn, what is refitted, what is read off."""

import joblib
import numpy as np
import pandas as pd
import pytest
from literal_models import balanced_data, grouped_data, row_covariance
from scipy.stats import norm

from labutils.multilevel import MultilevelModel, bootstrap, centre_within, fit_multilevel
from labutils.multilevel.resampling import bias_corrected, shares, simulate_response

DATA = centre_within(grouped_data(30, n_groups=12), ["x"], "g")


def effects(model: MultilevelModel) -> pd.Series:
    return model.fixed["estimate"]


@pytest.fixture(scope="module")
def model() -> MultilevelModel:
    return fit_multilevel("y ~ x_within + w + (1 + x_within | g)", DATA)


def test_simulated_responses_have_the_mean_and_covariance_of_the_model() -> None:
    small = fit_multilevel("y ~ x + (1 + x | g) + (1 | h)", grouped_data(2, n_groups=3, size=5))
    generator = np.random.default_rng(0)
    drawn = np.array([simulate_response(small, generator) for _ in range(5_000)])
    covariances = [table.to_numpy() for table in small.covariances.values()]
    expected = row_covariance(small.design, covariances, small.residual_variance)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs(np.cov(drawn.T) - expected).max() < 0.1 * scale.max()
    mean = small.design.x @ small.fixed["estimate"].to_numpy()
    assert np.abs(drawn.mean(0) - mean).max() < 5 * np.sqrt(expected.diagonal().max() / 5_000)


def test_intervals_hold_every_share_and_the_estimate(model: MultilevelModel) -> None:
    found = bootstrap(model, n_resamples=40, seed=1)
    assert found.table.index.tolist() == shares(model).index.tolist()
    assert ("total", "f1") in found.table.index and ("between", "m") in found.table.index
    assert found.table["estimate"].tolist() == shares(model).tolist()
    assert (found.table["low"] <= found.table["high"]).all()
    assert found.table["low"].min() >= -1e-12 and found.table["high"].max() <= 1 + 1e-12
    assert found.samples.shape == (40, len(found.table))
    parts = found.samples["total"][["f1", "f2", "v", "m", "residual"]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(np.ones(40))
    assert 0 <= found.singular <= 1 and found.note == ""


def test_parametric_spread_of_fixed_effects_is_their_standard_error() -> None:
    large = fit_multilevel("y ~ x + w + (1 | g)", balanced_data(0, n_groups=30))
    found = bootstrap(large, effects, n_resamples=60)
    assert found.samples.std().to_numpy() == pytest.approx(large.fixed["se"].to_numpy(), rel=0.25)
    assert found.samples.mean().to_numpy() == pytest.approx(effects(large).to_numpy(), abs=0.15)


def test_cluster_bootstrap_of_a_mean_is_that_of_the_group_means() -> None:
    """In balanced data the intercept is the mean of the group means: its bootstrap variance is Var(means)(K−1)/K²."""
    data = balanced_data(4, n_groups=25)
    null = fit_multilevel("y ~ 1 + (1 | g)", data)
    found = bootstrap(null, effects, method="cluster", n_resamples=80)
    means = data.groupby("g")["y"].mean()
    assert found.samples["(Intercept)"].std() == pytest.approx(means.std(ddof=0) / 5, rel=0.25)


def test_same_seed_same_intervals_in_any_number_of_processes(model: MultilevelModel) -> None:
    one = bootstrap(model, n_resamples=40, seed=3)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        two = bootstrap(model, n_resamples=40, seed=3)
    pd.testing.assert_frame_equal(one.table, two.table)
    assert not one.samples.equals(bootstrap(model, n_resamples=40, seed=4).samples)


def test_resamples_without_a_fit_are_counted_and_too_many_refused() -> None:
    """With an indicator of two of twenty groups, some cluster resamples hold neither, and the column is zero."""
    data = balanced_data(0, n_groups=20)
    rare = data.assign(w=data["g"] < 3)
    found = bootstrap(fit_multilevel("y ~ w + (1 | g)", rare), effects, method="cluster", n_resamples=40)
    assert "of 40 resamples without a fit: " in found.note and "'wTrue' is zero in every row" in found.note
    assert 36 <= len(found.samples) < 40
    rarer = fit_multilevel("y ~ w + (1 | g)", data.assign(w=data["g"] < 1))
    with pytest.raises(ValueError, match="No interval, .* of 40 resamples without a fit"):
        bootstrap(rarer, effects, method="cluster", n_resamples=40)


def test_bias_corrected_percentiles() -> None:
    samples = np.random.default_rng(0).normal(size=100_000)
    assert bias_corrected(samples, 0.0, 0.95) == pytest.approx((-1.96, 1.96), abs=0.03)
    # an estimate at the 31 % point of its resamples (z = −0.5): the percentiles move down by one unit of z
    low, high = bias_corrected(samples, -0.5, 0.9)
    assert (low, high) == pytest.approx((norm.ppf(0.05) - 1, norm.ppf(0.95) - 1), abs=0.03)
    assert bias_corrected(np.zeros(100), 0.0, 0.95) == (0.0, 0.0)
    assert np.isnan(bias_corrected(np.array([0.1, np.nan]), 0.1, 0.95)).all()
    low, high = bias_corrected(np.linspace(1, 2, 100), 0.0, 0.95)  # the estimate below all resamples
    assert (low, high) == pytest.approx((1, 1), abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cases"}, "'cases' is not known: use one of 'parametric', 'cluster'"),
        ({"n_resamples": 39}, "level 0.95 needs at least 40 resamples"),
        ({"level": 95.0}, "level=95.0 must lie between 0 and 1"),
    ],
)
def test_wrong_options_are_refused(model: MultilevelModel, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(model, **options)


def test_cluster_bootstrap_takes_one_grouping_factor() -> None:
    crossed = fit_multilevel("y ~ x + (1 | g) + (1 | h)", DATA)
    with pytest.raises(ValueError, match="takes one grouping factor, not g, h"):
        bootstrap(crossed, effects, method="cluster")
