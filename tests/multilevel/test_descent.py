"""Descents on functions whose minima are known."""

import numpy as np
import pytest

from labutils.multilevel.descent import close_enough, descend


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    away = x[1:] - x[:-1] ** 2
    slope = np.zeros_like(x)
    slope[:-1] = -400 * x[:-1] * away - 2 * (1 - x[:-1])
    slope[1:] += 200 * away
    return float((100 * away**2 + (1 - x[:-1]) ** 2).sum()), slope


@pytest.mark.parametrize("guess", [1.0, 1e-3, 1e4])
def test_a_curved_valley_is_followed_to_its_end_whatever_the_guess(guess: float) -> None:
    found = descend(rosenbrock, np.array([-1.2, 1.0, 0.5]), lambda x: guess * np.eye(3))
    assert found.converged and found.point == pytest.approx(np.ones(3), abs=1e-4)
    assert np.abs(found.slope).max() < 1e-3


def test_the_true_curvature_needs_few_steps() -> None:
    bent, calls = np.array([[3.0, 1.0], [1.0, 200.0]]), []

    def parabola(x: np.ndarray) -> tuple[float, np.ndarray]:
        calls.append(x)
        return float(x @ bent @ x) / 2, bent @ x

    found = descend(parabola, np.array([1.0, 1.0]), lambda x: bent)
    assert found.converged and found.point == pytest.approx([0, 0], abs=1e-12) and len(calls) <= 3


def test_forbidden_points_and_flat_starts() -> None:
    def walled(x: np.ndarray) -> tuple[float, np.ndarray]:
        return (float("inf"), 0 * x) if x[0] <= 0 else (float(x[0] - np.log(x[0])), 1 - 1 / x)

    found = descend(walled, np.array([5.0]), lambda x: np.full((1, 1), 0.1))
    assert found.converged and found.point == pytest.approx([1], abs=1e-4)
    flat = descend(lambda x: (0.0, np.zeros(2)), np.ones(2), lambda x: np.eye(2))
    assert flat.converged and (flat.point == 1).all()


@pytest.mark.parametrize("level", [0.0, 1e7])
def test_what_is_lost_in_rounding_does_not_count(level: float) -> None:
    """A minimum below a deviance of millions: no step is lower any more long before the slope is zero."""

    def noisy(x: np.ndarray) -> tuple[float, np.ndarray]:
        return level + float(1000 * x @ x), 2000 * x

    found = descend(noisy, np.full(3, 0.7), lambda x: 500 * np.eye(3))
    assert found.converged and found.value == pytest.approx(level, abs=close_enough(level))
