"""Variance shares against literal sums, on both sides of the centring test."""

import warnings

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data

from labutils.multilevel import MultilevelModel, centre_within, fit_multilevel
from labutils.multilevel.variance_shares import levels_of_columns

CENTRED = centre_within(grouped_data(12, n_groups=15), ["x"], "g")
FORMULA = "y ~ x_within + x_between + w + x_within:w + (1 + x_within | g)"


def literal_covariance(a: np.ndarray, b: np.ndarray) -> float:
    """Σ (a_i − ā)(b_i − b̄)/(n − 1), term by term."""
    total = 0.0
    for one, other in zip(a, b, strict=True):
        total += (one - a.mean()) * (other - b.mean())
    return total / (len(a) - 1)


def quadratic(model: MultilevelModel, terms: list[str]) -> float:
    """Σ_k Σ_l b_k b_l cov(x_k, x_l) over some fixed effects."""
    columns = dict(zip(model.design.terms, model.design.x.T, strict=True))
    b = model.fixed["estimate"]
    return sum(b[k] * b[m] * literal_covariance(columns[k], columns[m]) for k in terms for m in terms)


def random_parts(model: MultilevelModel) -> tuple[float, float]:
    """v = Σ_k Σ_l T_kl cov(z_l, z_k) and m = Σ_k Σ_l z̄_k T_kl z̄_l."""
    z, t = model.design.groupings[0].columns, model.covariances["g"].to_numpy()
    q = range(len(t))
    v = sum(t[k, m] * literal_covariance(z[:, m], z[:, k]) for k in q for m in q)
    return v, sum(z[:, k].mean() * t[k, m] * z[:, m].mean() for k in q for m in q)


def test_decomposition_is_the_literal_one() -> None:
    model = fit_multilevel(FORMULA, CENTRED)
    f1, f2 = quadratic(model, ["x_within", "x_within:w"]), quadratic(model, ["(Intercept)", "x_between", "w"])
    v, m = random_parts(model)
    s = model.residual_variance
    total, within, between = f1 + f2 + v + m + s, f1 + v + s, f2 + m
    expected = {
        "total": [f1 / total, f2 / total, v / total, m / total, s / total],
        "within": [f1 / within, np.nan, v / within, np.nan, s / within],
        "between": [np.nan, f2 / between, np.nan, m / between, np.nan],
    }
    found = model.r2()
    assert list(found.columns) == ["f1", "f2", "v", "m", "residual", "f", "fv", "fvm"]
    for row, values in expected.items():
        assert found.loc[row].iloc[:5].tolist() == pytest.approx(values, rel=1e-9, nan_ok=True)
    assert found.loc["total", ["f1", "f2", "v", "m", "residual"]].sum() == pytest.approx(1)
    assert found.loc["total", "fvm"] == pytest.approx(1 - s / total)
    assert found.loc["within", "fv"] == pytest.approx((f1 + v) / within)
    assert m == pytest.approx(model.covariances["g"].iloc[0, 0])  # with centred slopes, m is the intercept's variance
    assert found.attrs["note"] == ""


def test_uncentred_predictors_give_totals_and_a_reason() -> None:
    model = fit_multilevel("y ~ x + w + (1 + x | g)", CENTRED)
    with pytest.warns(UserWarning, match="Only totals: 'x' not centred in every 'g'.*centre_within"):
        found = model.r2()
    assert list(found.index) == ["total"]
    assert found[["f1", "f2"]].isna().all(axis=None)
    f = quadratic(model, ["x", "w"])
    v, m = random_parts(model)
    total = f + v + m + model.residual_variance
    assert found.loc["total", ["f", "v", "m"]].tolist() == pytest.approx([f / total, v / total, m / total], rel=1e-9)
    assert "not centred" in found.attrs["note"]


@pytest.mark.parametrize("where", ["fixed", "random"])
def test_grand_mean_centring_is_not_centring(where: str) -> None:
    """Its sum over all rows is zero too, but not in any single group."""
    data = CENTRED.assign(x_grand=CENTRED["x"] - CENTRED["x"].mean())
    formula = "y ~ x_grand + (1 | g)" if where == "fixed" else "y ~ x_within + (1 + x_grand | g)"
    with pytest.warns(UserWarning, match="'x_grand' not centred"):
        fit_multilevel(formula, data).r2()


def test_a_predictor_centred_in_all_groups_but_one_is_not_centred() -> None:
    data = CENTRED.assign(almost=CENTRED["x_within"] + 0.5 * (CENTRED["g"] == "g3"))
    within, between = levels_of_columns(
        data[["x_within", "almost", "w", "x"]].to_numpy(), data["g"].factorize()[0].astype(np.int64)
    )
    assert within.tolist() == [True, False, False, False]
    assert between.tolist() == [False, False, True, False]


def test_nakagawa_is_the_literal_one() -> None:
    model = fit_multilevel("y ~ x + (1 + x | g) + (1 | h)", CENTRED)
    fixed = model.design.x @ model.fixed["estimate"].to_numpy()
    random = 0.0
    for grouping in model.design.groupings:
        t = model.covariances[grouping.name].to_numpy()
        random += np.mean([z @ t @ z for z in grouping.columns])
    f, s = literal_covariance(fixed, fixed), model.residual_variance
    found = model.nakagawa()
    assert found["marginal"] == pytest.approx(f / (f + random + s), rel=1e-9)
    assert found["conditional"] == pytest.approx((f + random) / (f + random + s), rel=1e-9)
    assert model.icc == pytest.approx(random / (random + s), rel=1e-9)


def test_several_grouping_factors_have_no_such_decomposition() -> None:
    model = fit_multilevel("y ~ x_within + (1 | g) + (1 | h)", CENTRED)
    with pytest.raises(ValueError, match=r"one grouping factor, not for g, h: use nakagawa\(\)"):
        model.r2()


def test_blocks_of_predictors_add_up_to_the_total() -> None:
    model = fit_multilevel(FORMULA, CENTRED)
    found = model.block_shares({"text": ["x_between", "w"], "setting": ["x_within", "x_within:w"]})
    shares = model.r2().loc["total"]
    assert found.loc["text"].tolist() == pytest.approx([shares["f2"], 0], abs=1e-12)
    assert found.loc["setting"].tolist() == pytest.approx([shares["f1"], shares["v"]])
    assert found.loc["shared"].tolist() == pytest.approx([0, 0], abs=1e-10)
    single = model.block_shares({name: [name] for name in model.design.terms[1:]})
    assert single.sum().tolist() == pytest.approx([shares["f"], shares["v"]])
    own = quadratic(model, ["w"]) / quadratic(model, ["x_between", "w"]) * shares["f2"]
    assert single.loc["w", "fixed"] == pytest.approx(own)


@pytest.mark.parametrize(
    ("blocks", "kind", "message"),
    [
        ({"a": ["x_within", "x_within:w", "x_between"]}, ValueError, "every fixed effect once"),
        ({"a": ["x_within", "x_within:w", "x_between", "w"], "b": ["w"]}, ValueError, "every fixed effect once"),
        ({"a": ["z"]}, LookupError, "no fixed effect 'z'"),
    ],
)
def test_blocks_must_hold_every_predictor_once(blocks: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        fit_multilevel(FORMULA, CENTRED).block_shares(blocks)


def test_centring_splits_a_predictor_in_two() -> None:
    data = pd.DataFrame({"g": ["a", "a", "b"], "x": [1.0, 3.0, 10.0]}, index=[5, 5, 2])
    found = centre_within(data, ["x"], "g")
    assert found["x_between"].tolist() == [2, 2, 10]
    assert found["x_within"].tolist() == [-1, 1, 0]
    assert list(data.columns) == ["g", "x"]
    with pytest.raises(LookupError, match="no column 'z'"):
        centre_within(data, ["z"], "g")


def test_shares_of_a_singular_fit() -> None:
    data = CENTRED.assign(y=CENTRED["y"] - 0.97 * CENTRED.groupby("g")["y"].transform("mean"))
    model = fit_multilevel("y ~ x_within + (1 | g)", data)
    assert model.singular
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.r2()
    assert found.loc["total", "m"] == 0
    assert found.loc["between"].isna().all()  # no variance between groups that could be divided
