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
from labutils.multilevel.simulation import true_components

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


def test_an_effect_that_is_not_there_is_seldom_found_and_a_negative_one_never() -> None:
    """Planted: a clear first effect; the second is nothing, or the other way round from the claim."""
    outcomes = {0.0: [], -0.5: []}
    for second, found in outcomes.items():
        truth = StudyTruth({"a": -0.8, "b": second}, adaptation=(0.3,), finetuning=(), sample_sd=0.3, residual_sd=0.4)
        for seed in range(60):
            rows = simulate_study(truth, draw_features(["a", "b"], 16, seed=seed), seed=1000 + seed)
            interval = smallest_effect(fit_multilevel(study_formula(truth), rows), {"a": -1, "b": 1}, n_draws=1000)
            found.append(judge("C11", interval=interval, scope={"model": "simulated"}).outcome)
    assert outcomes[0.0].count("supported") <= 4  # 2.5 % of 60, and what chance adds to it
    assert outcomes[-0.5].count("supported") == 0 and outcomes[-0.5].count("contradicted") > 50


def test_the_ratio_of_shares_holds_the_planted_one() -> None:
    truth = StudyTruth({"a": 0.6}, adaptation=(1.0,), finetuning=(), sample_sd=0.2, residual_sd=0.3)
    held, wrong = 0, 0
    for seed in range(10):
        features = draw_features(["a"], 20, seed=seed)
        expected = true_components(truth, features)
        model = fit_multilevel(study_formula(truth), simulate_study(truth, features, seed=500 + seed))
        found = share_ratio(bootstrap(model, n_resamples=40, seed=seed), "f1", "f2", model)
        log_ratio = np.log(expected.f1 / expected.f2)
        held += found.low <= log_ratio <= found.high
        wrong += np.sign(found.estimate) != np.sign(log_ratio) and (found.low > 0 or found.high < 0)
    assert held >= 8 and wrong == 0  # of 10, at 95 %, with the fewest resamples that an interval takes
