"""Prior weights: R's numbers, the literal covariance of weighted rows, and what is refused.

Reference numbers: R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, every fit with lmerControl(calc.derivs=FALSE,
optCtrl=list(xtol_rel=1e-15, xtol_abs=1e-13, ftol_rel=1e-15, ftol_abs=1e-14, maxeval=1e5));
i is the number of a row, from 0.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data, literal_deviance, literal_fixed, row_covariance
from scipy.optimize import approx_fprime

from labutils.multilevel import bootstrap, compare_models, fit_multilevel
from labutils.multilevel.fit import fit_design
from labutils.multilevel.resampling import simulate_response

# lmer(<formula>, <table>, weights=w, REML=<reml>): weights by row, log-likelihood, σ², variances and covariances by
# (row, column) of the group's matrix, and estimate, SE, df of every fixed effect.
R = {
    "sleepstudy": (
        "Reaction ~ Days + (Days | Subject)", True, lambda i: 1 + i % 3,
        -889.145731374, 1492.19476709, {"Subject": [488.3436731, 35.4285724, 21.5611660]},
        [[251.8046859340631, 6.44698162677680, 16.9436178274737],
         [10.4358715281273, 1.57363130263913, 16.7922439200153]],
    ),
    "sleepstudy ML": (
        "Reaction ~ Days + (Days | Subject)", False, lambda i: 1 + i % 3,
        -893.265513371, 1492.49163327, {"Subject": [446.2636714, 32.8996250, 22.8568679]},
        [[251.8070831601860, 6.26282575841587, 17.9370300009997],
         [10.4350522386006, 1.52829832061915, 17.7686765199713]],
    ),
    "penicillin": (
        "diameter ~ 1 + (1 | plate) + (1 | sample)", True, lambda i: 0.5 + (i % 4) / 2,
        -168.986719020, 0.344112350441, {"plate": [0.7500783683], "sample": [3.738313066]},
        [[22.9289145690347, 0.810146760756011, 5.50981323924404]],
    ),
    "machines": (
        "score ~ Machine + (1 | Worker/Machine)", True, lambda i: 1 / (1 + i % 5),
        -113.283426899, 0.450830336586, {"Worker": [22.65722164], "Worker:Machine": [14.40295325]},
        [[52.39161864291491, 2.49675609605896, 8.65530742101055],
         [7.84502213258094, 2.21743918361191, 9.98318935250677],
         [13.84253127074831, 2.21808709521673, 9.99461779661018]],
    ),
    "popular2": (  # w = texp
        "popular ~ texp + extrav + sex + (extrav | class)", True, "texp",
        -2545.513577797, 7.79412381452, {"class": [1.0758436636, 0.02656964108, -0.1457682862]},
        [[1.065275028352410, 0.19982999707221016, 207.7481886276740],
         [0.085261022866614, 0.00898918625528835, 108.7063643895469],
         [0.409036303523791, 0.02346044794956309, 86.6733026723782],
         [1.247352652880542, 0.03617332078393427, 1919.2619331827748]],
    ),
}  # fmt: skip


def read(real_data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(real_data / "f_mixed_models" / f"{name.split()[0]}.csv")


@pytest.mark.parametrize("name", R)
def test_weighted_fits_agree_with_lme4_and_lmertest(real_data: Path, name: str) -> None:
    formula, reml, weights, log_likelihood, residual, random, fixed = R[name]
    data = read(real_data, name)
    weights = weights if isinstance(weights, str) else weights(np.arange(len(data)))
    model = fit_multilevel(formula, data, reml=reml, weights=weights)
    assert model.log_likelihood == pytest.approx(log_likelihood, abs=1e-6)
    assert model.residual_variance == pytest.approx(residual, rel=1e-5)
    for group, expected in random.items():
        found = model.covariances[group].to_numpy()
        assert [*np.diag(found), *found[np.tril_indices(len(found), -1)]] == pytest.approx(expected, rel=2e-5)
    estimate, se, df = np.array(fixed).T
    assert model.fixed["estimate"].to_numpy() == pytest.approx(estimate, rel=1e-6)
    assert model.fixed["se"].to_numpy() == pytest.approx(se, rel=1e-6)
    assert model.fixed["df"].to_numpy() == pytest.approx(df, rel=1e-4)
    assert "prior weights" in repr(model)


def test_weighted_predictions_of_groups_agree_with_lme4(real_data: Path) -> None:
    """ranef(lmer(Reaction ~ Days + (Days|Subject), sleepstudy, weights=w), condVar=TRUE), w as above."""
    data = read(real_data, "sleepstudy")
    model = fit_multilevel("Reaction ~ Days + (Days | Subject)", data, weights=1 + np.arange(180) % 3)
    found = model.blups.loc[("Subject", [308, 309]), "estimate"].to_numpy()
    expected = [3.07484436566211, 8.91899177063648, -38.09495784721958, -9.05361996441509]
    assert found == pytest.approx(expected, rel=2e-5)
    first = model.blups.loc[("Subject", 308), "se"].to_numpy()
    assert first == pytest.approx([12.42670485393129, 2.42731106643692], rel=1e-5)
    assert model.pearson_residuals == pytest.approx(np.sqrt(1 + np.arange(180) % 3) * model.residuals)


def test_weighted_likelihood_ratios_agree_with_lme4(real_data: Path) -> None:
    """anova(a, b, refit=FALSE) for the variance, by REML; anova(a, b) for the fixed effects, by ML."""
    data = read(real_data, "machines")
    w = 1 / (1 + np.arange(len(data)) % 5)
    smaller = fit_multilevel("score ~ Machine + (1 | Worker)", data, weights=w)
    larger = fit_multilevel("score ~ Machine + (1 | Worker/Machine)", data, weights=w)
    assert compare_models(smaller, larger).statistic == pytest.approx(2 * (147.7581879528 - 113.2834268987), abs=1e-6)
    without = fit_multilevel("score ~ 1 + (1 | Worker)", data, weights=w)
    fixed = compare_models(without, smaller)
    assert (fixed.method, fixed.statistic) == ("ML", pytest.approx(374.956844926 - 302.455703379, abs=1e-5))
    with pytest.raises(ValueError, match="different prior weights"):
        compare_models(smaller, fit_multilevel("score ~ Machine + (1 | Worker/Machine)", data))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", ["y ~ x + w + (1 + x | g)", "y ~ 0 + x + (1 | g) + (1 | h)", "y ~ c + (0 + x | g)"])
def test_weighted_deviance_and_estimates_are_the_literal_ones(formula: str, reml: bool) -> None:
    """With V = Z T Z' + σ² W⁻¹ written out; and no other value of the parameters nearby is better."""
    data = grouped_data(4)
    weights = np.random.default_rng(1).uniform(0.2, 5, len(data))
    model = fit_multilevel(formula, data, reml=reml, weights=weights)
    covariances = [table.to_numpy() for table in model.covariances.values()]
    value = literal_deviance(model.design, covariances, model.residual_variance, reml)
    assert -2 * model.log_likelihood == pytest.approx(value, rel=1e-9)
    fixed, covariance = literal_fixed(model.design, covariances, model.residual_variance)
    assert model.coefficients == pytest.approx(fixed, rel=1e-8)
    assert model.fixed_covariance.to_numpy() == pytest.approx(covariance, rel=1e-6)
    around = np.log([np.diag(t)[0] + 1e-9 for t in covariances] + [model.residual_variance])

    def of(logs: np.ndarray) -> float:
        scaled = [t * np.exp(log - old) for t, log, old in zip(covariances, logs, around, strict=False)]
        return literal_deviance(model.design, scaled, np.exp(logs[-1]), reml)

    singular = np.array([np.diag(t)[0] < 1e-8 for t in covariances] + [False])
    assert np.abs(approx_fprime(around, of, 1e-6)[~singular]).max() < 1e-2
    left = data["y"].to_numpy() - model.design.x @ fixed
    inverse = np.linalg.inv(row_covariance(model.design, covariances, model.residual_variance))
    grouping, t = model.design.groupings[0], covariances[0]
    z = grouping.columns * (grouping.codes == 0)[:, None]
    found = model.blups.loc[(grouping.name, grouping.levels[0]), "estimate"]
    assert found.to_numpy() == pytest.approx(t @ z.T @ inverse @ left, rel=1e-6, abs=1e-8)


def test_equal_weights_change_the_scale_alone() -> None:
    data = grouped_data(2)
    plain, same, scaled = (
        fit_multilevel("y ~ x + (1 + x | g)", data, weights=w) for w in (None, 1 + 0 * data["x"], [4.0] * len(data))
    )
    assert same.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-9)
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-9)
    assert scaled.residual_variance == pytest.approx(4 * plain.residual_variance, rel=1e-6)
    assert scaled.fixed.to_numpy() == pytest.approx(plain.fixed.to_numpy(), rel=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scaled.r2().to_numpy() == pytest.approx(plain.r2().to_numpy(), rel=1e-5, nan_ok=True)
    assert scaled.icc == pytest.approx(plain.icc, rel=1e-5)


def test_weights_of_any_size_and_crossed_factors_that_stay_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    data = grouped_data(6, n_groups=12)
    weights = np.random.default_rng(2).uniform(0.5, 2, len(data))
    dense = fit_multilevel("y ~ x + (1 | g) + (1 | h)", data, weights=weights)
    monkeypatch.setattr("labutils.multilevel.coordinates.MANY", 0)
    monkeypatch.setattr("labutils.multilevel.coordinates.SPARSE", 2.0)
    sparse = fit_multilevel("y ~ x + (1 | g) + (1 | h)", data, weights=1e20 * weights)
    assert sparse.fit.problem.products.between is not None and dense.fit.problem.products.between is None
    assert sparse.log_likelihood == pytest.approx(dense.log_likelihood, abs=1e-6)
    assert sparse.fixed.to_numpy() == pytest.approx(dense.fixed.to_numpy(), rel=1e-5)
    assert sparse.residual_variance == pytest.approx(1e20 * dense.residual_variance, rel=1e-5)


def test_a_row_s_residuals_are_drawn_with_its_variance() -> None:
    data = pd.concat([grouped_data(3)] * 10, ignore_index=True)
    weights = np.where(np.arange(len(data)) % 2, 100.0, 1.0)
    model = fit_multilevel("y ~ x + (1 | g)", data, weights=weights)
    generator, off = np.random.default_rng(0), []
    for _ in range(20):
        drawn = simulate_response(model, generator) - model.design.x @ model.coefficients
        off.append(
            drawn
            - (
                np.bincount(model.design.groupings[0].codes, drawn * weights)
                / np.bincount(model.design.groupings[0].codes, weights)
            )[model.design.groupings[0].codes]
        )
    spread = [np.std([each[weights == w] for each in off]) for w in (1, 100)]
    assert spread[0] / spread[1] == pytest.approx(10, rel=0.1)
    found = bootstrap(model, lambda m: m.fixed["estimate"], method="cluster", n_resamples=8, level=0.7)
    assert found.table["low"].lt(found.table["estimate"]).all() and not found.note


def test_shares_of_variance_are_refused_where_rows_differ() -> None:
    data = grouped_data(2)
    model = fit_multilevel("y ~ x + (1 | g)", data, weights=1 + (data["x"] > 0))
    for ask in (
        lambda: model.icc,
        model.r2,
        model.nakagawa,
        lambda: model.block_shares({"x": ["x"]}),
        lambda: bootstrap(model),
    ):
        with pytest.raises(ValueError, match="one residual variance for all rows"):
            ask()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda d: np.where(d.index == 3, 0.0, 1.0), "1 are not, the first in row 3 .*: 0. Leave out rows"),
        (lambda d: np.where(d.index >= 2, -1.0, 1.0), "the first in row 2"),
        (lambda d: np.where(d.index == 0, np.nan, 1.0), "row 0 .*: nan"),
        (lambda d: np.full(len(d), np.inf), "positive and finite"),
        (lambda d: [1.0, 2.0], r"shape \(2,\)"),
        (lambda d: np.ones((len(d), 1)), r"shape \(51, 1\)"),
        (lambda d: "c", "column 'c' are no numbers"),
        (lambda d: pd.Series(1.0, index=d.index + 1), "index of `weights`"),
    ],
)  # fmt: skip
def test_weights_that_are_none_are_refused(weights: object, message: str) -> None:
    data = grouped_data(1)
    with pytest.raises(ValueError, match=message):
        fit_multilevel("y ~ x + (1 | g)", data, weights=weights(data))


def test_a_missing_weight_column_names_the_nearest() -> None:
    with pytest.raises(LookupError, match="no column 'items'.*Did you mean 'item'"):
        fit_multilevel("y ~ x + (1 | g)", grouped_data(1).assign(item=1.0), weights="items")


def test_predictors_that_only_rows_of_little_weight_tell_apart_are_refused() -> None:
    data = grouped_data(1)
    data["twin"] = data["x"] + 1e-3 * (data.index == 0)
    fit_multilevel("y ~ x + twin + (1 | g)", data)
    with pytest.raises(ValueError, match="'twin' is a linear combination"):
        fit_multilevel("y ~ x + twin + (1 | g)", data, weights=np.where(data.index == 0, 2e-9, 1.0))


def test_one_row_of_nearly_all_the_weight() -> None:
    """Where it counts a hundred million times as much as others there is still a fit, the literal one."""
    data = grouped_data(1)
    model = fit_multilevel("y ~ x + (1 | g)", data, weights=np.where(data.index == 0, 1e8, 1.0))
    found = literal_deviance(model.design, [model.covariances["g"].to_numpy()], model.residual_variance, True)
    assert -2 * model.log_likelihood == pytest.approx(found, abs=1e-4)
    with pytest.raises(ValueError, match="differ by a factor of 1e\\+12"):
        fit_multilevel("y ~ x + (1 | g)", data, weights=np.where(data.index == 0, 1e12, 1.0))


def test_a_refit_and_a_new_response_keep_the_weights() -> None:
    data = grouped_data(2)
    model = fit_multilevel("y ~ x + (1 | g)", data, weights=1 + (data["x"] > 0))
    again = fit_design(model.design.with_response(model.design.y), reml=False)
    assert again.deviance == pytest.approx(-2 * model.refit(reml=False).log_likelihood, rel=1e-12)
    assert model.refit(reml=False).design.weights is model.design.weights
