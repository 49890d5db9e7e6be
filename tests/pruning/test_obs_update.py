"""The update of a given mask, permuted patterns and output errors against loops, and what the update achieves."""

import numpy as np
import obs_references as reference
import pytest
import torch
from layers import assert_weights, hessian_of, random_hessian, random_inputs, random_mask, random_weight
from references import float64

from labutils.pruning.calibration import Statistics
from labutils.pruning.matrices import prune_matrix
from labutils.pruning.methods import matrix_method
from labutils.pruning.patterns import n_of_m_mask
from labutils.pruning.reconstruction import factor_hessian, obs_update, relative_output_error, sparsegpt

# ---- the update of a given mask ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 4, 5, 128])
def test_obs_update_equals_the_loop(block_size):
    for seed, (rows, columns) in enumerate([(5, 11), (1, 8), (8, 1), (3, 16)]):
        weight, mask = random_weight(rows, columns, seed), random_mask(rows, columns, seed)
        hessian = random_hessian(columns, seed)
        new = obs_update(weight, mask, factor_hessian(hessian), block_size=block_size)
        assert_weights(new, reference.obs_update(float64(weight), mask.numpy(), float64(hessian)), mask)


@pytest.mark.parametrize("name", ["dead inputs", "fewer tokens than inputs", "keep all", "drop all"])
def test_obs_update_equals_the_loop_on_degenerate_layers(name):
    weight, mask, inputs = random_weight(5, 12), random_mask(5, 12), random_inputs(30, 12)
    if name == "dead inputs":
        inputs[:, [0, 5, 11]] = 0
    elif name == "fewer tokens than inputs":
        inputs = inputs[:4]
    else:
        mask[:] = name == "keep all"
    hessian = hessian_of(inputs)
    new = obs_update(weight, mask, factor_hessian(hessian), block_size=5)
    assert_weights(new, reference.obs_update(float64(weight), mask.numpy(), float64(hessian)), mask)
    if name == "keep all":
        assert torch.equal(new, weight)


def test_sparsegpt_is_its_own_mask_followed_by_the_update():
    weight, factor = random_weight(6, 20), factor_hessian(random_hessian(20))
    for options in ({"n_drop": 61}, {"pattern": (2, 4)}):
        new, mask = sparsegpt(weight, factor, block_size=8, **options)
        torch.testing.assert_close(obs_update(weight, mask, factor, block_size=8), new, rtol=1e-12, atol=1e-14)


def test_the_solver_leaves_its_inputs_alone_and_takes_transposed_weights():
    weight, hessian, mask = random_weight(12, 6).T, random_hessian(12), random_mask(6, 12)
    before, hessian_before = weight.clone(), hessian.clone()
    factor = factor_hessian(hessian)
    upper = factor.upper.clone()
    new, chosen = sparsegpt(weight, factor, n_drop=37, block_size=5)
    expected, keep = reference.sparsegpt_unstructured(float64(weight), float64(hessian), 37, 5)
    np.testing.assert_array_equal(chosen.numpy(), keep)
    assert_weights(new, expected, chosen)
    new = obs_update(weight, mask, factor, block_size=5)
    assert_weights(new, reference.obs_update(float64(weight), mask.numpy(), float64(hessian)), mask)
    sparsegpt(weight, factor, pattern=(2, 4), block_size=4)
    assert torch.equal(weight, before) and torch.equal(hessian, hessian_before) and torch.equal(factor.upper, upper)


def test_single_precision_agrees_with_the_double_precision_loop():
    weight, hessian = random_weight(8, 24).float(), random_hessian(24).float()
    new, mask = sparsegpt(weight, factor_hessian(hessian), n_drop=96, block_size=9)
    expected, keep = reference.sparsegpt_unstructured(float64(weight), float64(hessian), 96, 9)
    assert new.dtype == torch.float32
    np.testing.assert_array_equal(mask.numpy(), keep)
    np.testing.assert_allclose(float64(new), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["sparsegpt", "ria+obs", "wanda"])
def test_a_permuted_pattern_is_the_plain_one_on_permuted_columns(method):
    weight, inputs = random_weight(5, 16), random_inputs(40, 16)
    statistics = Statistics(hessian_of(inputs), inputs.norm(dim=0), inputs[:8], 40)
    factor = factor_hessian(statistics.hessian)
    result = prune_matrix(
        weight, statistics, matrix_method(method), n_drop=40, pattern=(2, 4), permute=True, factor=factor, block_size=8
    )
    order, moved = result.order, float64(weight[:, result.order])
    mask = result.mask[:, order]
    assert (mask.reshape(5, -1, 4).sum(dim=2) == 2).all()
    hessian = float64(statistics.hessian[order][:, order])
    if method == "sparsegpt":
        expected, keep = reference.sparsegpt_n_of_m(moved, hessian, 2, 4)
        np.testing.assert_array_equal(mask.numpy(), keep)
    else:
        expected = reference.obs_update(moved, mask.numpy(), hessian) if "obs" in method else moved * mask.numpy()
    assert_weights(result.weight[:, order], expected, mask)


# ---- what the update is for -------------------------------------------------------------------------------------


def test_update_lies_between_no_update_and_the_best_one():
    for seed in range(8):
        weight, hessian, mask = random_weight(6, 16, seed), random_hessian(16, seed), random_mask(6, 16, seed)
        damped, _ = reference.damped_hessian(float64(hessian), 0.01)
        old, keep = float64(weight), mask.numpy()
        updated = float64(obs_update(weight, mask, factor_hessian(hessian)))
        best = reference.quadratic_error(reference.best_update(old, keep, damped) - old, damped)
        with_update = reference.quadratic_error(updated - old, damped)
        without = reference.quadratic_error(old * keep - old, damped)
        assert best * (1 - 1e-9) <= with_update < without
        raw = [relative_output_error(weight, new, hessian) for new in (torch.from_numpy(updated), weight * mask)]
        assert raw[0] < raw[1]


def test_update_is_the_best_possible_when_all_dropped_columns_come_first():
    """Only then may every survivor move after the last removal; the sweep has no other slack."""
    weight, hessian = random_weight(4, 14), random_hessian(14)
    mask = torch.arange(14)[None, :] >= torch.tensor([0, 3, 7, 13])[:, None]
    damped, _ = reference.damped_hessian(float64(hessian), 0.01)
    new = obs_update(weight, mask, factor_hessian(hessian), block_size=5)
    assert_weights(new, reference.best_update(float64(weight), mask.numpy(), damped), mask)


def test_sparsegpt_beats_magnitude_in_output_error():
    weight, hessian = random_weight(12, 24), random_hessian(24)
    factor = factor_hessian(hessian)
    for options, mask in (
        ({"n_drop": 144}, weight.abs() >= weight.abs().flatten().sort().values[144]),
        ({"pattern": (2, 4)}, n_of_m_mask(weight.abs(), 2, 4)),
    ):
        solved = relative_output_error(weight, sparsegpt(weight, factor, **options)[0], hessian)
        assert solved < 0.7 * relative_output_error(weight, weight * mask, hessian)


def test_relative_output_error_equals_the_outputs_themselves():
    for seed in range(3):
        weight, inputs = random_weight(4, 9, seed), random_inputs(11, 9, seed)
        new = weight * random_mask(4, 9, seed)
        expected = reference.output_error(float64(weight), float64(new), float64(inputs))
        assert relative_output_error(weight, new, hessian_of(inputs)) == pytest.approx(expected, rel=1e-10)


def test_relative_output_error_at_its_ends():
    weight, hessian = random_weight(3, 5), random_hessian(5)
    assert relative_output_error(weight, weight, hessian) == 0
    assert relative_output_error(weight, torch.zeros_like(weight), hessian) == pytest.approx(1, rel=1e-12)
    assert relative_output_error(torch.zeros_like(weight), torch.zeros_like(weight), hessian) == 0
    assert relative_output_error(weight, weight * 0, torch.zeros_like(hessian)) == 0
