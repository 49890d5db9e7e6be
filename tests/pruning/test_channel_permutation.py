"""The channel permutation of N:M patterns: never less is kept than without it, and as much as brute force finds."""

import pytest
import references
import torch
from layers import scores

from labutils.pruning.patterns import channel_permutation, n_of_m_mask


def heavy_tailed(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Scores of strong columns side by side, where a permutation has something to gain."""
    generator = torch.Generator().manual_seed(seed)
    column = torch.randn(columns, generator=generator, dtype=torch.float64).mul(1.5).exp().sort().values
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64).abs() * column


def retained(score: torch.Tensor, order: torch.Tensor, keep_n: int, group_m: int) -> float:
    return references.retained(references.float64(score), order.tolist(), keep_n, group_m)


@pytest.mark.parametrize(("keep_n", "group_m"), [(1, 2), (2, 4), (1, 4), (4, 8)])
@pytest.mark.parametrize("kind", [scores, heavy_tailed])
def test_permutation_is_a_permutation_that_never_loses_to_the_identity(kind, keep_n, group_m):
    for seed in range(12):
        score = kind(6, 24, seed)
        order = channel_permutation(score, keep_n, group_m)
        assert order.dtype == torch.int64 and sorted(order.tolist()) == list(range(24))
        kept, identity = retained(score, order, keep_n, group_m), retained(score, torch.arange(24), keep_n, group_m)
        assert kept >= identity * (1 - 1e-12)
        mask = n_of_m_mask(score[:, order], keep_n, group_m)
        assert float(score[:, order][mask].sum()) == pytest.approx(kept, rel=1e-12)


def test_permutation_gains_on_sorted_heavy_tails():
    gains = []
    for seed in range(10):
        score = heavy_tailed(8, 32, seed)
        kept = retained(score, channel_permutation(score, 2, 4), 2, 4)
        gains.append(kept / retained(score, torch.arange(32), 2, 4))
    assert min(gains) > 1.02


@pytest.mark.parametrize(("keep_n", "group_m", "columns"), [(2, 4, 16), (1, 2, 10), (1, 4, 16), (2, 3, 15), (3, 4, 20)])
def test_permutation_retains_what_the_two_stages_by_brute_force_retain(keep_n, group_m, columns):
    for seed in range(3):
        score = heavy_tailed(5, columns, seed)
        totals = [
            references.retained(
                references.float64(score),
                references.permute_by_brute_force(references.float64(score), keep_n, group_m, descending=descending),
                keep_n,
                group_m,
            )
            for descending in (False, True)
        ]
        kept = retained(score, channel_permutation(score, keep_n, group_m), keep_n, group_m)
        assert any(kept == pytest.approx(total, rel=1e-12) for total in totals), (kept, totals)


def test_last_strip_cannot_be_assigned_better():
    for seed in range(4):
        score = heavy_tailed(5, 20, seed)
        order = channel_permutation(score, 2, 4)
        kept = retained(score, order, 2, 4)
        trials = references.assignments_of_strip(order.tolist(), 3, 4)
        best = max(references.retained(references.float64(score), trial, 2, 4) for trial in trials)
        assert kept == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("name", ["all equal", "one row", "one group", "zero row", "zero columns"])
def test_permutation_of_degenerate_scores(name):
    score = heavy_tailed(4, 16, 0)
    score = {
        "all equal": torch.ones(4, 16),
        "one row": score[:1],
        "one group": score[:, :4],
        "zero row": torch.cat([score, torch.zeros(1, 16, dtype=torch.float64)]),
        "zero columns": torch.cat([score[:, :8] * 0, score[:, 8:]], dim=1),
    }[name]
    width = score.shape[1]
    order = channel_permutation(score, 2, 4)
    assert sorted(order.tolist()) == list(range(width))
    assert retained(score, order, 2, 4) >= retained(score, torch.arange(width), 2, 4) * (1 - 1e-12)
    assert torch.equal(score[:, order][:, order.argsort()], score)
