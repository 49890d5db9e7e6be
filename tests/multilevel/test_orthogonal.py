"""Orthogonal columns: the definition, and digits that a plain factorisation would lose."""

from fractions import Fraction

import numpy as np
import pytest

from labutils.multilevel.orthogonal import orthogonalise_columns


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("scale", [1e-60, 1.0, 1e60])
def test_the_columns_are_q_times_r(intercept: bool, scale: float) -> None:
    columns = np.random.default_rng(0).normal(size=(20, 3)) + 2
    columns[:, 0] = 1 if intercept else columns[:, 0]
    columns[:, 2] *= scale
    basis = orthogonalise_columns(columns)
    assert basis.has_intercept == intercept
    assert basis.q.T @ basis.q == pytest.approx(20 * np.eye(3), abs=1e-12)
    assert np.tril(basis.root, -1) == pytest.approx(np.zeros((3, 3)), abs=0)
    assert basis.q @ basis.root / np.abs(columns).max(0) == pytest.approx(columns / np.abs(columns).max(0), abs=1e-13)


def test_differences_from_a_far_mean_keep_all_digits() -> None:
    """Against exact arithmetic: twenty times of one second, counted in nanoseconds since 1970."""
    steps = np.random.default_rng(1).integers(0, 4_000_000, 20)
    times = 1_700_000_000_000_000_000 + 256 * steps
    q = orthogonalise_columns(np.column_stack([np.ones(20), times.astype(float)])).q[:, 1]
    mean = Fraction(int(sum(map(int, steps))), 20)
    exact = np.array([float(int(step) - mean) for step in steps])
    expected = exact / np.sqrt(np.square(exact).mean())
    assert np.abs(q) == pytest.approx(np.abs(expected), rel=1e-9, abs=1e-9)


def test_what_a_column_has_of_its_own() -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=30)
    columns = np.column_stack([np.ones(30), 1e9 + x, 2 * x - 7, np.full(30, 1e6)])
    own = orthogonalise_columns(columns).own
    assert own[0] == pytest.approx(1) and own[1] == pytest.approx(1, abs=1e-6)
    assert own[2] < 1e-6 and own[3] == 0


@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-5, 1e-6, 1e-9])
def test_columns_that_are_nearly_the_same_are_as_orthogonal_as_any(apart: float) -> None:
    """Cholesky factors of C'C alone would lose the squared digits."""
    x, other = np.random.default_rng(3).normal(size=(2, 500))
    columns = np.column_stack([x, x + apart * other])
    basis = orthogonalise_columns(columns)
    assert basis.q.T @ basis.q / 500 == pytest.approx(np.eye(2), abs=1e-14)
    assert basis.q @ basis.root == pytest.approx(columns, abs=1e-13)
    beside = np.linalg.norm(other - x * (x @ other) / (x @ x)) * apart / np.linalg.norm(columns[:, 1])
    assert basis.own[1] == pytest.approx(beside, rel=max(1e-12, 1e-14 / apart))
