"""Simulated studies: their layout, their moments, the shares they imply."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labutils.multilevel import StudyTruth, draw_features, fit_multilevel, simulate_study, study_formula
from labutils.multilevel.simulation import true_components

TRUTH = StudyTruth(
    text={"length": 0.3, "term density": -0.2}, adaptation=(0.4,), finetuning=(0.1, -0.3), intercept=2,
    sample_sd=0.5, slope_sd=0.2, residual_sd=0.7,
)  # fmt: skip


def test_every_sample_meets_every_pair_of_configurations() -> None:
    features = draw_features(["length", "term density"], 5)
    rows = simulate_study(TRUTH, features)
    assert len(rows) == 5 * 2 * 3
    assert not rows.duplicated(["sample", "adaptation", "finetuning"]).any()
    assert (rows["adaptation"].max(), rows["finetuning"].max()) == (2, 3)
    for column in TRUTH.configurations:
        assert rows.groupby("sample")[column].mean().abs().max() < 1e-12
        assert np.ptp(rows[column]) == pytest.approx(1)
    assert rows.groupby("sample")["length"].first().tolist() == features["length"].tolist()
    assert study_formula(TRUTH) == (
        "score ~ length + `term density` + adaptation_2 + finetuning_2 + finetuning_3 "
        "+ (1 + adaptation_2 + finetuning_2 + finetuning_3||sample)"
    )


def test_seeds() -> None:
    features = draw_features(["length", "term density"], 4, seed=1)
    assert features.equals(draw_features(["length", "term density"], 4, seed=1))
    assert simulate_study(TRUTH, features, seed=2).equals(simulate_study(TRUTH, features, seed=2))
    assert not simulate_study(TRUTH, features, seed=2).equals(simulate_study(TRUTH, features, seed=3))


def test_without_noise_the_scores_are_the_sum_of_the_effects() -> None:
    quiet = StudyTruth(TRUTH.text, TRUTH.adaptation, TRUTH.finetuning, 2, 0, 0, residual_sd=1e-12)
    rows = simulate_study(quiet, draw_features(["length", "term density"], 6))
    for row in rows.itertuples():
        mean = 2 + 0.3 * row.length - 0.2 * row[rows.columns.get_loc("term density") + 1]
        settings = [0.0, 0.4][row.adaptation - 1] - 0.2 + [0.0, 0.1, -0.3][row.finetuning - 1] + 0.2 / 3
        assert row.score == pytest.approx(mean + settings, abs=1e-9)


def test_estimates_of_a_large_study_are_near_the_truth() -> None:
    features = draw_features(["length", "term density"], 1500, seed=3)
    truth = replace(TRUTH, residual_sd=0.2)
    model = fit_multilevel(study_formula(truth), simulate_study(truth, features, seed=4))
    errors = (model.fixed["estimate"] - pd.Series(truth.fixed)) / model.fixed["se"]
    assert errors.abs().max() < 3.5
    expected = true_components(truth, features)
    for name in ("f1", "f2", "v", "m", "residual"):
        assert getattr(model.components, name) == pytest.approx(getattr(expected, name), rel=0.12), name
    assert expected.residual == pytest.approx(0.04)
    assert expected.m == pytest.approx(0.25)


def test_true_variances_are_the_literal_ones() -> None:
    """v of uncorrelated slopes: slope_sd² times the summed variances of the columns, p(1−p) each, with n − 1."""
    features = draw_features(["length", "term density"], 8, seed=5)
    found = true_components(TRUTH, features)
    n = 8 * 6
    assert found.v == pytest.approx(0.04 * (1 / 4 + 2 / 9 + 2 / 9) * n / (n - 1))
    text = (0.3 * features["length"] - 0.2 * features["term density"]).repeat(6)
    assert found.f2 == pytest.approx(text.var(ddof=1))


def test_features_have_the_correlation_asked_for() -> None:
    drawn = draw_features(["a", "b", "c"], 20_000, correlation=0.6)
    assert drawn.corr().to_numpy()[np.triu_indices(3, 1)] == pytest.approx([0.6] * 3, abs=0.03)
    assert drawn.std().to_numpy() == pytest.approx(np.ones(3), abs=0.03)
    with pytest.raises(ValueError, match="3 features allow -0.5 to 1"):
        draw_features(["a", "b", "c"], 5, correlation=-0.7)


def test_impossible_studies_are_refused() -> None:
    features = draw_features(["length", "term density"], 4)
    with pytest.raises(LookupError, match="text feature 'term density'; there are length"):
        simulate_study(TRUTH, features[["length"]])
    with pytest.raises(ValueError, match="a name of its own"):
        simulate_study(TRUTH, features.set_index(pd.Index([0, 0, 1, 2])))
    with pytest.raises(ValueError, match="Standard deviations"):
        StudyTruth(text={}, adaptation=(1,), finetuning=(), sample_sd=-1)
    with pytest.raises(ValueError, match="residual_sd positive"):
        StudyTruth(text={}, adaptation=(1,), finetuning=(), residual_sd=0)
    with pytest.raises(ValueError, match="no level 1"):
        StudyTruth(text={"a": 1}, adaptation=(), finetuning=())
