"""Deviance, gradient and by-products against the literal normal density."""

import numpy as np
import pytest
from literal_models import grouped_data, literal_deviance, literal_fixed, row_covariance

from labutils.multilevel.coordinates import orthogonalise
from labutils.multilevel.design import Design, build_design
from labutils.multilevel.deviance import deviance, profiled_deviance, residual_variance, solve
from labutils.multilevel.fit import Problem, _free_entries
from labutils.multilevel.formula import read_formula

FORMULAS = [
    "y ~ x + w + (1 | g)",
    "y ~ x + c + (1 + x | g)",
    "y ~ x + (1 + x | g) + (0 + w | g)",
    "y ~ x + (1 + x | g) + (1 | h)",
    "y ~ 0 + x:c + (1 | g/h) + (0 + x | h)",
]


def problem(formula: str, reml: bool) -> tuple[Design, Problem, object]:
    design = build_design(read_formula(formula), grouped_data(3))
    products, coordinates = orthogonalise(design)
    free = tuple(_free_entries([*design.groupings[i].blocks]) for i in coordinates.order)
    return design, Problem(products, free, reml), coordinates


def random_theta(found: Problem, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=sum(int(mask.sum()) for mask in found.free))


def absolute(design: Design, found: Problem, coordinates: object, theta: np.ndarray, variance: float) -> list:
    """Covariances in the units of the data, in the order of the design."""
    factors = found.factors(theta)
    values = [coordinates.random_covariance(i, variance * f @ f.T) for i, f in enumerate(factors)]
    return [values[coordinates.order.index(i)] for i in range(len(design.groupings))]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_deviance_is_that_of_the_normal_density(formula: str, reml: bool) -> None:
    design, found, coordinates = problem(formula, reml)
    theta, sigma = random_theta(found, 1), 0.8
    solution = found.solve(theta)
    shift = coordinates.deviance_shift(design.n_rows, reml)
    covariances = absolute(design, found, coordinates, theta, sigma**2)
    expected = literal_deviance(design, covariances, (sigma * coordinates.scale) ** 2, reml)
    assert deviance(solution, found.products, reml, sigma) + shift == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("reml", [True, False])
def test_profiled_deviance_is_the_lowest_over_the_residual_variance(reml: bool) -> None:
    _, found, _ = problem(FORMULAS[1], reml)
    solution = found.solve(random_theta(found, 2))
    best = profiled_deviance(solution, found.products, reml)
    sigma = np.sqrt(residual_variance(solution, found.products, reml))
    assert deviance(solution, found.products, reml, sigma) == pytest.approx(best, abs=1e-10)
    for factor in (0.99, 1.01):
        assert deviance(solution, found.products, reml, factor * sigma) > best


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_gradient_is_that_of_differences(formula: str, reml: bool) -> None:
    _, found, _ = problem(formula, reml)
    theta = random_theta(found, 5)
    _, gradient = found.value_and_gradient(theta)
    for i in range(len(theta)):
        step = 1e-5 * np.eye(len(theta))[i]
        ahead, behind = found.value_and_gradient(theta + step)[0], found.value_and_gradient(theta - step)[0]
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("formula", FORMULAS)
def test_by_products_are_what_their_names_say(formula: str) -> None:
    """Coefficients, information and scores from explicit inverses, in the units of the data."""
    design, found, coordinates = problem(formula, True)
    theta = random_theta(found, 7)
    solution = found.solve(theta)
    covariances = absolute(design, found, coordinates, theta, 1.0)
    fixed, covariance = literal_fixed(design, covariances, coordinates.scale**2)
    assert coordinates.coefficients(solution.coefficients) == pytest.approx(fixed, rel=1e-8)
    root = np.linalg.inv(solution.information_root)
    assert coordinates.fixed_covariance(root.T @ root) == pytest.approx(covariance, rel=1e-7, abs=1e-12)
    weighted = np.linalg.solve(row_covariance(design, covariances, coordinates.scale**2), design.y - design.x @ fixed)
    for number, position in enumerate(coordinates.order):
        grouping, back = design.groupings[position], np.linalg.inv(coordinates.random_roots[number])
        expected = np.zeros((len(grouping.levels), len(grouping.terms)))
        for row, level in enumerate(grouping.codes):
            expected[level] += back.T @ grouping.columns[row] * weighted[row] * coordinates.scale
        assert solution.scores[number] == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_any_square_root_of_the_covariance_gives_the_same() -> None:
    _, found, _ = problem(FORMULAS[3], True)
    factors = found.factors(random_theta(found, 9))
    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    rotated = [factor @ turned if len(factor) == 2 else -factor for factor in factors]
    one, other = solve(found.products, factors), solve(found.products, rotated)
    assert one.r2 == pytest.approx(other.r2, rel=1e-12)
    assert one.log_det_v == pytest.approx(other.log_det_v, rel=1e-12)
    for a, b in zip(one.projected, other.projected, strict=True):
        assert a == pytest.approx(b, rel=1e-10)
