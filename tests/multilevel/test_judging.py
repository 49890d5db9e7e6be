"""The numbers that claims are judged by, against the tests and intervals they are made of."""

import numpy as np
import pytest
from scipy.stats import t as student

from labutils.claims.registry import judge
from labutils.multilevel import (
    StudyTruth,
    bootstrap,
    draw_features,
    fit_multilevel,
    share_ratio,
    simulate_study,
    smallest_effect,
    standardised_effects,
    study_formula,
)
from labutils.multilevel.judging import corrected_samples
from labutils.multilevel.resampling import bias_corrected

TRUTH = StudyTruth(
    {"a": -0.5, "b": 0.3, "c": 0.0}, adaptation=(0.3,), finetuning=(0.5,), sample_sd=0.3, residual_sd=0.6
)


@pytest.fixture(scope="module")
def model():
    rows = simulate_study(TRUTH, draw_features(["a", "b", "c"], 20, seed=1), seed=1)
    return fit_multilevel(study_formula(TRUTH), rows)


def test_standardised_effects_are_the_t_tests_in_other_units(model) -> None:
    table = standardised_effects(model, {"a": -1, "b": 1})
    fixed = model.fixed.loc[["a", "b"]]
    assert table["t"].tolist() == pytest.approx([-fixed.loc["a", "t"], fixed.loc["b", "t"]])
    assert table["p"].tolist() == pytest.approx(fixed["p"].tolist())
    assert table.loc["b", "estimate"] == pytest.approx(fixed.loc["b", "estimate"] / model.design.y.std(ddof=1))


def test_of_one_effect_the_interval_is_its_t_interval(model) -> None:
    found = smallest_effect(model, {"b": 1}, n_draws=200_000)
    row = standardised_effects(model, {"b": 1}).loc["b"]
    half = row["se"] * student.ppf(0.975, row["df"])
    assert [found.low, found.high] == pytest.approx([row["estimate"] - half, row["estimate"] + half], abs=0.02 * half)
    assert (found.n_items, found.n_draws, found.units) == (80, 20, ("run", model.design.groupings[0].name))


def test_the_smallest_of_two_is_positive_only_where_both_are(model) -> None:
    table = standardised_effects(model, {"a": -1, "b": 1, "c": 1})
    assert table["p"].lt(0.05).tolist() == [True, True, False]
    both, spoilt = smallest_effect(model, {"a": -1, "b": 1}), smallest_effect(model, {"a": -1, "c": 1})
    assert both.estimate == pytest.approx(table.loc["b", "estimate"]) and both.low > 0 > spoilt.low
    turned = smallest_effect(model, {"a": 1, "b": 1})
    scope = {"model": "simulated"}
    outcomes = [judge("C11", interval=each, scope=scope).outcome for each in (both, spoilt, turned)]
    assert outcomes == ["supported", "inconclusive", "contradicted"]


def test_corrected_samples_have_the_bias_corrected_interval() -> None:
    samples = np.random.default_rng(0).gamma(2, size=4000)
    estimate = float(np.quantile(samples, 0.4))
    moved = corrected_samples(samples, estimate)
    low, high = bias_corrected(samples, estimate, 0.95)
    assert np.quantile(moved, [0.025, 0.975]) == pytest.approx([low, high], rel=0.02)
    assert corrected_samples(samples, float(np.median(samples))) == pytest.approx(np.sort(samples), rel=0.05, abs=0.02)


def test_ratio_is_that_of_the_shares_and_has_its_interval(model) -> None:
    intervals = bootstrap(model, n_resamples=60)
    found = share_ratio(intervals, "f1", "f2", model)
    total = intervals.table.loc["total", "estimate"]
    assert found.estimate == pytest.approx(np.log(total["f1"] / total["f2"]))
    assert found.low < found.estimate < found.high and len(found.samples) == 60
    other = share_ratio(intervals, "f2", "f1", model)
    assert [other.low, other.high] == pytest.approx([-found.high, -found.low], abs=0.15)
    with pytest.raises(LookupError, match="no share 'f3'"):
        share_ratio(intervals, "f1", "f3", model)
