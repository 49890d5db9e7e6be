"""An effect over few units is as uncertain as the units are few and unlike."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from labutils.stats.few_units import interval_over_units


def effects(values) -> pd.DataFrame:
    return pd.DataFrame({"model": [f"m{number}" for number in range(len(values))], "estimate": values})


def test_it_is_students_interval():
    values = [0.31, -0.44, -0.40]
    found = interval_over_units(effects(values))
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=2e-3)
    assert found.estimate == pytest.approx(np.mean(values)) and found.units == ("model", "model")


def test_three_models_of_which_two_reverse_support_nothing():
    found = interval_over_units(effects([0.306, -0.445, -0.403]))
    assert found.low < 0 < found.high


@pytest.mark.parametrize("k", [3, 8])
def test_coverage(k):
    """400 studies, k units whose true effects differ and whose estimates err: 93 to 97 % are covered, give or take."""
    generator = np.random.default_rng(k)
    truth = 0.2
    covered = 0
    for _ in range(400):
        found = interval_over_units(effects(truth + generator.normal(0, 0.3, k) + generator.normal(0, 0.1, k)))
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / 400 <= 0.975


@pytest.mark.parametrize(
    "frame", [effects([0.1]), effects([0.1, np.nan]), pd.concat([effects([0.1, 0.2]), effects([0.3, 0.4])])]
)
def test_units_must_stand_once_and_be_more_than_one(frame):
    with pytest.raises(ValueError, match="at least two models"):
        interval_over_units(frame)
