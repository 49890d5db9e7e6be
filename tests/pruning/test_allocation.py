"""Allocations against literal formulas, and the projection that makes every one of them meet the same budget."""

import math
from collections.abc import Callable

import allocation_references as reference
import numpy as np
import pytest
import torch

from labutils.pruning.allocation_rules import (
    adaptive_deviation,
    alpha,
    arithmetic,
    dlp,
    equal_marginal_damage,
    owl,
    project_to_budget,
)

SPARSITIES = [0.05, 0.33, 0.5, 0.77, 0.9]
RULES = ["owl", "dlp", "alpha", "arithmetic"]


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def statistics(n_blocks: int, seed: int) -> tuple[list[float], list[int]]:
    """Random block statistics and unequal block sizes."""
    generator = np.random.default_rng(seed)
    return generator.lognormal(1.0, 0.7, n_blocks).tolist(), generator.integers(900, 5000, n_blocks).tolist()


def allocate(rule: str, values: list[float], sparsity: float, sizes: list[int], **strength: float) -> list[float]:
    s = vector(*sizes)
    if rule == "arithmetic":
        return arithmetic(len(values), sparsity, s, **(strength or {"slope": 0.02})).tolist()
    function: Callable = {"owl": owl, "dlp": dlp, "alpha": alpha}[rule]
    return function(vector(*values), sparsity, s, **strength).tolist()


def unprojected(rule: str, values: list[float], sparsity: float, sizes: list[int]) -> list[float]:
    """The formula with its published strength, before clipping and projection."""
    if rule == "owl":
        return reference.spread(values, sparsity, 0.08)
    if rule == "dlp":
        return reference.spread(reference.dlp_importance(values), sparsity, 0.15)
    if rule == "alpha":
        return reference.alpha(values, sparsity, sizes, 0.3)
    return reference.arithmetic(len(values), sparsity, 0.02)


def assert_valid(result: list[float], sizes: list[int], sparsity: float) -> None:
    assert all(-1e-12 <= value <= 0.99 + 1e-12 for value in result), result
    assert reference.weighted_mean(result, sizes) == pytest.approx(sparsity, abs=1e-12)


# ---- the four formulas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("rule", RULES)
def test_allocation_equals_the_literal_formula(rule, sparsity):
    for seed, n_blocks in enumerate((2, 3, 6, 17)):
        values, sizes = statistics(n_blocks, seed)
        result = allocate(rule, values, sparsity, sizes)
        expected = reference.project(unprojected(rule, values, sparsity, sizes), sizes, sparsity)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
        assert_valid(result, sizes, sparsity)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("rule", ["owl", "dlp", "alpha"])
def test_equal_statistics_give_the_uniform_allocation(rule, sparsity):
    for value in (0.0, 0.1, 3.7):
        result = allocate(rule, [value] * 5, sparsity, [10, 20, 30, 40, 50])
        np.testing.assert_allclose(result, [sparsity] * 5, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("rule", RULES)
def test_a_single_block_gets_the_target(rule, sparsity):
    assert allocate(rule, [2.5], sparsity, [123]) == pytest.approx([sparsity], abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_strength_zero_is_uniform(rule):
    option = {"alpha": "epsilon", "arithmetic": "slope"}.get(rule, "deviation")
    values, sizes = statistics(6, 3)
    np.testing.assert_allclose(allocate(rule, values, 0.6, sizes, **{option: 0.0}), [0.6] * 6, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sparsity", [0.0, *SPARSITIES, 0.97, 0.99])
def test_strong_settings_clip_and_still_meet_the_budget(rule, sparsity):
    option, strength = {"alpha": ("epsilon", 1.0), "arithmetic": ("slope", 0.4)}.get(rule, ("deviation", 0.9))
    for seed in range(6):
        values, sizes = statistics(5, seed)
        assert_valid(allocate(rule, values, sparsity, sizes, **{option: strength}), sizes, sparsity)


def test_owl_is_two_deviations_wide_and_denser_where_outliers_are_more():
    values, sizes = statistics(8, 1)
    for deviation in (0.04, 0.08, 0.15):
        result = allocate("owl", values, 0.6, sizes, deviation=deviation)
        assert max(result) - min(result) == pytest.approx(2 * deviation, abs=1e-12)
        assert np.argsort(result).tolist() == np.argsort(values)[::-1].tolist()


def test_owl_by_hand():
    # Shares 1, 2, 5 of equal blocks: densities .16 × (0, ¼, 1), mean .0666…, so S + .0667, + .0267, − .0933 at S = .7.
    result = allocate("owl", [1.0, 2.0, 5.0], 0.7, [10, 10, 10])
    assert result == pytest.approx([0.7 + 0.2 / 3, 0.7 + 0.08 / 3, 0.7 - 0.28 / 3], abs=1e-12)


def test_dlp_prunes_the_larger_activation_more_and_alpha_the_larger_exponent():
    for rule in ("dlp", "alpha"):
        values, sizes = statistics(7, 2)
        result = allocate(rule, values, 0.6, sizes)
        assert np.argsort(result).tolist() == np.argsort(values).tolist(), rule


def test_alpha_keeps_the_ratio_of_its_ends():
    values, sizes = statistics(7, 2)
    result = allocate("alpha", values, 0.5, sizes)
    assert max(result) / min(result) == pytest.approx(1.3 / 0.7, rel=1e-12)


def test_arithmetic_rises_by_the_slope():
    result = allocate("arithmetic", [0.0] * 6, 0.5, [100] * 6, slope=0.03)
    np.testing.assert_allclose(np.diff(result), [0.03] * 5, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["owl", "dlp", "alpha"])
def test_a_nan_statistic_is_refused(rule):
    with pytest.raises(ValueError):
        allocate(rule, [1.0, math.nan, 2.0], 0.5, [10, 20, 30])


@pytest.mark.parametrize("rule", ["owl", "dlp", "alpha"])
def test_an_infinite_statistic_is_refused_or_extreme_but_never_ignored(rule):
    """A block without an eigenvalue tail has exponent infinity: to call the others equal would be a silent fallback."""
    try:
        result = allocate(rule, [1.0, math.inf, 2.0], 0.5, [10, 20, 30])
    except ValueError:
        return
    assert_valid(result, [10, 20, 30], 0.5)
    assert result[1] == (min(result) if rule == "owl" else max(result)) and max(result) - min(result) > 1e-6


def test_adaptive_deviation_is_a_ramp_that_never_leaves_the_unit_interval():
    for sparsity in np.linspace(0, 0.99, 100).tolist():
        for low, high, largest in ((0.4, 0.7, 0.08), (0.2, 0.3, 0.5)):
            ramp = 0.0 if sparsity < low else 1.0 if sparsity > high else (sparsity - low) / (high - low)
            expected = min(largest * ramp, sparsity, 1 - sparsity)
            result = adaptive_deviation(sparsity, low=low, high=high, largest=largest)
            assert result == pytest.approx(expected, abs=1e-12)
    assert adaptive_deviation(0.55) == pytest.approx(0.04) and adaptive_deviation(0.97) == pytest.approx(0.03)


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_equal_marginal_damage_meets_the_conditions_of_the_minimum(sparsity):
    """Moving weight between any two blocks, by any amount, must not lower the summed damage of the common curve."""
    generator = np.random.default_rng(3)
    for n_blocks in (1, 2, 5):
        sizes = generator.integers(900, 5000, n_blocks).tolist()
        low = generator.lognormal(-4, 0.5, n_blocks)
        damages = np.stack([low, low * generator.uniform(1.5, 9, n_blocks)])
        s = vector(*sizes)
        result = equal_marginal_damage((0.4, 0.7), torch.from_numpy(damages), sparsity, s).tolist()
        assert_valid(result, sizes, sparsity)
        rate = np.mean(np.log(damages[1] / damages[0]) / 0.3)
        scale = np.sqrt(damages[0] * damages[1]) / np.exp(rate * 0.55)
        for here, there in np.ndindex(n_blocks, n_blocks):
            for weights in (1.0, 30.0):
                moved = np.array(result)
                moved[here] += weights / sizes[here]
                moved[there] -= weights / sizes[there]
                if moved[here] <= 0.99 and moved[there] >= 0:
                    change = (scale * (np.exp(rate * moved) - np.exp(rate * np.array(result)))).sum()
                    assert change >= -1e-13


# ---- projection -------------------------------------------------------------------------------------------------


def project(values: list[float], sizes: list[int], sparsity: float) -> list[float]:
    return project_to_budget(vector(*values), vector(*sizes), sparsity).tolist()


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_projection_properties_on_random_vectors(sparsity):
    generator = np.random.default_rng(0)
    for n_blocks in (1, 2, 5, 12, 40):
        values = generator.normal(sparsity, 0.4, n_blocks).tolist()
        sizes = generator.integers(1, 10_000, n_blocks).tolist()
        result = project(values, sizes, sparsity)
        assert_valid(result, sizes, sparsity)
        order = np.argsort(values, kind="stable")
        assert (np.diff(np.array(result)[order]) >= -1e-12).all(), "the order of the blocks changed"
        inside = [b for b in range(n_blocks) if 0 < values[b] < 0.99 and 1e-9 < result[b] < 0.99 - 1e-9]
        shifts = [result[b] - values[b] for b in inside]
        assert not shifts or max(shifts) - min(shifts) < 1e-12, "unclipped blocks moved by different amounts"


def test_projection_shifts_all_blocks_and_clips_at_both_ends():
    assert project([-0.1, 0.5], [1, 1], 0.35) == pytest.approx([0.05, 0.65], abs=1e-12)
    assert project([-0.4, 0.5], [1, 1], 0.3) == pytest.approx([0.0, 0.6], abs=1e-12)
    assert project([0.2, 0.4, 1.4], [1, 1, 2], 0.6) == pytest.approx([0.11, 0.31, 0.99], abs=1e-12)


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_projection_equals_the_exact_solution_of_the_piecewise_line(sparsity):
    generator = np.random.default_rng(5)
    for n_blocks in (1, 2, 5, 12, 40):
        values = generator.normal(sparsity, 0.5, n_blocks).tolist()
        sizes = generator.integers(1, 10_000, n_blocks).tolist()
        expected = reference.project(values, sizes, sparsity)
        np.testing.assert_allclose(project(values, sizes, sparsity), expected, rtol=0, atol=1e-12)


def test_projection_leaves_a_feasible_allocation_alone():
    values, sizes = [0.0, 0.2, 0.99, 0.5], [10, 20, 5, 40]
    target = reference.weighted_mean(values, sizes)
    assert project(values, sizes, target) == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("values", [[-1.0, 2.0], [2.0, 2.0], [-1.0, -1.0], [0.0, 0.99], [0.98, 0.99, -3.0]])
def test_projection_meets_the_budget_even_when_everything_was_clipped(values):
    sizes = [30, 70, 50][: len(values)]
    for sparsity in (0.0, *SPARSITIES, 0.99):
        assert_valid(project(values, sizes, sparsity), sizes, sparsity)


@pytest.mark.parametrize("sparsity", [-0.1, 0.995, 1.0, math.nan])
def test_projection_refuses_an_impossible_target(sparsity):
    with pytest.raises(ValueError):
        project([0.5, 0.5], [1, 1], sparsity)


def test_projection_does_not_change_its_input():
    values = vector(-0.2, 0.4, 1.3)
    before = values.clone()
    project_to_budget(values, vector(1, 2, 3), 0.5)
    assert torch.equal(values, before)
