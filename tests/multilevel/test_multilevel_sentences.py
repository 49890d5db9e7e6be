"""Sentences under the figures of mixed models, against what was planted and against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from labutils.multilevel import StudyTruth, bootstrap, draw_features, fit_multilevel, simulate_study, study_formula
from labutils.multilevel.figures import power_curves, residual_plots
from labutils.multilevel.sentences import (
    describe_effects,
    describe_groups,
    describe_power,
    describe_residuals,
    describe_shares,
)

TRUTH = StudyTruth({"a": -0.5, "b": 0.0}, adaptation=(0.8,), finetuning=(), sample_sd=0.3, residual_sd=0.2)


@pytest.fixture(scope="module")
def model():
    rows = simulate_study(TRUTH, draw_features(["a", "b"], 30, seed=3), seed=3)
    return fit_multilevel(study_formula(TRUTH), rows)


def test_clear_effects_are_named_on_their_side(model) -> None:
    told = describe_effects(model, {"a": "readability"})
    assert told == "Of 3 effects 2 are clear at 95%: adaptation_2 above zero, readability below."


def test_groups_and_residuals_are_counted(model) -> None:
    rows = model.blups.loc["sample"].xs("(Intercept)", level="term")
    beyond = int((rows["estimate"].abs() > 1.959964 * rows["se"]).sum())
    assert describe_groups(model).startswith(f"{beyond} of 30 samples lie clearly beyond")
    told = describe_residuals(model)
    residuals = np.asarray(model.residuals)
    share = np.mean(np.abs(residuals) > 1.959964 * residuals.std())
    assert f"{share:.1%} lie beyond 1.96 standard deviations" in told


def test_shares_are_told_largest_first(model) -> None:
    boot = bootstrap(model, n_resamples=60)
    told = describe_shares(boot)
    total = boot.table.loc["total", "estimate"]
    names = {"f1": "fixed effects within groups", "f2": "fixed effects between groups", "residual": "residual"}
    first = max(names, key=lambda kind: total[kind])
    assert told.startswith(f"Of the variance of the score: {names[first]}") and f"{total[first]:.1%}" in told


def test_power_is_told_for_the_study_at_hand_and_marked() -> None:
    rows = [(12, "x", 0.3), (30, "x", 0.7), (96, "x", 0.9), (12, "y", 0.1), (30, "y", 0.2), (96, "y", 0.4)]
    power = pd.DataFrame(rows, columns=["n_samples", "feature", "power"])
    told = describe_power(power, 30)
    assert told == (
        "Power with the 30 samples of this study — x: 0.70; 96 samples reach 80%. y: 0.20; no number tried reaches 80%."
    )
    drawn = power.assign(low=power["power"] - 0.1, high=power["power"] + 0.05, effect=0.1)
    legend = power_curves(drawn, title="Power", mark=30).axes[0].get_legend()
    assert {text.get_text() for text in legend.get_texts()} == {"x", "y", "this study: 30 samples"}


def test_terms_that_vary_are_named(model) -> None:
    titles = [axis.get_title() for axis in residual_plots(model, title="t", names={"(Intercept)": "mean"}).axes]
    assert "mean over sample" in titles
