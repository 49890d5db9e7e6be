"""The factor and SparseGPT against an optimal-brain-surgeon loop that inverts the remaining Hessian every time."""

import numpy as np
import obs_references as reference
import pytest
import torch
from layers import (
    assert_weights,
    hessian_of,
    hessian_with_lowest_eigenvalue,
    random_hessian,
    random_inputs,
    random_mask,
    random_weight,
)
from references import float64

from labutils.pruning.reconstruction import factor_hessian, obs_update, sparsegpt

# ---- the factor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_factor_is_the_upper_cholesky_factor_of_the_damped_inverse(damping):
    hessian = random_hessian(9)
    factor = factor_hessian(hessian, damping=damping)
    damped, _ = reference.damped_hessian(float64(hessian), damping)
    upper = float64(factor.upper)
    assert (np.tril(upper, -1) == 0).all() and (np.diag(upper) > 0).all()
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(9), atol=1e-9)
    for column in range(9):
        inverse = reference.remaining_inverse(damped, column)
        assert upper[column, column] ** 2 == pytest.approx(inverse[0, 0], rel=1e-9)
    assert factor.damping == pytest.approx(damping) and not factor.dead.any()


def test_dead_inputs_are_marked_and_get_a_unit_diagonal_before_the_damping():
    inputs = random_inputs(40, 7)
    inputs[:, [1, 6]] = 0
    hessian = hessian_of(inputs)
    factor = factor_hessian(hessian)
    damped, dead = reference.damped_hessian(float64(hessian), 0.01)
    assert factor.dead.tolist() == dead.tolist() == [False, True, False, False, False, False, True]
    np.testing.assert_allclose(float64(factor.upper.T @ factor.upper) @ damped, np.eye(7), atol=1e-9)


@pytest.mark.parametrize(("lowest", "expected"), [(0.5, 0.01), (-0.05, 0.1), (-0.5, 1.0), (-5.0, 10.0)])
def test_the_damping_that_worked_is_recorded(lowest, expected):
    hessian = hessian_with_lowest_eigenvalue(lowest)
    before = hessian.clone()
    factor = factor_hessian(hessian)
    assert factor.damping == pytest.approx(expected)
    damped, _ = reference.damped_hessian(float64(hessian), factor.damping)
    np.testing.assert_allclose(float64(factor.upper.T @ factor.upper) @ damped, np.eye(6), atol=1e-9)
    assert torch.equal(hessian, before)


@pytest.mark.parametrize("name", ["indefinite", "negative", "nan", "infinite"])
def test_a_hessian_that_no_damping_saves_is_refused(name):
    hessian = hessian_with_lowest_eigenvalue(-50.0)
    if name == "negative":
        hessian = -torch.eye(6, dtype=torch.float64)
    elif name != "indefinite":
        hessian = random_hessian(6)
        hessian[2, 2] = float("nan") if name == "nan" else float("inf")
    with pytest.raises(ValueError):
        factor_hessian(hessian)


# ---- SparseGPT --------------------------------------------------------------------------------------------------


def check_unstructured(weight: torch.Tensor, hessian: torch.Tensor, n_drop: int, block_size: int) -> None:
    new, mask = sparsegpt(weight, factor_hessian(hessian), n_drop=n_drop, block_size=block_size)
    expected, keep = reference.sparsegpt_unstructured(float64(weight), float64(hessian), n_drop, block_size)
    assert int((~mask).sum()) == n_drop
    np.testing.assert_array_equal(mask.numpy(), keep, err_msg=f"n_drop={n_drop}, block_size={block_size}")
    assert_weights(new, expected, mask)


@pytest.mark.parametrize("block_size", [1, 4, 5, 10, 128])
def test_sparsegpt_equals_the_loop_at_every_budget(block_size):
    weight, hessian = random_weight(4, 10), random_hessian(10)
    for n_drop in range(weight.numel() + 1):
        check_unstructured(weight, hessian, n_drop, block_size)


@pytest.mark.parametrize(("rows", "columns"), [(1, 12), (12, 1), (6, 17), (1, 1)])
def test_sparsegpt_equals_the_loop_for_other_shapes(rows, columns):
    for seed in range(3):
        weight, hessian = random_weight(rows, columns, seed), random_hessian(columns, seed)
        for n_drop in sorted({0, round(0.33 * weight.numel()), round(0.77 * weight.numel()), weight.numel()}):
            check_unstructured(weight, hessian, n_drop, block_size=7)


@pytest.mark.parametrize("name", ["dead inputs", "all dead", "fewer tokens than inputs", "zero row", "zero weight"])
def test_sparsegpt_equals_the_loop_on_degenerate_layers(name):
    weight, inputs = random_weight(5, 12), random_inputs(30, 12)
    if name == "dead inputs":
        inputs[:, [0, 5, 11]] = 0
    elif name == "all dead":
        inputs[:] = 0
    elif name == "fewer tokens than inputs":
        inputs = inputs[:4]
    else:
        weight[(2 if name == "zero row" else slice(None))] = 0
    for n_drop in (0, 7, 30, 53, 60):
        check_unstructured(weight, hessian_of(inputs), n_drop, block_size=5)


@pytest.mark.parametrize("block_size", [3, 128])
def test_sparsegpt_breaks_ties_as_the_masks_do(block_size):
    weight, hessian = torch.full((4, 6), 0.5, dtype=torch.float64), 2 * torch.eye(6, dtype=torch.float64)
    for n_drop in range(25):
        check_unstructured(weight, hessian, n_drop, block_size)


@pytest.mark.parametrize(("keep_n", "group_m"), [(2, 4), (1, 2), (1, 4), (4, 6)])
@pytest.mark.parametrize("block_size", [4, 5, 6, 12, 128])
def test_n_of_m_sparsegpt_equals_the_loop_whatever_the_block(keep_n, group_m, block_size):
    """A block that M does not divide may be refused, but must never give another answer."""
    for seed in range(2):
        weight, hessian = random_weight(4, 12, seed), random_hessian(12, seed)
        factor = factor_hessian(hessian)
        try:
            new, mask = sparsegpt(weight, factor, pattern=(keep_n, group_m), block_size=block_size)
        except ValueError:
            assert block_size % group_m != 0
            continue
        expected, keep = reference.sparsegpt_n_of_m(float64(weight), float64(hessian), keep_n, group_m)
        assert (mask.reshape(4, -1, group_m).sum(dim=2) == keep_n).all()
        np.testing.assert_array_equal(mask.numpy(), keep)
        assert_weights(new, expected, mask)


def test_n_of_m_sparsegpt_with_dead_inputs_and_few_tokens():
    inputs = random_inputs(5, 16)
    inputs[:, [0, 1, 2, 9]] = 0
    weight, hessian = random_weight(4, 16), hessian_of(inputs)
    new, mask = sparsegpt(weight, factor_hessian(hessian), pattern=(2, 4), block_size=8)
    expected, keep = reference.sparsegpt_n_of_m(float64(weight), float64(hessian), 2, 4)
    np.testing.assert_array_equal(mask.numpy(), keep)
    assert_weights(new, expected, mask)
    assert (new[:, [0, 1, 2, 9]] == 0).all()


@pytest.mark.parametrize(("keep_n", "group_m"), [(1, 3), (4, 6), (5, 12)])
def test_any_m_that_divides_the_width_works_with_the_default_block(keep_n, group_m):
    """The block only batches the updates of later columns; it is no condition on the pattern."""
    weight, hessian = random_weight(4, 12), random_hessian(12)
    new, mask = sparsegpt(weight, factor_hessian(hessian), pattern=(keep_n, group_m))
    expected, keep = reference.sparsegpt_n_of_m(float64(weight), float64(hessian), keep_n, group_m)
    np.testing.assert_array_equal(mask.numpy(), keep)
    assert_weights(new, expected, mask)


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": (2, 4)},
        {},
        {"n_drop": 4, "pattern": (1, 2)},
        {"n_drop": -1},
        {"n_drop": 31},
        {"n_drop": 4, "block_size": 0},
    ],
    ids=str,
)
def test_sparsegpt_refuses_what_it_cannot_do(options):
    with pytest.raises(ValueError):
        sparsegpt(random_weight(3, 10), factor_hessian(random_hessian(10)), **options)


def test_a_factor_of_another_width_is_refused():
    factor = factor_hessian(random_hessian(10))
    with pytest.raises(ValueError):
        sparsegpt(random_weight(3, 8), factor, n_drop=4)
    with pytest.raises(ValueError):
        obs_update(random_weight(3, 8), random_mask(3, 8), factor)
