"""The sequence of models: planted effects are found, noise is not, and bad rows are refused."""

import numpy as np
import pandas as pd
import pytest

from labutils.multilevel import (
    StudyTruth,
    draw_features,
    fit_sequence,
    model_table,
    simulate_study,
    study_table,
    truth_like,
)

TEXT = ["complexity", "term share"]


def study(n_samples: int = 24, *, crossed: float = 0.0, **changes: object) -> pd.DataFrame:
    """A study with an effect of complexity and, where asked for, one of it that depends on D2."""
    given = {"text": {"complexity": -0.6, "term share": 0.0}, "finetuning": (0.4, 0.0)}
    return simulated(n_samples, TEXT, crossed=crossed, **(given | changes))


def simulated(
    n_samples: int, names: list[str], *, seed: int = 0, crossed: float = 0.0, **changes: object
) -> pd.DataFrame:
    """Runs as `run_study` has them, those of the base model too."""
    truth = StudyTruth(**({"adaptation": (0.5,), "sample_sd": 0.2, "residual_sd": 0.5} | changes))
    rows = simulate_study(truth, draw_features(names, n_samples, seed=seed), seed=seed)
    score = rows["score"] + crossed * rows["complexity"] * rows["adaptation_2"]
    levels = {"adaptation": "D" + rows["adaptation"].astype(str), "finetuning": "H" + rows["finetuning"].astype(str)}
    runs = rows[["sample", *names]].assign(**levels, pearson=0.7 + 0.05 * score, spearman=0.6 + 0.05 * score)
    base = pd.DataFrame({"sample": "base", "adaptation": "none", "finetuning": ["H1", "H2", "H3"], "pearson": 0.1})
    return pd.concat([runs, base], ignore_index=True)


def test_table_scales_features_over_samples_and_centres_configurations_within_them() -> None:
    table = study_table(study(), TEXT)
    assert table.hyperparameters == {"adaptation": ["D2"], "finetuning": ["H2", "H3"]} and table.first == ["D1", "H1"]
    assert len(table.frame) == 24 * 6 and "base" not in set(table.frame["sample"])
    once = table.frame.drop_duplicates("sample")[TEXT]
    assert once.mean().to_numpy() == pytest.approx([0, 0]) and once.std(ddof=1).to_numpy() == pytest.approx([1, 1])
    assert table.frame.groupby("sample")[table.level_1].mean().abs().max(axis=None) < 1e-12
    assert set(table.frame["D2"]) == {-0.5, 0.5}
    zs = study_table(study(), TEXT, fisher=True).frame["pearson"]
    assert zs.to_numpy() == pytest.approx(np.arctanh(table.frame["pearson"].to_numpy()))


def test_sequence_finds_what_was_planted() -> None:
    table = study_table(study(), TEXT)
    sequence = fit_sequence(table)
    steps = sequence.steps.set_index("step")
    assert list(sequence.models) == ["M0", "M1", "M2", "M3", "M4"]
    assert steps.loc["hyperparameters", "p"] < 1e-6 and steps.loc["text features", "p"] < 1e-6
    assert steps.loc["hyperparameters", "reference"] == "χ²₃" and steps.loc["text features", "reference"] == "χ²₂"
    slope = [name for name in steps.index if name.startswith("slope of")]
    assert slope == [f"slope of {name} varies" for name in ("D2", "H2", "H3")] and not steps.loc[slope, "kept"].any()
    assert sequence["M4"] is sequence["M3"]  # no interaction was kept, for none was planted
    effect = sequence["M3"].fixed.loc["complexity"]
    spread = study().query("adaptation != 'none'").drop_duplicates("sample")["complexity"].std()
    assert abs(effect["estimate"] + 0.6 * 0.05 * spread) < 3 * effect["se"]
    numbers = model_table(sequence.models).set_index("model")
    assert numbers.loc["M0", "ICC"] == sequence["M0"].icc and numbers.loc["M0", "marginal R²"] == pytest.approx(0)
    assert numbers.loc["M1", "AIC (ML)"] > numbers.loc["M3", "AIC (ML)"]


def test_slopes_and_interactions_are_kept_where_they_are() -> None:
    varying = fit_sequence(study_table(study(slope_sd=0.8, residual_sd=0.3), TEXT))
    assert varying.steps.set_index("step").loc["slope of D2 varies", "kept"]
    assert "D2" in varying["M2"].covariances["sample"].index and "D2" in varying["M3"].covariances["sample"].index
    crossed = fit_sequence(study_table(study(crossed=0.8), TEXT))
    kept = crossed.steps.query("model == 'M4' and kept")["step"].tolist()
    assert "complexity × adaptation" in kept and "D2:complexity" in crossed["M4"].fixed.index
    assert crossed["M4"].fixed.loc["D2:complexity", "p"] < 1e-4


def test_slopes_that_the_runs_are_too_few_for_are_not_tested() -> None:
    steps = fit_sequence(study_table(simulated(12, TEXT[:1], text={"complexity": 0.5}, finetuning=()), TEXT[:1])).steps
    row = steps.set_index("step").loc["slope of D2 varies"]
    assert not row["kept"] and np.isnan(row["p"]) and "24 runs of 12 samples are too few" in row["note"]


def test_truth_like_a_model_carries_its_numbers() -> None:
    table = study_table(study(slope_sd=0.8, residual_sd=0.3), TEXT)
    model = fit_sequence(table)["M3"]
    truth = truth_like(model, table, {"a": 0.01})
    assert truth.fixed == {
        "(Intercept)": model.fixed.loc["(Intercept)", "estimate"], "a": 0.01,
        "adaptation_2": model.fixed.loc["D2", "estimate"],
        "finetuning_2": model.fixed.loc["H2", "estimate"], "finetuning_3": model.fixed.loc["H3", "estimate"],
    }  # fmt: skip
    assert truth.residual_sd**2 == pytest.approx(model.residual_variance)
    variances = np.diag(model.covariances["sample"])
    assert truth.sample_sd**2 == pytest.approx(variances[0]) and truth.slope_sd**2 == pytest.approx(
        variances[1:].sum() / 3
    )


def test_bad_rows_are_refused() -> None:
    runs = study()
    with pytest.raises(LookupError, match="fog"):
        study_table(runs, ["fog"])
    with pytest.raises(ValueError, match="is 1 in all samples"):
        study_table(runs.assign(fog=1.0), ["fog"])
    with pytest.raises(ValueError, match="one value per sample"):
        study_table(runs.assign(fog=np.arange(len(runs), dtype=float)), ["fog"])
    with pytest.raises(ValueError, match="one value per sample"):
        study_table(runs.assign(complexity=runs["complexity"].where(runs["sample"] != 3)), TEXT)
    with pytest.raises(ValueError, match="3 samples cannot tell 2 text features apart"):
        study_table(runs[runs["sample"].isin([0, 1, 2])], TEXT)
    single = runs[(runs["adaptation"] == "D1") & (runs["finetuning"] == "H1")]
    with pytest.raises(ValueError, match="no hyperparameter"):
        study_table(single, TEXT)
