"""Integer budgets, that every score × allocation spends them to the weight, and the one threshold of `global`."""

import copy

import allocation_references
import numpy as np
import pytest
import torch

from labutils.pruning import prune
from labutils.pruning.allocation_rules import alpha, arithmetic, dlp, integer_budgets, owl
from labutils.pruning.importance import SCORES
from labutils.pruning.patterns import unstructured_mask
from labutils.pruning.reconstruction import factor_hessian, sparsegpt

SPARSITIES = [0.05, 0.33, 0.5, 0.77, 0.9]
SHAPES = [(6, 9), (3, 9), (9, 7), (11, 5)]  # matrices of one block, odd on purpose
N_BLOCKS = 3
ALLOCATIONS = {
    "uniform": lambda statistics, sparsity, sizes: torch.full_like(sizes, sparsity),
    "owl": owl,
    "dlp": dlp,
    "alpha": alpha,
    "arithmetic": lambda statistics, sparsity, sizes: arithmetic(len(sizes), sparsity, sizes, slope=0.04),
}


def assert_budgets(budgets: list[int], sizes: list[int], sparsities: list[float], sparsity: float) -> None:
    assert all(isinstance(budget, int) for budget in budgets)
    assert sum(budgets) == round(sparsity * sum(sizes))
    for budget, size, share in zip(budgets, sizes, sparsities, strict=True):
        assert 0 <= budget <= size
        assert abs(budget - size * share) <= 1


def model_budgets(allocation: str, sparsity: float) -> list[int]:
    """Budgets of all matrices of a toy model with unequal blocks, checked on the way."""
    block_sizes = [sum(r * c for r, c in SHAPES[block:]) for block in range(N_BLOCKS)]
    statistics = torch.tensor([1.0, 2.5, 0.7], dtype=torch.float64)
    per_block = ALLOCATIONS[allocation](statistics, sparsity, torch.tensor(block_sizes, dtype=torch.float64)).tolist()
    shapes = [(block, shape) for block in range(N_BLOCKS) for shape in SHAPES[block:]]
    sizes = [rows * columns for _, (rows, columns) in shapes]
    targets = [per_block[block] for block, _ in shapes]
    budgets = integer_budgets(sizes, targets, sparsity)
    assert_budgets(budgets, sizes, targets, sparsity)
    return budgets


@pytest.mark.parametrize("sparsity", [0.0, *SPARSITIES, 0.99])
def test_budgets_of_random_models_sum_exactly_and_stay_within_one(sparsity):
    generator = np.random.default_rng(1)
    for n in (1, 2, 7, 40, 200):
        sizes = generator.integers(1, 5000, n).tolist()
        raw = generator.normal(sparsity, 0.2, n).tolist()
        targets = allocation_references.project(raw, sizes, sparsity)
        assert_budgets(integer_budgets(sizes, targets, sparsity), sizes, targets, sparsity)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75])
def test_budgets_of_many_equal_matrices_and_of_tiny_ones(sparsity):
    for sizes in ([1] * 9, [3] * 7, [64] * 5, [10_000_000, 1, 1]):
        targets = [sparsity] * len(sizes)
        assert_budgets(integer_budgets(sizes, targets, sparsity), sizes, targets, sparsity)


def test_whole_numbers_are_kept():
    assert integer_budgets([100, 200, 700], [0.5, 0.25, 0.1], 0.17) == [50, 50, 70]
    assert integer_budgets([100], [0.29], 0.29) == [29]  # 100 · 0.29 = 28.999999999999996 in floating point


def test_large_matrices_are_exact():
    sizes = [4096 * 14336] * 6
    targets = [0.7 + 0.01 * (i - 2.5) for i in range(6)]
    assert_budgets(integer_budgets(sizes, targets, 0.7), sizes, targets, 0.7)


def test_targets_that_do_not_add_up_to_the_sparsity_are_refused():
    """Otherwise the total could be met only by moving matrices away from their targets, or not at all."""
    for targets in ([0.5, 0.5], [0.9, 0.9]):
        with pytest.raises(ValueError):
            integer_budgets([100, 100], targets, 0.7)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_every_score_and_allocation_spends_the_whole_budget(sparsity, allocation):
    budgets = model_budgets(allocation, sparsity)
    shapes = [shape for block in range(N_BLOCKS) for shape in SHAPES[block:]]
    total = round(sparsity * sum(rows * columns for rows, columns in shapes))
    for score in (each for each in SCORES.values() if each.gradients is None and each.choose is None):
        dropped = 0
        for seed, (n_drop, (rows, columns)) in enumerate(zip(budgets, shapes, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            weight = torch.randn(rows, columns, generator=generator)
            values = score.function(weight, torch.rand(columns, generator=generator))
            dropped += int((~unstructured_mask(values, n_drop, group=score.group)).sum())
        assert dropped == total


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_sparsegpt_spends_the_whole_budget_whatever_the_blocks(sparsity, allocation):
    budgets = model_budgets(allocation, sparsity)
    shapes = [shape for block in range(N_BLOCKS) for shape in SHAPES[block:]]
    dropped = 0
    for seed, (n_drop, (rows, columns)) in enumerate(zip(budgets, shapes, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        weight, inputs = torch.randn(rows, columns, generator=generator), torch.randn(30, columns, generator=generator)
        factor = factor_hessian(inputs.T @ inputs)
        new, mask = sparsegpt(weight, factor, n_drop=n_drop, block_size=1 + seed % 4)
        assert int((new == 0).sum()) == n_drop == int((~mask).sum())
        dropped += n_drop
    assert dropped == round(sparsity * sum(rows * columns for rows, columns in shapes))


def literal_global_counts(scores: dict[str, torch.Tensor], n_drop: int) -> dict[str, int]:
    """Of every matrix, how many of its scores are among the `n_drop` lowest of the model."""
    ranked = sorted((float(value), name) for name, score in scores.items() for value in score.flatten())
    counts = dict.fromkeys(scores, 0)
    for _, name in ranked[:n_drop]:
        counts[name] += 1
    return counts


@pytest.mark.parametrize(
    ("options", "standardise"),
    [
        ({"allocation": "global", "standardise": False}, False),
        ({"allocation": "global"}, True),
        ({"allocation": "global-raw"}, False),
    ],
)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_the_global_allocation_is_one_threshold_over_all_matrices(tiny_llama, sparsity, options, standardise):
    dense = copy.deepcopy(tiny_llama.state_dict())
    tokens = torch.randint(0, 64, (4, 12), generator=torch.Generator().manual_seed(0))
    layers = prune(tiny_llama, tokens, method="magnitude", sparsity=sparsity, **options).layers
    scores = {name: dense[f"{name}.weight"].double().abs() for name in layers["name"]}
    if standardise:
        scores = {name: (score - score.mean()) / score.std() for name, score in scores.items()}
    expected = literal_global_counts(scores, round(sparsity * sum(score.numel() for score in scores.values())))
    state = tiny_llama.state_dict()
    for name, count in expected.items():
        assert abs(int((state[f"{name}.weight"] == 0).sum()) - count) <= int(standardise), name
