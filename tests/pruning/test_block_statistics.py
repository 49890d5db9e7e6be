"""The block statistics of OWL and AlphaPruning, outlier shares and Hill exponents, against literal loops."""

import math

import allocation_references as reference
import pytest
import torch

from labutils.pruning.allocation_rules import hill_exponent, outlier_share


def test_outlier_share_pools_all_matrices():
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(6, 9, generator=generator).exp() ** 2, torch.randn(4, 20, generator=generator).exp()]
    for multiple in (1.0, 2.0, 5.0, 50.0):
        expected = reference.outlier_share([s.double().numpy() for s in scores], multiple)
        assert outlier_share(scores, multiple) == pytest.approx(expected, abs=1e-9)


def test_outlier_share_by_hand_and_degenerate():
    assert outlier_share([torch.tensor([[1.0, 1.0, 1.0, 97.0]])], 3.5) == pytest.approx(25.0)
    assert outlier_share([torch.tensor([[97.0]]), torch.ones(1, 3)], 3.5) == pytest.approx(25.0)
    assert outlier_share([torch.ones(3, 4)], 1.0) == 0.0
    assert outlier_share([torch.zeros(3, 4)], 5.0) == 0.0


def test_hill_exponent_equals_the_literal_loop():
    for seed, shape in enumerate([(8, 8), (9, 9), (6, 14), (14, 6), (5, 5), (3, 2), (2, 2)]):
        weight = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert hill_exponent(weight) == pytest.approx(reference.hill_exponent(weight.numpy()), rel=1e-9)


def test_hill_exponent_of_a_known_spectrum():
    eigenvalues = [math.e**6, math.e**4, math.e**2, 1.0]
    weight = torch.diag(torch.tensor([math.sqrt(value) for value in eigenvalues], dtype=torch.float64))
    assert hill_exponent(weight) == pytest.approx(1 + 2 / ((6 - 2) + (4 - 2)), rel=1e-12)


def test_hill_exponent_ignores_scale_orientation_and_dead_inputs():
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = hill_exponent(weight)
    padded = torch.cat([weight, torch.zeros(6, 3, dtype=torch.float64)], dim=1)
    for same in (weight * 1e-3, weight * 1e3, weight.T, weight.T.contiguous().T, padded, padded.T):
        assert hill_exponent(same) == pytest.approx(expected, rel=1e-9)


def test_heavier_tails_have_smaller_exponents():
    generator = torch.Generator().manual_seed(0)
    light = torch.randn(60, 60, generator=generator, dtype=torch.float64)
    heavy = light * torch.randn(60, generator=generator, dtype=torch.float64).mul(2).exp()
    assert 1 < hill_exponent(heavy) < hill_exponent(light)


def test_hill_exponent_of_a_rank_deficient_matrix_comes_from_its_positive_eigenvalues():
    """Half the inputs are dead: the zero eigenvalues, or the rounding errors in their place, are no tail."""
    weight = torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight[:, :6] = 0
    assert hill_exponent(weight) == pytest.approx(reference.hill_exponent(weight.numpy()), rel=1e-9)


@pytest.mark.parametrize("name", ["zeros", "eye", "ones", "one row"])
def test_hill_exponent_without_a_tail_is_infinite(name):
    weight = {"zeros": torch.zeros(4, 4), "eye": torch.eye(4), "ones": torch.ones(4, 4), "one row": torch.ones(1, 5)}
    assert math.isinf(hill_exponent(weight[name].double()))
