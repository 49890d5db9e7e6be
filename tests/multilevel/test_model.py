"""Whole fits: published and reference values of real tables, predictions, comparison with statsmodels."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data, row_covariance

from labutils.multilevel import MultilevelModel, fit_multilevel

REFERENCE_FITS = ["teachsat_A", "teachsat_B", "hsb82", "popular2", "sleepstudy", "sleepstudy_cwc"]
TABLES = {"teachsat_A": "teachsat_r2mlm_0.1.0", "teachsat_B": "teachsat_r2mlm_0.1.0", "sleepstudy_cwc": "sleepstudy"}


def table(folder: Path, name: str) -> pd.DataFrame:
    """A table of the folder, with predictors centred in their groups where a reference fit uses them."""
    data = pd.read_csv(folder / "f_mixed_models" / f"{TABLES.get(name, name)}.csv")
    centred = {
        "sleepstudy": ("Subject", {"Days_c": "Days"}),
        "popular2": ("class", {"extrav_c": "extrav", "sex_c": "sex"}),
    }
    group, columns = centred.get(TABLES.get(name, name), ("", {}))
    return data.assign(**{new: data[old] - data.groupby(group)[old].transform("mean") for new, old in columns.items()})


@pytest.mark.parametrize("name", REFERENCE_FITS)
def test_fits_agree_with_lme4_and_lmertest(real_data: Path, name: str) -> None:
    reference = json.loads((real_data / "f_mixed_models" / "lmer_reference.json").read_text())[name]
    model = fit_multilevel(reference["formula"], table(real_data, name))
    fixed = pd.DataFrame(reference["fixed"]).set_index("term")
    assert list(model.fixed.index) == list(fixed.index)
    assert model.fixed["estimate"].to_numpy() == pytest.approx(fixed["Estimate"].to_numpy(), rel=1e-4)
    assert model.fixed["se"].to_numpy() == pytest.approx(fixed["Std. Error"].to_numpy(), rel=1e-3)
    assert model.fixed["df"].to_numpy() == pytest.approx(fixed["df"].to_numpy(), rel=0.02)
    assert model.fixed["t"].to_numpy() == pytest.approx(fixed["t value"].to_numpy(), rel=1e-3)
    assert np.log(model.fixed["p"].to_numpy()) == pytest.approx(np.log(fixed["Pr(>|t|)"].to_numpy()), rel=0.02)
    assert model.covariances[reference["group"]].to_numpy() == pytest.approx(np.array(reference["tau"]), rel=1e-3)
    assert model.residual_variance == pytest.approx(reference["residual_variance"], rel=1e-3)
    assert model.log_likelihood == pytest.approx(reference["logLik_REML"], abs=1e-5)
    assert model.singular == reference["singular"]
    ml = model.refit(reml=False)
    assert ml.log_likelihood == pytest.approx(reference["logLik_ML"], abs=1e-5)
    assert (ml.aic, ml.bic) == pytest.approx((reference["AIC_ML"], reference["BIC_ML"]), abs=1e-4)


@pytest.mark.parametrize("name", REFERENCE_FITS)
def test_variance_shares_agree_with_r2mlm_and_performance(real_data: Path, name: str) -> None:
    reference = json.loads((real_data / "f_mixed_models" / "lmer_reference.json").read_text())[name]
    data = table(real_data, name)
    model = fit_multilevel(reference["formula"], data)
    null = fit_multilevel(f"{model.design.response} ~ 1 + (1 | {reference['group']})", data)
    assert null.icc == pytest.approx(reference["null_icc"], abs=1e-5)
    for kind, value in reference["nakagawa"].items():
        assert model.nakagawa()[kind] == pytest.approx(value, abs=1e-5)
    expected = reference["rights_sterba"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.r2()
    assert ("within" in found.index) == expected["cluster_mean_centred"]
    shares = {("total", key): value for key, value in expected["total_R2"].items()}
    for row in ("total", "within", "between"):
        parts = expected.get("decomposed", {}).get(row, {})
        shares |= {(row, "fv" if key == "f1v" else key): value for key, value in parts.items()}
    assert len(shares) >= 5
    for (row, column), value in shares.items():
        assert found.loc[row, column] == pytest.approx(value, abs=1e-5), (row, column)


@pytest.mark.parametrize(
    ("name", "formula", "reml", "deviance", "tolerance", "sd"),
    [
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)", True, 1743.6283, 1e-4, [24.741, 5.922, 25.59]),
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)", False, 1751.9393, 1e-4, [23.7807, 5.7168, 25.5918]),
        ("sleepstudy", "Reaction ~ Days + (Days || Subject)", False, 1752.00326, 1e-5, [24.1713, 5.7994, 25.5561]),
        ("dyestuff", "Yield ~ 1 + (1 | Batch)", False, 327.32706, 1e-5, [37.26034, 49.51010]),
        ("dyestuff", "Yield ~ 1 + (1 | Batch)", True, 319.654277, 1e-5, [42.00063, 49.51010]),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", False, 332.18835, 1e-5,
         [0.845572, 1.770666, 0.549932]),
        ("hsb82", "mAch ~ 1 + (1 | school)", True, 47116.793477, 1e-4, [2.93501, 6.25686]),
        ("machines", "score ~ Machine + (1 | Worker)", True, 2 * 143.44, 0.01, [5.1466, 3.1616]),
        ("machines", "score ~ Machine + (1 | Worker/Machine)", True, 2 * 107.84, 0.01, [4.781, 3.7295, 0.96158]),
        ("ergostool", "effort ~ Type + (1 | Subject)", True, 121.1308, 1e-3, [1.3325, 1.1003]),
        ("oxboys", "height ~ age + I(age^2) + I(age^3) + I(age^4) + (age + I(age^2) | Subject)", True, 627.9, 0.05,
         [8.0021, 1.6924, 0.8212, 0.46626]),
        ("popular2", "popular ~ texp + extrav + sex + (extrav | class)", False, 4812.8069, 1e-4,
         [1.13159, 0.18419, 0.74284]),
        ("popular2", "popular ~ texp + extrav + sex + (extrav || class)", False, 4851.9526, 1e-4,
         [0.43923, 0.07882, 0.76022]),
    ],
)  # fmt: skip
def test_published_deviances_and_standard_deviations(
    real_data: Path, name: str, formula: str, reml: bool, deviance: float, tolerance: float, sd: list[float]
) -> None:
    """Pinheiro & Bates, lme4, MixedModels.jl, HLM and Mplus; the residual comes last."""
    model = fit_multilevel(formula, table(real_data, name), reml=reml)
    assert -2 * model.log_likelihood == pytest.approx(deviance, abs=tolerance)
    found = [*model.random["sd"], np.sqrt(model.residual_variance)]
    assert found == pytest.approx(sd, rel=1e-3)


def test_published_fixed_effects(real_data: Path) -> None:
    sleep = fit_multilevel("Reaction ~ Days + (Days | Subject)", table(real_data, "sleepstudy"), reml=False)
    assert sleep.fixed["se"].tolist() == pytest.approx([6.63230, 1.50224], abs=1e-4)
    boys = fit_multilevel(
        "height ~ age + I(age^2) + I(age^3) + I(age^4) + (age + I(age^2) | Subject)", table(real_data, "oxboys")
    )
    assert boys.fixed["estimate"].tolist() == pytest.approx([149.0189, 6.1742, 1.1282, 0.4539, -0.3769], abs=2e-4)
    assert boys.fixed["se"].tolist() == pytest.approx([1.5711, 0.3566, 0.3514, 0.1624, 0.3002], abs=1e-3)
    assert list(boys.fixed.index[2:]) == ["I(age^2)", "I(age^3)", "I(age^4)"]


@pytest.mark.parametrize("formula", ["y ~ x + w + (1 + x | g)", "y ~ x + (1 | g) + (0 + x | g)", "y ~ c + (1 | g/h)"])
def test_predictions_are_conditional_expectations(formula: str) -> None:
    """u = T Z'V⁻¹(y − Xb) and its conditional variance T − T Z'V⁻¹Z T, from the literal covariance of the rows."""
    model = fit_multilevel(formula, grouped_data(2))
    covariances = [table.to_numpy() for table in model.covariances.values()]
    inverse = np.linalg.inv(row_covariance(model.design, covariances, model.residual_variance))
    left = model.design.y - model.design.x @ model.fixed["estimate"].to_numpy()
    fitted = model.design.y - left
    for grouping, t in zip(model.design.groupings, covariances, strict=True):
        for number, level in enumerate(grouping.levels):
            z = grouping.columns * (grouping.codes == number)[:, None]
            expected = t @ z.T @ inverse @ left
            spread = t - t @ z.T @ inverse @ z @ t
            found = model.blups.loc[(grouping.name, level)]
            assert found["estimate"].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)
            assert found["se"].tolist() == pytest.approx(np.sqrt(np.diag(spread)), rel=1e-6, abs=1e-6)
            fitted = fitted + z @ expected
    assert model.fitted == pytest.approx(fitted, rel=1e-8)
    assert model.residuals == pytest.approx(model.design.y - fitted, abs=1e-8)


def test_random_table_has_variances_and_correlations_of_each_block() -> None:
    model = fit_multilevel("y ~ x + (1 + x | g) + (0 + w | g) + (1 | h)", grouped_data(2, n_groups=20))
    assert list(model.random.index) == [("g", "(Intercept)"), ("g", "x"), ("g", "w"), ("h", "(Intercept)")]
    t = model.covariances["g"]
    assert model.random["variance"].tolist()[:3] == pytest.approx(np.diag(t))
    assert model.random["sd"].tolist() == pytest.approx(np.sqrt(model.random["variance"]))
    correlation = t.loc["(Intercept)", "x"] / np.sqrt(t.loc["x", "x"] * t.loc["(Intercept)", "(Intercept)"])
    assert model.random.loc[("g", "x"), "r (Intercept)"] == pytest.approx(correlation)
    assert model.random["r (Intercept)"].isna().tolist() == [True, False, True, True]
    assert t.loc["w", ["(Intercept)", "x"]].tolist() == [0, 0]


def test_information_criteria_count_all_parameters() -> None:
    model = fit_multilevel("y ~ x + c + (1 + x | g)", grouped_data(2))
    assert model.n_parameters == 4 + 3 + 1
    assert model.aic == pytest.approx(-2 * model.log_likelihood + 16)
    assert model.bic == pytest.approx(-2 * model.log_likelihood + 8 * np.log(model.design.n_rows))


def statsmodels_fit(data: pd.DataFrame, slope: bool) -> object:
    formulas = pytest.importorskip(
        "statsmodels.formula.api", reason="compares with statsmodels, which is not installed"
    )
    random = formulas.mixedlm("y ~ x + w", data, groups="g", re_formula="~x" if slope else "~1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return random.fit(reml=True)


@pytest.mark.parametrize("slope", [False, True])
def test_agrees_with_statsmodels_where_that_converges(slope: bool) -> None:
    data = grouped_data(15, n_groups=30, size=10)
    theirs = statsmodels_fit(data, slope)
    assert theirs.converged
    ours: MultilevelModel = fit_multilevel(f"y ~ x + w + (1 {'+ x' if slope else ''} | g)", data)
    assert ours.log_likelihood == pytest.approx(theirs.llf, abs=1e-4)
    assert ours.log_likelihood > theirs.llf - 1e-6
    assert ours.fixed["estimate"].tolist() == pytest.approx(theirs.fe_params.tolist(), abs=1e-4)
    assert ours.covariances["g"].to_numpy() == pytest.approx(theirs.cov_re.to_numpy(), rel=5e-3, abs=1e-4)


def test_never_below_statsmodels_on_hard_data() -> None:
    """Few small groups with hardly any slope variance: statsmodels fails or stops early on some of them."""
    pytest.importorskip("statsmodels.formula.api", reason="compares with statsmodels, which is not installed")
    for seed in range(8):
        data = grouped_data(seed + 60, n_groups=8, size=5, sd=(0.3, 0.05))
        ours = fit_multilevel("y ~ x + w + (1 + x | g)", data)
        assert ours.converged
        try:
            theirs = statsmodels_fit(data, True).llf
        except np.linalg.LinAlgError:
            continue
        assert ours.log_likelihood > theirs - 1e-5


def test_the_paper_s_model_with_more_slopes_than_the_data_hold_is_flagged() -> None:
    """(1 + 8 dummies | sample): 45 covariance parameters from 24 samples of 16 runs."""
    generator = np.random.default_rng(0)
    sample, dapt, hcf = (axis.ravel() for axis in np.meshgrid(range(24), range(2), range(8), indexing="ij"))
    data = pd.DataFrame({"sample": sample, "DAPT_1": dapt == 1} | {f"HCF_{i}": hcf == i for i in range(1, 8)})
    data = data.astype(float)
    data["score"] = generator.normal(size=24)[sample] + 0.3 * dapt + generator.normal(size=len(data))
    predictors = " + ".join(data.columns[1:-1])
    model = fit_multilevel(f"score ~ {predictors} + (1 + {predictors} | sample)", data)
    assert model.converged and model.singular
    assert np.linalg.eigvalsh(model.covariances["sample"]).min() > -1e-10
    assert np.isfinite(model.fixed.to_numpy()).all()
