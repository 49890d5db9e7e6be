"""The inverse of a triangular matrix: against the definition, at sizes around the halving, on awkward matrices."""

import pytest
import torch

from labutils.pruning.triangular import SMALL, invert_lower


def a_lower(n: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2 * n, n, generator=generator, dtype=torch.float64)
    return torch.linalg.cholesky(rows.T @ rows / n + 0.01 * torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2, 3, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL + 1, 3 * SMALL - 7])
def test_it_is_the_inverse_and_lower_triangular(n: int) -> None:
    lower = a_lower(n)
    inverse = invert_lower(lower)
    torch.testing.assert_close(lower @ inverse, torch.eye(n, dtype=torch.float64), atol=1e-10, rtol=0)
    assert torch.equal(inverse, inverse.tril())


def test_small_ones_by_hand() -> None:
    assert invert_lower(torch.tensor([[2.0, 0.0], [1.0, 4.0]])).tolist() == [[0.5, 0.0], [-0.125, 0.25]]
    assert invert_lower(torch.zeros(0, 0)).shape == (0, 0)


def test_what_lies_above_the_diagonal_is_not_read_and_the_matrix_stays_as_it_is() -> None:
    lower = a_lower(SMALL + 9)
    above = lower + torch.full_like(lower, 7.0).triu(1)
    before = above.clone()
    assert torch.equal(invert_lower(above), invert_lower(lower)) and torch.equal(above, before)


def test_in_single_precision_it_is_as_near_as_a_solution() -> None:
    lower = a_lower(3 * SMALL)
    exact = torch.linalg.inv(lower)
    solved = torch.linalg.solve_triangular(lower.float(), torch.eye(3 * SMALL), upper=False).double()
    off, off_solved = ((found - exact).norm() for found in (invert_lower(lower.float()).double(), solved))
    assert off < 2 * off_solved and off < 1e-4 * exact.norm()


def test_a_zero_on_the_diagonal_is_seen_in_the_values() -> None:
    lower = a_lower(2 * SMALL)
    lower[3, 3] = 0
    assert not invert_lower(lower).isfinite().all()
