"""Random small layers for the proofs of the solver: weights, correlated inputs, Hessians, masks; and scores."""

import numpy as np
import torch
from references import float64


def random_weight(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_inputs(tokens: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Correlated inputs of unequal size, as in a network."""
    generator = torch.Generator().manual_seed(100 + seed)
    mixing = torch.randn(columns, columns, generator=generator, dtype=torch.float64) / columns**0.5
    scale = torch.rand(columns, generator=generator, dtype=torch.float64) + 0.2
    inputs = torch.randn(tokens, columns, generator=generator, dtype=torch.float64)
    return (inputs + 1.5 * inputs @ mixing) * scale


def hessian_of(inputs: torch.Tensor) -> torch.Tensor:
    return 2 / 4 * inputs.T @ inputs


def random_hessian(columns: int, seed: int = 0) -> torch.Tensor:
    return hessian_of(random_inputs(3 * columns, columns, seed))


def hessian_with_lowest_eigenvalue(lowest: float, columns: int = 6) -> torch.Tensor:
    """A symmetric matrix with mean diagonal 1 and the given lowest eigenvalue."""
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=torch.float64))[0]
    eigenvalues = torch.full((columns,), (columns - lowest) / (columns - 1), dtype=torch.float64)
    eigenvalues[0] = lowest
    hessian = q @ torch.diag(eigenvalues) @ q.T
    return (hessian + hessian.T) / 2


def random_mask(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(7 + seed)) > 0.5


def scores(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_weights(actual: torch.Tensor, expected: np.ndarray, mask: torch.Tensor) -> None:
    np.testing.assert_allclose(float64(actual), expected, rtol=1e-8, atol=1e-10)
    assert (actual[~mask] == 0).all(), "a dropped weight is not exactly zero"
