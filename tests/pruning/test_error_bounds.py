"""The bound lies below the best of all masks, meets it where inputs are apart, and falls with their likeness."""

import pytest
import torch
from layers import random_hessian, random_weight

from labutils.pruning.best_masks import best_mask
from labutils.pruning.error_bounds import least_errors


def alike(share: float, columns: int = 9) -> torch.Tensor:
    """Inputs with the same correlation between all of them, of different sizes."""
    sizes = torch.linspace(0.5, 2, columns, dtype=torch.float64)
    return torch.outer(sizes, sizes) * (share + (1 - share) * torch.eye(columns, dtype=torch.float64))


@pytest.mark.parametrize("n_drop", [0, 1, 4, 8, 9])
def test_no_mask_falls_below_it(n_drop: int) -> None:
    for seed, hessian in enumerate([random_hessian(9), random_hessian(9, 1), alike(0.0), alike(0.6), alike(0.99)]):
        weight = random_weight(4, 9, seed)
        best = best_mask(weight, hessian, n_drop)
        bound = least_errors(weight, hessian, n_drop)
        assert (bound <= best.errors * (1 + 1e-9) + 1e-12).all()
        assert (bound > 0).all() == (n_drop > 0)


def test_it_is_the_optimum_of_inputs_that_are_apart_and_of_one_drop() -> None:
    weight = random_weight(4, 9)
    found = least_errors(weight, alike(0.0), 4), best_mask(weight, alike(0.0), 4).errors
    torch.testing.assert_close(*found)
    found = least_errors(weight, alike(0.7), 1), best_mask(weight, alike(0.7), 1).errors
    torch.testing.assert_close(*found)
    shares = [(least_errors(weight, alike(c), 4) / best_mask(weight, alike(c), 4).errors).mean() for c in (0.2, 0.9)]
    assert shares[0] > shares[1] > 0.02


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"outside \[0, 9\]"):
        least_errors(random_weight(2, 9), random_hessian(9), 10)
