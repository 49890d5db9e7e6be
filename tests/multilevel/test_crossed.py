"""Sparse elimination of crossed factors against the dense one, which is tested against the literal density."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from labutils.multilevel import coordinates, fit_multilevel
from labutils.multilevel.design import build_design
from labutils.multilevel.deviance import level_precisions, residual_left, solve
from labutils.multilevel.formula import read_formula
from labutils.multilevel.products import Products, beside_fixed


def crossed_data(seed: int, n: int = 1500) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    g, h, k = (generator.integers(0, levels, n) for levels in (60, 25, 9))
    x, w = generator.normal(size=(2, n))
    effects = generator.normal(size=60)[g] + 0.5 * generator.normal(size=25)[h] + 0.3 * generator.normal(size=9)[k] * x
    return pd.DataFrame({"y": x + effects + generator.normal(size=n), "x": x, "w": w, "g": g, "h": h, "k": k})


@pytest.fixture
def always_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinates, "MANY", 0)
    monkeypatch.setattr(coordinates, "SPARSE", 1.1)


def products(formula: str) -> Products:
    found, _ = coordinates.orthogonalise(build_design(read_formula(formula), crossed_data(0)))
    assert found.between is not None
    return found


@pytest.mark.parametrize("size", [1.0, 1e-5, 0.0])  # of the last factor; a variance near zero takes another way
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | g) + (1 | h)",
        "y ~ x + (x | g) + (1 | h)",
        "y ~ x + (1 | g) + (x | h)",
        "y ~ x*w + (x + w | g) + (x || h) + (1 | k)",
        "y ~ x + (1 | h) + (1 | g) + (w | k)",
    ],
)
@pytest.mark.usefixtures("always_sparse")
def test_all_parts_of_the_solution_are_those_of_dense_elimination(formula: str, size: float) -> None:
    found, generator = products(formula), np.random.default_rng(1)
    factors = [np.tril(generator.normal(size=(terms, terms))) for _, terms in found.sizes]
    factors[-1] *= size
    sparse, dense = solve(found, factors), solve(found.dense(), factors)
    for field in fields(dense):
        one, other = getattr(sparse, field.name), getattr(dense, field.name)
        for a, b in zip(*(value if isinstance(value, list) else [value] for value in (one, other)), strict=True):
            assert np.asarray(a) == pytest.approx(np.asarray(b), rel=1e-8, abs=1e-9 * np.abs(b).max()), field.name
    for blocks, total in zip(level_precisions(found, factors), sparse.information, strict=True):
        assert blocks.sum(0) == pytest.approx(total, rel=1e-8, abs=1e-9 * np.abs(total).max())


@pytest.mark.parametrize("sparse", [True, False])
def test_what_is_asked_before_a_fit_is_part_of_the_solution(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of Z lies beside X is Σ_j Z_j'PZ_j without random effects; what is left of y with large ones is y'Py."""
    monkeypatch.setattr(coordinates, "MANY", 0 if sparse else 1e9)
    monkeypatch.setattr(coordinates, "SPARSE", 1.1)
    design = build_design(read_formula("y ~ x*w + (x + w | g) + (x || h) + (1 | k)"), crossed_data(0))
    found, _ = coordinates.orthogonalise(design)
    assert (found.between is not None) == sparse
    none = solve(found, [np.zeros((terms, terms)) for _, terms in found.sizes])
    for a, b in zip(beside_fixed(found), none.projected, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-9 * np.abs(b).max())
    large = [1e4 * np.eye(terms) for _, terms in found.sizes]
    assert residual_left(found, large) == solve(found, large).r2


@pytest.mark.parametrize("reml", [True, False])
def test_a_fit_does_not_depend_on_the_way(reml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    formula, data = "y ~ x + (1 | g) + (1 | h) + (0 + x | k)", crossed_data(2)
    dense = fit_multilevel(formula, data, reml=reml)
    assert dense.fit.problem.products.between is None
    monkeypatch.setattr(coordinates, "MANY", 0)
    monkeypatch.setattr(coordinates, "SPARSE", 1.1)
    sparse = fit_multilevel(formula, data, reml=reml)
    assert sparse.fit.problem.products.between is not None
    assert sparse.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-12)
    pd.testing.assert_frame_equal(sparse.fixed, dense.fixed, rtol=1e-4)
    pd.testing.assert_frame_equal(sparse.random, dense.random, rtol=1e-3)
    pd.testing.assert_frame_equal(sparse.blups, dense.blups, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("always_sparse")
def test_a_response_without_residual_is_refused_here_too() -> None:
    data = crossed_data(3)
    data["y"] = np.random.default_rng(0).normal(size=60)[data["g"]]
    with pytest.raises(ValueError, match="reproduce 'y' exactly"):
        fit_multilevel("y ~ x + (1 | g) + (1 | h)", data)


def test_lecturers_and_students_as_lme4_has_them(real_data) -> None:
    """73,421 ratings of 1,128 lecturers by 2,972 students; the restricted log-likelihood that all packages agree on."""
    ratings = pd.read_csv(real_data / "f_mixed_models" / "insteval.csv").astype({"s": str, "d": str})
    model = fit_multilevel("y ~ service + (1 | s) + (1 | d)", ratings)
    assert model.converged and model.fit.problem.products.between is not None
    assert model.log_likelihood == pytest.approx(-118871.79155805, abs=1e-6)
    assert model.fixed["df"].to_numpy() == pytest.approx([1655.222, 54302.498], rel=1e-4)
