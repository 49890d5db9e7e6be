"""Masks against float64 loops: exact budgets, ties, N:M patterns."""

import numpy as np
import pytest
import references
import torch
from layers import scores

from labutils.pruning.patterns import (
    channel_permutation,
    lowest_cuts,
    mask_above,
    n_of_m_mask,
    parse_pattern,
    tied_share,
    unstructured_mask,
)

SHAPES = [(4, 6), (6, 4), (1, 9), (9, 1), (3, 5), (1, 1)]


def tied_cases() -> dict[str, torch.Tensor]:
    return {
        "all equal": torch.ones(4, 6),
        "all zero": torch.zeros(4, 6),
        "few values": torch.randint(0, 3, (5, 8), generator=torch.Generator().manual_seed(1)).float(),
        "zero row": torch.cat([scores(3, 6), torch.zeros(1, 6, dtype=torch.float64)]),
        "dead column": torch.cat([torch.zeros(4, 1, dtype=torch.float64), scores(4, 5)], dim=1),
    }


TIED = tied_cases()


# ---- unstructured masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["row", "matrix"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_budget_is_met_exactly_and_drops_what_the_loop_drops(shape, group):
    score = scores(*shape, seed=sum(shape))
    for n_drop in range(score.numel() + 1):
        mask = unstructured_mask(score, n_drop, group=group)
        assert mask.dtype == torch.bool and int((~mask).sum()) == n_drop
        expected = references.unstructured_mask(references.float64(score), n_drop, group)
        np.testing.assert_array_equal(mask.numpy(), expected, err_msg=f"n_drop={n_drop}")


@pytest.mark.parametrize("group", ["row", "matrix"])
@pytest.mark.parametrize("name", TIED)
def test_ties_drop_the_larger_sums_then_the_lower_places(name, group):
    score = TIED[name]
    for n_drop in range(score.numel() + 1):
        expected = references.unstructured_mask(references.float64(score), n_drop, group)
        mask = unstructured_mask(score, n_drop, group=group)
        np.testing.assert_array_equal(mask.numpy(), expected, err_msg=f"n_drop={n_drop}")


@pytest.mark.parametrize("group", ["row", "matrix"])
def test_a_matrix_as_large_as_a_real_layer_meets_its_budget_with_ties(group):
    score = torch.randint(0, 5, (64, 301), generator=torch.Generator().manual_seed(0)).float()
    for n_drop in (0, 1, 963, 6422, 9632, 17339, score.numel() - 1, score.numel()):
        mask = unstructured_mask(score, n_drop, group=group)
        expected = references.unstructured_mask(references.float64(score), n_drop, group)
        np.testing.assert_array_equal(mask.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])  # numpy selects, but not bfloat16
@pytest.mark.parametrize("name", TIED)
def test_one_sort_cuts_at_every_budget_as_separate_selections_do(name, dtype):
    score = TIED[name].to(dtype)
    cuts = lowest_cuts(score, set(range(1, score.numel() + 1)))
    for group in ("row", "matrix"):
        for n_drop in range(1, score.numel() + 1):
            mask = unstructured_mask(score, n_drop, group=group)
            expected = references.unstructured_mask(references.float64(score.float()), n_drop, group)
            np.testing.assert_array_equal(mask.numpy(), expected)
            assert group == "row" or torch.equal(mask_above(score, cuts[n_drop]), mask)


def test_row_groups_differ_by_what_the_rounding_leaves_and_no_more():
    score = scores(5, 8)
    for n_drop in range(score.numel() + 1):
        dropped = (~unstructured_mask(score, n_drop, group="row")).sum(dim=1)
        assert int(dropped.min()) >= n_drop // 5


def test_matrix_group_keeps_the_largest_total_score():
    score = scores(4, 7)
    for n_drop in range(score.numel() + 1):
        kept = float(score[unstructured_mask(score, n_drop, group="matrix")].sum())
        assert kept == pytest.approx(float(score.flatten().sort().values[n_drop:].sum()), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("sparsity", [0.05, 0.33, 0.5, 0.77, 0.9])
@pytest.mark.parametrize("tied", [False, True])
def test_the_published_wanda_mask_is_nested_in_ours(sparsity, tied):
    score = scores(6, 13)
    score = (score * 4).round() if tied else score
    published = references.wanda_published_mask(references.float64(score), sparsity)
    ours = unstructured_mask(score, round(score.numel() * sparsity), group="row").numpy()
    if not tied:
        assert not (ours & ~published).any(), "we keep a weight that the published code drops"
    for values, mine, theirs in zip(score.numpy(), ours, published, strict=True):  # which of equals go may differ
        lowest = np.sort(values[~theirs])
        np.testing.assert_array_equal(np.sort(values[~mine])[: len(lowest)], lowest)


def test_masks_of_non_contiguous_and_single_precision_scores():
    score = scores(6, 4, dtype=torch.float32)
    for group in ("row", "matrix"):
        expected = references.unstructured_mask(references.float64(score.T), 11, group)
        np.testing.assert_array_equal(unstructured_mask(score.T, 11, group=group).numpy(), expected)
    np.testing.assert_array_equal(
        n_of_m_mask(score.T, 1, 3).numpy(), references.n_of_m_mask(references.float64(score.T), 1, 3)
    )


@pytest.mark.parametrize("group", ["row", "matrix"])
def test_unstructured_mask_refuses_nan_and_impossible_budgets(group):
    score = scores(3, 4)
    for n_drop in (-1, 13):
        with pytest.raises(ValueError, match=str(n_drop)):
            unstructured_mask(score, n_drop, group=group)
    score[1, 2] = float("nan")
    for n_drop in (0, 5, 12):
        with pytest.raises(ValueError, match="(?i)nan"):
            unstructured_mask(score, n_drop, group=group)


@pytest.mark.parametrize("group", ["row", "matrix"])
def test_infinite_scores_are_refused_or_ranked_last(group):
    score = torch.tensor([[1.0, float("inf"), 0.0, float("inf")], [2.0, 2.0, float("inf"), 1.0]])
    for n_drop in range(score.numel() + 1):
        try:
            mask = unstructured_mask(score, n_drop, group=group)
        except ValueError:
            continue
        expected = references.unstructured_mask(references.float64(score), n_drop, group)
        np.testing.assert_array_equal(mask.numpy(), expected, err_msg=f"n_drop={n_drop}")


def test_masks_leave_the_scores_alone():
    score = scores(4, 8)
    before = score.clone()
    unstructured_mask(score, 13, group="row")
    unstructured_mask(score, 13, group="matrix")
    n_of_m_mask(score, 2, 4)
    channel_permutation(score, 2, 4)
    assert torch.equal(score, before)


# ---- N:M --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep_n", "group_m"), [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (5, 6)])
def test_n_of_m_keeps_exactly_n_of_m_with_the_best_total_score(keep_n, group_m):
    for seed in range(4):
        score = scores(5, 24, seed)
        mask = n_of_m_mask(score, keep_n, group_m)
        assert (mask.reshape(5, -1, group_m).sum(dim=2) == keep_n).all()
        np.testing.assert_array_equal(mask.numpy(), references.n_of_m_mask(references.float64(score), keep_n, group_m))
        best = references.retained(references.float64(score), list(range(24)), keep_n, group_m)
        assert float(score[mask].sum()) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("name", ["all equal", "all zero", "few values"])
def test_n_of_m_ties_drop_the_column_with_the_larger_sum(name):
    score = TIED[name]
    for keep_n, group_m in ((1, 2), (2, 4), (1, 4), (3, 4)):
        if score.shape[1] % group_m == 0:
            mask = n_of_m_mask(score, keep_n, group_m)
            expected = references.n_of_m_mask(references.float64(score), keep_n, group_m)
            np.testing.assert_array_equal(mask.numpy(), expected)


@pytest.mark.parametrize("function", [n_of_m_mask, channel_permutation])
def test_a_width_that_m_does_not_divide_is_refused(function):
    with pytest.raises(ValueError, match="10"):
        function(scores(3, 10), 2, 4)


def test_n_of_m_refuses_nan():
    score = scores(3, 8)
    score[0, 1] = float("nan")
    with pytest.raises(ValueError, match="(?i)nan"):
        n_of_m_mask(score, 2, 4)


def test_parse_pattern():
    assert parse_pattern("unstructured") is None
    assert parse_pattern("2:4") == (2, 4)
    assert parse_pattern("4:8") == (4, 8)
    for wrong in ("4:2", "0:4", "4:4", "2-4", "2:4:8", "", "dense", "-1:4", "2:4x", "2.0:4"):
        with pytest.raises(ValueError):
            parse_pattern(wrong)


# ---- ties -------------------------------------------------------------------------------------------------------


def four_bits(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Magnitudes of weights in blocks of 32 along a row, each with 16 levels of its own."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).reshape(rows, -1, 32)
    step = weight.abs().amax(dim=2, keepdim=True) / 8
    return ((weight / step).round() * step).abs().reshape(rows, columns)


@pytest.mark.parametrize("group", ["row", "matrix"])
def test_the_order_of_columns_does_not_decide_among_ties(group):
    score = four_bits(48, 64)
    for seed in range(4):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
        for n_drop in (500, 1500, 1531, 2900):
            mask = unstructured_mask(score[:, order], n_drop, group=group)
            assert int((~mask).sum()) == n_drop
            assert torch.equal(mask, unstructured_mask(score, n_drop, group=group)[:, order])


@pytest.mark.parametrize(("keep_n", "group_m"), [(2, 4), (1, 4), (4, 8)])
def test_the_order_of_columns_in_a_group_does_not_decide_among_ties(keep_n, group_m):
    score = four_bits(48, 64)
    mask = n_of_m_mask(score, keep_n, group_m)
    assert tied_share(score, mask, pattern=(keep_n, group_m)) > 0.1
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        groups = torch.randperm(64 // group_m, generator=generator)
        within = torch.stack([torch.randperm(group_m, generator=generator) for _ in groups])
        order = (groups[:, None] * group_m + within).reshape(-1)
        assert torch.equal(n_of_m_mask(score[:, order], keep_n, group_m), mask[:, order])


def test_among_ties_the_column_of_the_smaller_sum_stays():
    score = torch.tensor([[2.0, 2.0, 2.0, 5.0], [9.0, 1.0, 4.0, 3.0]])
    assert n_of_m_mask(score, 2, 4)[0].tolist() == [False, True, False, True]
    assert unstructured_mask(score, 3)[0].tolist() == [False, True, False, True]
    assert unstructured_mask(score, 4, group="row")[0].tolist() == [False, True, False, True]


def test_the_share_of_ties():
    score = torch.tensor([[1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    assert tied_share(score, n_of_m_mask(score, 3, 4), pattern=(3, 4)) == 0.5
    assert tied_share(score, n_of_m_mask(score, 2, 4), pattern=(2, 4)) == 0
    assert (
        tied_share(score, unstructured_mask(score, 2)) == 3 / 8 and tied_share(score, unstructured_mask(score, 3)) == 0
    )
    assert tied_share(score, unstructured_mask(score, 2, group="row"), group="row") == 2 / 8
    assert tied_share(score, torch.ones(2, 4, dtype=torch.bool)) == 0
    assert tied_share(score, torch.zeros(2, 4, dtype=torch.bool), pattern=(2, 4)) == 0
