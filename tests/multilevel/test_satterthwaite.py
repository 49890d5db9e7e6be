"""Standard errors and degrees of freedom: closed forms of balanced data, and a literal computation."""

import numpy as np
import pytest
from literal_models import balanced_data, grouped_data, literal_deviance, literal_fixed
from scipy.stats import t as student

from labutils.multilevel import MultilevelModel, fit_multilevel


def test_balanced_data_have_the_degrees_of_freedom_of_their_strata() -> None:
    """Between groups: K − 2 with one predictor; within: N − K − 1; both as in the split-plot analysis of variance."""
    data = balanced_data(1)
    model = fit_multilevel("y ~ x + w + (1 | g)", data)
    n, n_groups = len(data), data["g"].nunique()
    assert model.fixed["df"].tolist() == pytest.approx([n_groups - 2, n - n_groups - 1, n_groups - 2], rel=1e-4)
    means = data.groupby("g")[["y", "w"]].mean()
    slope, offset = np.polyfit(means["w"], means["y"], 1)
    left = means["y"] - slope * means["w"] - offset
    spread = ((means["w"] - means["w"].mean()) ** 2).sum()
    assert model.fixed.loc["w", "estimate"] == pytest.approx(slope, rel=1e-8)
    assert model.fixed.loc["w", "se"] == pytest.approx(np.sqrt((left**2).sum() / (n_groups - 2) / spread), rel=1e-5)


def test_slopes_of_balanced_groups_are_tested_like_one_sample() -> None:
    """With a slope in every group, the fixed slope is the mean of K least squares slopes: K − 1 degrees of freedom."""
    data = balanced_data(3, n_groups=12, size=8)
    data["y"] += np.random.default_rng(0).normal(size=12)[data["g"]] * data["x"]
    model = fit_multilevel("y ~ x + (1 + x | g)", data)
    slopes = [np.polyfit(part["x"], part["y"], 1)[0] for _, part in data.groupby("g")]
    row = model.fixed.loc["x"]
    assert row["estimate"] == pytest.approx(np.mean(slopes), rel=1e-8)
    assert row["se"] == pytest.approx(np.std(slopes, ddof=1) / np.sqrt(12), rel=1e-5)
    assert row["df"] == pytest.approx(11, rel=1e-4)
    assert row["p"] == pytest.approx(2 * student.sf(abs(row["t"]), row["df"]), rel=1e-12)


def literal_degrees(model: MultilevelModel, reml: bool, contrast: np.ndarray) -> float:
    """2 v²/(g'Ag) from the literal density, in the parameters (T11, T21, T22, σ²) instead of (θ, σ)."""
    t = model.covariances["g"].to_numpy()
    lower = np.tril_indices(len(t))
    start = np.append(t[lower], model.residual_variance)

    def unpack(parameters: np.ndarray) -> tuple[list[np.ndarray], float]:
        full = np.zeros_like(t)
        full[lower] = parameters[:-1]
        return [full + np.tril(full, -1).T], parameters[-1]

    def value(parameters: np.ndarray) -> float:
        return literal_deviance(model.design, *unpack(parameters), reml)

    def variance(parameters: np.ndarray) -> float:
        return contrast @ literal_fixed(model.design, *unpack(parameters))[1] @ contrast

    steps = 1e-3 * np.diag(np.abs(start))
    hessian = np.array(
        [
            [
                (value(start + a + b) - value(start + a - b) - value(start - a + b) + value(start - a - b))
                / (4 * a.sum() * b.sum())
                for b in np.abs(steps)
            ]
            for a in np.abs(steps)
        ]
    )
    gradient = np.array([(variance(start + a) - variance(start - a)) / (2 * a.sum()) for a in np.abs(steps)])
    return 2 * variance(start) ** 2 / (gradient @ (2 * np.linalg.inv(hessian)) @ gradient)


@pytest.mark.parametrize("reml", [True, False])
def test_degrees_of_freedom_do_not_depend_on_the_parameters(reml: bool) -> None:
    model = fit_multilevel("y ~ x + (1 + x | g)", grouped_data(4, n_groups=7, size=5), reml=reml)
    assert not model.singular
    for contrast, name in zip(np.eye(2), model.fixed.index, strict=True):
        assert model.fixed.loc[name, "df"] == pytest.approx(literal_degrees(model, reml, contrast), rel=2e-3)


def test_standard_errors_are_those_of_generalised_least_squares() -> None:
    model = fit_multilevel("y ~ x + c + (1 + x | g) + (1 | h)", grouped_data(6))
    covariances = [table.to_numpy() for table in model.covariances.values()]
    fixed, covariance = literal_fixed(model.design, covariances, model.residual_variance)
    assert model.fixed["estimate"].to_numpy() == pytest.approx(fixed, rel=1e-8)
    assert model.fixed_covariance.to_numpy() == pytest.approx(covariance, rel=1e-8, abs=1e-12)
    assert model.fixed["se"].to_numpy() == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-8)


def test_contrasts_change_the_reference_level() -> None:
    """b − c as a contrast is the coefficient of b in the same model with the reference level c."""
    data = grouped_data(6)
    model = fit_multilevel("y ~ c + (1 | g)", data)
    turned = fit_multilevel("y ~ c + (1 | g)", data.assign(c=data["c"].map({"a": "z", "b": "b", "c": "a"})))
    found = model.contrast({"cb": 1, "cc": -1})
    assert found.to_numpy() == pytest.approx(turned.fixed.loc["cb"].to_numpy(), rel=1e-5)
    with pytest.raises(LookupError, match="no fixed effect 'cd'"):
        model.contrast({"cd": 1})


def test_a_singular_fit_still_has_finite_tests() -> None:
    data = balanced_data(0, sd=0.0)
    data["y"] -= 0.95 * data.groupby("g")["y"].transform("mean")
    model = fit_multilevel("y ~ x + (1 | g)", data)
    assert model.singular
    assert np.isfinite(model.fixed.to_numpy()).all()
    assert model.fixed.loc["x", "df"] == pytest.approx(len(data) - 2, rel=1e-4)  # those of least squares
