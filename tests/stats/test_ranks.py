"""Resampled correlations are as uncertain as few units make them."""

import numpy as np
import pytest
from scipy.stats import spearmanr, t

from labutils.stats.ranks import resampled_correlations, unit_ranks, widened_correlations


def test_ranks_have_length_one():
    assert unit_ranks(np.array([3.0, 1.0, 2.0])) @ unit_ranks(np.array([30.0, 10.0, 20.0])) == pytest.approx(1)
    assert (unit_ranks(np.ones(4)) == 0).all()


@pytest.mark.parametrize("n_units", [3, 7, 17])
def test_normal_resamples_become_students_with_the_right_scale(n_units):
    """On Fisher's scale: normal resamples of variance (n − 1)/n · s² give estimate ± t · s."""
    generator = np.random.default_rng(n_units)
    spread = 0.2 * np.sqrt((n_units - 1) / n_units)
    plain = np.tanh(np.arctanh(0.4) + spread * generator.normal(size=200_000))
    found = widened_correlations(0.4, plain, n_units, generator)
    half = 0.2 * t.ppf(0.975, n_units - 1)
    expected = np.tanh(np.arctanh(0.4) + np.array([-half, half]))
    assert np.quantile(found, [0.025, 0.975]) == pytest.approx(expected, abs=0.01)


def test_correlations_stay_correlations():
    found = widened_correlations(1.0, np.array([1.0, -1.0, 0.99] * 100), 3, np.random.default_rng(0))
    assert np.isfinite(found).all() and np.abs(found).max() <= 1


def test_counted_correlations_are_those_of_repeated_rows():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 5, size=(2, 12)).astype(float)  # with ties
    counts = generator.multinomial(12, np.full(12, 1 / 12), size=20)
    found = resampled_correlations(x, y, counts.astype(float))
    expected = [spearmanr(np.repeat(x, count), np.repeat(y, count)).statistic for count in counts]
    assert found == pytest.approx(expected)
    assert np.isnan(resampled_correlations(np.ones(3), np.arange(3.0), np.ones((1, 3))))[0]
