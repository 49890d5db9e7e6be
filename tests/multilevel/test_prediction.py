"""Predictions for new data: R's numbers, agreement with `fitted`, codings that are kept, and what is refused."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data

from labutils.multilevel import fit_multilevel


def read(real_data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(real_data / "f_mixed_models" / f"{name}.csv")


def test_predictions_agree_with_lme4(real_data: Path) -> None:
    """R 4.2.2, lme4 1.1-31: predict(m, new, re.form=NA), predict(m, new, allow.new.levels=TRUE), re.form=~(1|Worker).

    lmer(Reaction ~ Days + (Days|Subject), sleepstudy, weights=1+i%%3), lmer(score ~ Machine + (1|Worker/Machine),
    machines, weights=1/(1+i%%5)), i the number of a row from 0, optimiser tolerances 1e-15.
    """
    data = read(real_data, "sleepstudy")
    model = fit_multilevel("Reaction ~ Days + (Days | Subject)", data, weights=1 + np.arange(180) % 3)
    new = pd.DataFrame({"Days": [0, 9, 4.5], "Subject": [308, 372, 999]})
    mean = [251.804685934063, 345.727529687209, 298.766107810636]
    assert model.predict(new[["Days"]], groups=False) == pytest.approx(mean, rel=1e-7)
    found = model.predict(new, new_levels="mean")
    assert found == pytest.approx([254.879530299725, 370.585976753775, 298.766107810636], rel=1e-6)
    data = read(real_data, "machines")
    model = fit_multilevel("score ~ Machine + (1 | Worker/Machine)", data, weights=1 / (1 + np.arange(54) % 5))
    new = pd.DataFrame({"Machine": ["A", "C", "B"], "Worker": [1, 6, 7]})
    mean = [52.3916186429149, 66.2341499136632, 60.2366407754959]
    assert model.predict(new, groups=False) == pytest.approx(mean, rel=1e-7)
    found = model.predict(new, new_levels="mean")
    assert found == pytest.approx([52.4375163305399, 61.3902982221231, 60.2366407754959], rel=1e-6)
    found = model.predict(new, groups="Worker", new_levels="mean")
    assert found == pytest.approx([53.5699507911014, 58.6584495236594, 60.2366407754959], rel=1e-6)


def test_scale_keeps_the_mean_and_spread_of_the_fitted_data(real_data: Path) -> None:
    """lmer(Reaction ~ scale(Days) + I(Days^2) + (1|Subject), sleepstudy), predicted with and without subject 308."""
    model = fit_multilevel("Reaction ~ scale(Days) + I(Days^2) + (1 | Subject)", read(real_data, "sleepstudy"))
    new = pd.DataFrame({"Days": [2, 8], "Subject": 308})
    assert model.predict(new) == pytest.approx([312.451543446195, 377.277393168418], rel=1e-7)
    assert model.predict(new, groups=False) == pytest.approx([271.665632112792, 336.491481835015], rel=1e-7)
    assert model.predict(new[:1]) == pytest.approx([312.451543446195], rel=1e-7)


def codings() -> pd.DataFrame:
    data = grouped_data(3, n_groups=12)
    generator = np.random.default_rng(0)
    data["year"] = generator.integers(2000, 2003, len(data))
    data["flag"] = data["x"] > 0.2
    data["kind"] = pd.Categorical(data["c"], categories=["c", "a", "b", "unused"])
    data["positive"] = np.exp(data["x"])
    return data


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 + x | g)",
        "y ~ c * x + (1 | g) + (1 | h)",
        "y ~ 0 + kind + flag + (0 + x | g)",
        "y ~ 0 + C(year):flag + x + (x || g)",
        "y ~ scale(log(positive)) + center(w) + I(x^2 - 1) + (scale(x) | g)",
        "log(positive) ~ w + c + (1 | g/h)",
        "y ~ x + (0 + flag | g) + (1 | c:h)",
    ],
)
def test_the_fitted_data_predicted_are_the_fitted_values(formula: str) -> None:
    """In any order of the rows, and for some of them, whatever levels are among these."""
    data = codings()
    model = fit_multilevel(formula, data)
    mixed = data.sample(frac=1, random_state=1)
    for rows in (mixed, mixed[:1], mixed[5:8]):
        new = rows.drop(columns="y" if formula.startswith("y") else "positive")
        assert model.predict(new) == pytest.approx(model.fitted[rows.index], rel=1e-9, abs=1e-9)
        assert model.predict(new, groups=False) == pytest.approx((model.design.x @ model.coefficients)[rows.index])
        names = [grouping.name for grouping in model.design.groupings]
        parts = [model.predict(new, groups=name) - model.predict(new, groups=False) for name in names]
        whole = model.predict(new, groups=names) - model.predict(new, groups=False)
        assert whole == pytest.approx(np.sum(parts, axis=0), abs=1e-9)
    assert data.equals(codings())


def test_a_later_change_of_the_fitted_frame_changes_nothing() -> None:
    data = grouped_data(3)
    model = fit_multilevel("y ~ scale(x) + c + (1 | g)", data)
    new = grouped_data(3)[:4]
    expected = model.predict(new)
    data["x"] = 0.0
    data.loc[:, "c"] = "z"
    data.loc[:, "g"] = "other"
    assert model.predict(new).tolist() == expected.tolist() and np.allclose(expected, model.fitted[:4])


def test_combined_labels_that_coincide_are_told_apart() -> None:
    data = grouped_data(5, n_groups=12)
    pairs = list(itertools.product(["a", "a:b"], ["b:c", "c"]))  # "a:b:c" twice
    data["one"], data["other"] = zip(*(pairs[i % 4] for i in range(len(data))), strict=True)
    data["y"] += pd.Series([pairs.index(pair) for pair in zip(data["one"], data["other"], strict=True)]) * 2.0
    model = fit_multilevel("y ~ x + (1 | one:other)", data)
    assert model.predict(data) == pytest.approx(model.fitted)
    data["n"] = data["one"].eq("a").astype(int)
    numbered = fit_multilevel("y ~ x + (1 | n:other)", data)
    assert numbered.predict(data.astype({"n": float})) == pytest.approx(numbered.fitted)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"c": "z"}, {}, ValueError, r"no level 'z' of 'c'.*fitted with 'a', 'b', 'c'"),
        ({"c": 1}, {}, ValueError, r"no level 1 of 'c'"),
        (
            {"g": "g99"},
            {},
            ValueError,
            r"1 rows belong to levels of 'g'.*row 0.*g99.*Known are 'g0'.*new_levels='mean'",
        ),
        ({"x": np.nan}, {}, ValueError, "missing: 'x' in 1 rows"),
        ({"x": np.inf}, {}, ValueError, "'x' is not finite"),
        ({"x": "one"}, {}, ValueError, "'x' must hold numbers"),
        ({"g": None}, {}, ValueError, "missing: 'g'"),
        ({}, {"new_levels": "drop"}, ValueError, "new_levels='drop'.*'refuse', 'mean'"),
        ({}, {"groups": "gg"}, LookupError, "no grouping factor 'gg'.*Did you mean 'g'"),
    ],
)
def test_what_cannot_be_predicted_is_refused(change: dict, options: dict, error: type, message: str) -> None:
    data = grouped_data(1, n_groups=12)
    model = fit_multilevel("y ~ x + c + (1 | g)", data)
    with pytest.raises(error, match=message):
        model.predict(data[:1].assign(**change), **options)


@pytest.mark.parametrize("missing", ["x", "c", "g"])
def test_a_missing_column_is_named(missing: str) -> None:
    data = grouped_data(1, n_groups=12)
    model = fit_multilevel("y ~ x + c + (1 | g)", data)
    with pytest.raises(LookupError, match=f"no column '{missing}'"):
        model.predict(data.drop(columns=missing))
    if missing == "g":
        assert len(model.predict(data.drop(columns="g"), groups=False)) == len(data)


def test_a_singular_fit_and_groups_of_one_row_predict() -> None:
    data = grouped_data(1, sd=(0.0, 0.0))
    data["y"] -= 0.95 * data.groupby("g")["y"].transform("mean")
    data.loc[0, "g"] = "alone"
    model = fit_multilevel("y ~ x + (1 | g)", data)
    assert model.singular
    assert model.predict(data) == pytest.approx(model.predict(data, groups=False))


def test_no_rows_and_no_frame_are_refused() -> None:
    data = grouped_data(1)
    model = fit_multilevel("y ~ 1 + (1 | g)", data)
    with pytest.raises(ValueError, match="no rows"):
        model.predict(data[:0])
    assert model.predict(data[["x"]], groups=False) == pytest.approx(model.coefficients[0])
