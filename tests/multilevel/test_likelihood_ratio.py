"""Likelihood-ratio tests: which likelihood, which reference distribution, and which models may be compared."""

import numpy as np
import pytest
from literal_models import balanced_data, grouped_data
from scipy.stats import chi2, kstest

from labutils.multilevel import compare_models, fit_multilevel
from labutils.multilevel.model import fit_model

DATA = grouped_data(21, n_groups=15)


def test_different_fixed_effects_are_compared_by_maximum_likelihood() -> None:
    small, large = fit_multilevel("y ~ x + (1 | g)", DATA), fit_multilevel("y ~ x + c + (1 | g)", DATA)
    found = compare_models(large, small)
    expected = 2 * (large.refit(reml=False).log_likelihood - small.refit(reml=False).log_likelihood)
    assert (found.method, found.degrees, found.reference) == ("ML", (2,), "χ²₂")
    assert found.statistic == pytest.approx(expected, abs=1e-6)
    assert found.p == pytest.approx(chi2.sf(expected, 2), abs=1e-7)
    assert found.table["formula"].tolist() == ["y ~ x + (1 | g)", "y ~ x + c + (1 | g)"]
    assert found.table.loc["larger", "aic"] == pytest.approx(large.refit(reml=False).aic)


@pytest.mark.parametrize(
    ("small", "large", "degrees", "reference"),
    [
        ("(1 | g)", "(1 + x | g)", (1, 2), "½χ²₁ + ½χ²₂"),
        ("(1 | g)", "(1 + x || g)", (0, 1), "½χ²₀ + ½χ²₁"),
        ("(1 + x | g)", "(1 + x + w | g)", (2, 3), "½χ²₂ + ½χ²₃"),
        ("(1 + x || g)", "(1 + x | g)", (1,), "χ²₁"),
        ("(1 | g)", "(1 | g) + (1 | h)", (0, 1), "½χ²₀ + ½χ²₁"),
        ("(1 | g)", "(1 + x + w | g)", (5,), "χ²₅"),
    ],
)
def test_one_more_variance_has_a_mixture(small: str, large: str, degrees: tuple, reference: str) -> None:
    one, other = fit_multilevel(f"y ~ x + w + {small}", DATA), fit_multilevel(f"y ~ x + w + {large}", DATA)
    found = compare_models(one, other)
    assert (found.method, found.degrees, found.reference) == ("REML", degrees, reference)
    statistic = 2 * (other.log_likelihood - one.log_likelihood)
    assert found.statistic == pytest.approx(statistic, abs=1e-9)
    expected = np.mean([chi2.sf(statistic, k) if k else 0.0 for k in degrees])
    assert found.p == pytest.approx(expected, rel=1e-9)
    assert ("upper bound" in found.note) == (small == "(1 | g)" and "w" in large)


def test_fixed_effect_and_slope_together() -> None:
    one, other = fit_multilevel("y ~ 1 + (1 | g)", DATA), fit_multilevel("y ~ x + (1 + x | g)", DATA)
    found = compare_models(one, other)
    assert (found.method, found.degrees) == ("ML", (2, 3))


def test_a_statistic_of_zero_has_p_one() -> None:
    data = balanced_data(0, sd=0.0)
    data["y"] -= 0.95 * data.groupby("g")["y"].transform("mean")
    data["h"] = np.tile(range(5), 10)
    data["y"] -= data.groupby("h")["y"].transform("mean")
    found = compare_models(fit_multilevel("y ~ x + (1 | g)", data), fit_multilevel("y ~ x + (1 | g) + (1 | h)", data))
    assert found.statistic == pytest.approx(0, abs=1e-6)
    assert found.p == pytest.approx(1, abs=1e-2)
    assert "singular" in found.note


def test_mixture_is_the_distribution_under_the_hypothesis() -> None:
    """Without slope variance, p is uniform where it is below one half; plain chi-square would be conservative."""
    generator = np.random.default_rng(4)
    data = balanced_data(0, n_groups=20, size=5)
    designs = [fit_multilevel(f"y ~ x + {random}", data).design for random in ("(1 | g)", "(x || g)")]
    p = []
    for _ in range(40):
        y = generator.normal(size=20)[data["g"]] + generator.normal(size=len(data))
        p.append(compare_models(*(fit_model(design.with_response(y)) for design in designs)).p)
    p = np.array(p)
    positive = p[p < 0.5]
    assert 0.2 < len(positive) / len(p) < 0.7  # about half the estimates are above zero, somewhat fewer in finite data
    assert kstest(2 * positive, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        ("y ~ x + (1 | g)", "y ~ w + c + (1 | g)", "fixed effects 'x'.*are not in"),
        ("y ~ x + (1 | h)", "y ~ x + (1 + x | g)", "variance of '.Intercept.' over 'h' is in"),
        ("y ~ x + (1 + x | g)", "y ~ x + w + c + (1 + x || g)", "covariance of '.Intercept.' and 'x' over 'g'"),
        ("y ~ x + (1 | g)", "y ~ w + (1 | g)", "Both models have 4 parameters"),
    ],
)
def test_models_that_are_not_nested_are_refused(small: str, large: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_models(fit_multilevel(small, DATA), fit_multilevel(large, DATA))


def test_models_of_different_data_are_refused() -> None:
    one = fit_multilevel("y ~ x + (1 | g)", DATA)
    for other in (DATA.iloc[1:], DATA.assign(y=DATA["y"] + 1)):
        with pytest.raises(ValueError, match="models are of different data"):
            compare_models(one, fit_multilevel("y ~ x + w + (1 | g)", other))
