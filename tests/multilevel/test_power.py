"""Coverage, bias and power by simulation, against what theory says of balanced studies."""

import numpy as np
import pytest
from scipy.stats import nct
from scipy.stats import t as student

from labutils.multilevel import StudyTruth, draw_features, recovery, text_effect_power

TRUTH = StudyTruth(
    text={"length": 0.5, "density": 0.0}, adaptation=(0.3,), finetuning=(0.2, 0.1), sample_sd=0.5, residual_sd=0.8
)


def theoretical_power(effect: float, k: int, cells: int, n_features: int) -> float:
    """Of the t-test on K sample means with variance τ² + σ²/cells; noncentral t, averaged over drawn features."""
    degrees, spread = k - n_features - 1, TRUTH.sample_sd**2 + TRUTH.residual_sd**2 / cells
    edge = student.ppf(0.975, degrees)
    values = []
    for seed in range(300):
        x = np.random.default_rng(seed).normal(size=(k, n_features))
        others = np.column_stack([np.ones(k), x[:, 1:]])
        left = x[:, 0] - others @ np.linalg.lstsq(others, x[:, 0], rcond=None)[0]
        shift = effect * np.sqrt(left @ left / spread)
        values.append(nct.sf(edge, degrees, shift) + nct.cdf(-edge, degrees, shift))
    return float(np.mean(values))


def test_power_is_that_of_the_noncentral_t() -> None:
    found = text_effect_power(TRUTH, [8, 20], n_studies=40, seed=5)
    assert found["runs"].tolist() == [48, 48, 120, 120]
    for row in found.itertuples():
        expected = theoretical_power(row.effect, row.n_samples, 6, 2)
        error = np.sqrt(expected * (1 - expected) / 40)
        assert abs(row.power - expected) < 3.5 * error + 0.01, row
        assert row.low <= row.power <= row.high
    assert found["feature"].tolist() == ["length", "density"] * 2


def test_recovery_finds_the_coverage_and_no_bias() -> None:
    features = draw_features(["length", "density"], 15, seed=2)
    found = recovery(TRUTH, features, n_studies=50, seed=1)
    fixed = found.loc["fixed"]
    assert list(fixed.index) == list(TRUTH.fixed)
    assert fixed["truth"].to_dict() == TRUTH.fixed
    assert (fixed["coverage_low"] <= 0.95 + 0.02).all() and (fixed["coverage_high"] >= 0.95 - 0.02).all()
    assert (fixed["bias"].abs() < 4 * fixed["bias_se"]).all()
    variances = found.loc["variance"]  # unbiased under REML where the boundary is far
    assert variances.loc["residual", "truth"] == pytest.approx(0.64)
    assert abs(variances.loc["residual", "bias"]) < 4 * variances.loc["residual", "bias_se"]
    assert abs(variances.loc["m", "bias"]) < 4 * variances.loc["m", "bias_se"]
    shares = found.loc["share"]
    assert shares.loc[["f1", "f2", "v", "m", "residual"], "truth"].sum() == pytest.approx(1)
    assert found.loc[["variance", "share"], "coverage"].isna().all()
    assert (found["n_studies"] == 50).all() and found["singular"].between(0, 1).all()


def test_recovery_with_varying_slopes_runs_the_model_that_made_the_data() -> None:
    truth = StudyTruth({"a": 0.5}, adaptation=(0.3,), finetuning=(0,), sample_sd=0.5, slope_sd=0.5, residual_sd=0.5)
    found = recovery(truth, draw_features(["a"], 12), n_studies=5)
    assert found.loc[("variance", "v"), "truth"] > 0
    assert found.loc[("variance", "v"), "mean"] > 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([3], {}, "2 text effects need at least 4 samples, got \\[3\\]"),
        ([], {}, "at least 4 samples, got \\[\\]"),
        ([10], {"alpha": 5.0}, "alpha between 0 and 1"),
        ([10], {"n_studies": 0}, "at least one study"),
    ],
)
def test_impossible_power_questions_are_refused(arguments: list[int], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_effect_power(TRUTH, arguments, **options)
    with pytest.raises(ValueError, match="at least two studies"):
        recovery(TRUTH, draw_features(["length", "density"], 8), n_studies=1)
