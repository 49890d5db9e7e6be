"""The minimum: closed forms, brute force over the literal density, boundaries, and badly scaled data."""

import numpy as np
import pandas as pd
import pytest
from literal_models import balanced_data, grouped_data, literal_deviance
from scipy.optimize import minimize

from labutils.multilevel import fit_multilevel
from labutils.multilevel.fit import fit_design


def one_way(data: pd.DataFrame) -> tuple[float, float, float]:
    """Mean squares between and within equal groups, and their size."""
    means = data.groupby("g")["y"].transform("mean")
    size, n_groups = len(data) / data["g"].nunique(), data["g"].nunique()
    between = size * data.groupby("g")["y"].mean().var(ddof=1)
    return between, ((data["y"] - means) ** 2).sum() / (len(data) - n_groups), size


@pytest.mark.parametrize("seed", range(5))
def test_balanced_one_way_has_the_anova_solution(seed: int) -> None:
    """REML: τ² = (MSB − MSW)/n, σ² = MSW, and se² of the mean = MSB/N; ML: MSB shrunk by (K−1)/K."""
    data = balanced_data(seed)
    between, within, size = one_way(data)
    n_groups = data["g"].nunique()
    model = fit_multilevel("y ~ 1 + (1 | g)", data)
    assert model.random.loc[("g", "(Intercept)"), "variance"] == pytest.approx((between - within) / size, rel=1e-4)
    assert model.residual_variance == pytest.approx(within, rel=1e-5)
    assert model.fixed.loc["(Intercept)", "estimate"] == pytest.approx(data["y"].mean(), rel=1e-10)
    assert model.fixed.loc["(Intercept)", "se"] == pytest.approx(np.sqrt(between / len(data)), rel=1e-5)
    ml = model.refit(reml=False)
    shrunk = between * (n_groups - 1) / n_groups
    assert ml.random["variance"].iloc[0] == pytest.approx((shrunk - within) / size, rel=1e-4)
    assert ml.residual_variance == pytest.approx(within, rel=1e-5)
    # balanced closed form of the maximised likelihood
    degrees = len(data) - n_groups
    expected = len(data) * (1 + np.log(2 * np.pi)) + n_groups * np.log(shrunk) + degrees * np.log(within)
    assert -2 * ml.log_likelihood == pytest.approx(expected, abs=1e-8)


def test_groups_more_alike_than_chance_give_a_flagged_zero() -> None:
    """Where MSB < MSW the estimate is zero, the fit is singular, and the rest is ordinary least squares."""
    data = balanced_data(0, sd=0.0)
    data["y"] -= 0.95 * data.groupby("g")["y"].transform("mean")
    model = fit_multilevel("y ~ x + (1 | g)", data)
    assert model.singular and model.converged
    assert model.random.loc[("g", "(Intercept)"), "variance"] == 0
    slope = np.polyfit(data["x"], data["y"], 1)[0]
    assert model.fixed.loc["x", "estimate"] == pytest.approx(slope, rel=1e-9)
    left = data["y"] - np.polyval(np.polyfit(data["x"], data["y"], 1), data["x"])
    assert model.residual_variance == pytest.approx((left**2).sum() / (len(data) - 2), rel=1e-9)
    assert (model.blups["estimate"] == 0).all()
    assert "singular" in repr(model)


def brute_force(formula: str, data: pd.DataFrame, n_terms: int, reml: bool) -> float:
    """Lowest literal deviance over Cholesky factors of T and log σ², from several starts, without gradients."""
    design = fit_multilevel(formula, data).design
    lower = np.tril_indices(n_terms)

    def value(parameters: np.ndarray) -> float:
        factor = np.zeros((n_terms, n_terms))
        factor[lower] = parameters[:-1]
        return literal_deviance(design, [factor @ factor.T], np.exp(2 * parameters[-1]), reml)

    starts = [np.append(size * np.eye(n_terms)[lower], 0.0) for size in (1.0, 0.2)]
    options = {"xatol": 1e-6, "fatol": 1e-8, "maxiter": 2000, "maxfev": 2000}
    return min(minimize(value, start, method="Nelder-Mead", options=options).fun for start in starts)


@pytest.mark.parametrize(
    ("formula", "seed", "sd", "reml"),
    [
        ("y ~ x + (1 | g)", 1, (1.0, 0.0), True),
        ("y ~ x + (1 + x | g)", 2, (0.2, 0.0), True),
        ("y ~ x + w + (1 + x | g)", 4, (0.0, 0.8), False),
    ],
)
def test_no_better_optimum_is_found_by_brute_force(
    formula: str, seed: int, sd: tuple[float, float], reml: bool
) -> None:
    data = grouped_data(seed, n_groups=4, size=4, sd=sd)
    n_terms = 2 if "x |" in formula else 1
    ours = -2 * fit_multilevel(formula, data, reml=reml).log_likelihood
    theirs = brute_force(formula, data, n_terms, reml)
    assert ours < theirs + 1e-6
    assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_descents_from_many_starts_end_at_the_same_minimum(seed: int) -> None:
    """Small noisy groups: nearly flat, often singular deviances, the case where optimisers stop too early."""
    data = grouped_data(seed + 40, n_groups=6, size=6, sd=(0.3, 0.3))
    model = fit_multilevel("y ~ x + (1 + x + w | g)", data)
    generator = np.random.default_rng(seed)
    for _ in range(4):
        start = generator.normal(size=len(model.fit.theta)) * generator.choice([0.01, 1, 10])
        assert fit_design(model.design, start=start).deviance > model.fit.deviance - 1e-6
    assert model.converged


def test_a_start_at_zero_variance_is_left_again() -> None:
    """θ = 0 is stationary by symmetry; the eigenvalues of the gradient in the covariance tell that it is no minimum."""
    model = fit_multilevel("y ~ x + (1 + x | g)", grouped_data(11))
    stuck = np.zeros_like(model.fit.theta)
    assert np.abs(model.fit.problem.value_and_gradient(stuck)[1]).max() == 0
    again = fit_design(model.design, start=stuck)
    assert again.deviance == pytest.approx(model.fit.deviance, abs=1e-6)
    assert not again.singular and again.converged


def test_a_correlation_of_one_is_a_flagged_singular_fit() -> None:
    model = fit_multilevel("y ~ x + (1 + x | g)", grouped_data(3, n_groups=12, sd=(1.0, 0.1)))
    assert model.singular and model.converged
    assert (model.random["variance"] > 0.01).all()
    assert model.random.loc[("g", "x"), "r (Intercept)"] == pytest.approx(-1, abs=1e-9)


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0), (1e-6, 0), (1, 2000), (1e-3, 500)])
def test_units_of_the_predictor_do_not_matter(scale: float, offset: float) -> None:
    """Years, millions, thousandths: likelihood, tests and predictions stay; slopes and covariances follow the units."""
    data = grouped_data(8)
    one = fit_multilevel("y ~ x + w + (1 + x | g)", data)
    other = fit_multilevel("y ~ x + w + (1 + x | g)", data.assign(x=offset + scale * data["x"]))
    shift = -np.log(scale) * 2  # REML integrates over the coefficients, in their units
    assert -2 * other.log_likelihood == pytest.approx(-2 * one.log_likelihood - shift, abs=1e-5)
    for name in ("t", "df", "p"):
        assert other.fixed.loc["x", name] == pytest.approx(one.fixed.loc["x", name], rel=1e-4)
    assert other.fixed.loc["x", "se"] * scale == pytest.approx(one.fixed.loc["x", "se"], rel=1e-4)
    ratio = other.random.loc[("g", "x"), "variance"] / one.random.loc[("g", "x"), "variance"]
    assert ratio * scale**2 == pytest.approx(1, rel=1e-3)
    assert other.fitted == pytest.approx(one.fitted, abs=1e-3)


@pytest.mark.parametrize("formula", ["y ~ x + w + (1 | g)", "y ~ x + w + (1 + x | g)"])
@pytest.mark.parametrize(("offset", "spread"), [(1.7e9, 3600.0), (1.7e12, 1e6), (1.7e18, 1e10)])
def test_times_since_1970_are_fitted_as_times_since_their_mean(offset: float, spread: float, formula: str) -> None:
    """Seconds, milliseconds and nanoseconds of an hour or less: slopes, tests and variances to nine digits."""
    data = grouped_data(8)
    x = offset + np.round(spread * data["x"])
    x = x - (x - offset) % 256  # whole steps of float64 also in nanoseconds
    large = fit_multilevel(formula, data.assign(x=x))
    centred = fit_multilevel(formula, data.assign(x=x - offset))
    names = [name for name in large.fixed.index if "x" in name]
    for column in ("estimate", "se", "t", "p"):
        there, here = (model.fixed.loc[names, column].to_numpy() for model in (large, centred))
        assert there == pytest.approx(here, rel=1e-9)
    assert large.log_likelihood == pytest.approx(centred.log_likelihood, rel=1e-9)
    assert large.residual_variance == pytest.approx(centred.residual_variance, rel=1e-9)
    assert large.random["variance"].iloc[-1] == pytest.approx(centred.random["variance"].iloc[-1], rel=1e-3)
    assert large.residuals == pytest.approx(centred.residuals, abs=1e-15 * offset / spread * 1e3 + 1e-6)


def test_a_response_far_from_zero() -> None:
    data = grouped_data(8)
    one, other = (fit_multilevel("y ~ x + (1 | g)", data.assign(y=data["y"].round(3) + far)) for far in (0, 2.0**40))
    assert other.fixed.loc["x"].to_numpy() == pytest.approx(one.fixed.loc["x"].to_numpy(), rel=1e-3)
    assert other.fixed.loc["(Intercept)", "estimate"] - 2.0**40 == pytest.approx(
        one.fixed["estimate"].iloc[0], abs=1e-3
    )
    assert other.residual_variance == pytest.approx(one.residual_variance, rel=1e-3)


def test_a_million_rows_converge() -> None:
    """What counts as no further fall of the deviance grows with the deviance."""
    generator = np.random.default_rng(0)
    g = np.repeat(np.arange(100_000), 10)
    x, u = generator.normal(size=len(g)), generator.normal(size=(2, 100_000))
    data = pd.DataFrame({"y": 0.3 * x + u[0][g] + 0.3 * u[1][g] * x + generator.normal(size=len(g)), "x": x, "g": g})
    model = fit_multilevel("y ~ x + (x | g)", data)
    assert model.converged and not model.singular
    assert model.random["variance"].to_numpy() == pytest.approx([1, 0.09], rel=0.02)
    for away in (-1e-4, 1e-4):  # a thousandth of a standard error
        for i in range(3):
            theta = model.fit.theta + away * np.eye(3)[i]
            assert (
                model.fit.problem.value_and_gradient(theta)[0]
                > model.fit.problem.value_and_gradient(model.fit.theta)[0]
            )


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_units_of_the_response_do_not_matter(factor: float) -> None:
    data = grouped_data(8)
    one = fit_multilevel("y ~ x + (1 + x | g)", data)
    other = fit_multilevel("y ~ x + (1 + x | g)", data.assign(y=1e3 * factor + factor * data["y"]))
    assert other.fixed["se"].to_numpy() / factor == pytest.approx(one.fixed["se"].to_numpy(), rel=1e-4)
    assert other.residual_variance / factor**2 == pytest.approx(one.residual_variance, rel=1e-4)
    assert other.fixed["df"].to_numpy() == pytest.approx(one.fixed["df"].to_numpy(), rel=1e-3)


def test_a_response_without_residual_is_refused() -> None:
    data = balanced_data(0)
    constant = data.assign(y=data.groupby("g")["y"].transform("mean"))
    with pytest.raises(ValueError, match="reproduce 'y' exactly.*constant within the groups"):
        fit_multilevel("y ~ 1 + (1 | g)", constant)
    with pytest.raises(ValueError, match="fixed effects reproduce 'y' exactly"):
        fit_multilevel("y ~ x + (1 | g)", data.assign(y=1 + 3 * data["x"]))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", ["y ~ C(g) + (1 | g)", "y ~ x:C(g) + (1 + x | g)", "y ~ w + v + u + (1 | g)"])
def test_a_random_term_that_the_fixed_effects_contain_is_refused(formula: str, reml: bool) -> None:
    """The restricted likelihood would be flat in its variance, and any number could come out."""
    data = grouped_data(0, n_groups=4)
    data = data.assign(v=data["g"] == "g1", u=data["g"] == "g2")
    with pytest.raises(ValueError, match="already tell the levels of 'g' apart"):
        fit_multilevel(formula, data, reml=reml)


@pytest.mark.parametrize("icc", [1e-4, 0.999999])
def test_almost_no_and_almost_all_variance_between_groups(icc: float) -> None:
    generator = np.random.default_rng(2)
    g = np.repeat(np.arange(60), 8)
    y = np.sqrt(icc) * generator.normal(size=60)[g] + np.sqrt(1 - icc) * generator.normal(size=len(g))
    data = pd.DataFrame({"y": y, "g": g})
    between, within, size = one_way(data)
    model = fit_multilevel("y ~ 1 + (1 | g)", data)
    expected = max(0.0, (between - within) / size)
    assert model.random["variance"].iloc[0] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert model.singular == (expected == 0)


def test_too_many_crossed_coefficients_are_refused() -> None:
    n = 40_000
    codes = np.random.default_rng(0).integers(0, 15_000, size=(2, n))
    data = pd.DataFrame({"y": np.random.default_rng(1).normal(size=n), "a": codes[0], "b": codes[1]})
    with pytest.raises(ValueError, match="too many random coefficients together"):
        fit_multilevel("y ~ 1 + (1 | a) + (1 | b)", data)
