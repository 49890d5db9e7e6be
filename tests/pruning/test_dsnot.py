"""DSnoT against a loop over rows that keeps lists of candidates, as the paper tells it."""

import pytest
import torch
from layers import hessian_of, random_inputs, random_weight

from labutils.pruning.dsnot import balance_means
from labutils.pruning.patterns import n_of_m_mask, unstructured_mask
from labutils.pruning.reconstruction import relative_output_error
from labutils.pruning.statistics import Statistics


def loop(
    row: list[float], mask: list[bool], sums: list[float], variances: list[float], norms: list[float],
    group_m: int | None, cycles: int = 50, threshold: float = 0.1,
) -> list[bool]:  # fmt: skip
    part = [w * s for w, s in zip(row, sums, strict=True)]
    missing = sum(p for p, kept in zip(part, mask, strict=True) if not kept)
    grown = sorted((j for j, kept in enumerate(mask) if not kept), key=lambda j: part[j] / variances[j])
    may_go = sorted((j for j, kept in enumerate(mask) if kept), key=lambda j: abs(row[j]) * norms[j])
    mask = list(mask)
    for _ in range(cycles):
        if abs(missing) <= threshold or not grown:
            break
        q = grown.pop() if missing > 0 else grown.pop(0)
        if group_m is None:
            fitting = [j for j in may_go if part[j] * missing < 0]
        else:
            fitting = [j for j in may_go if j // group_m == q // group_m]
        if not fitting:
            if group_m is None:
                break
            continue
        p = fitting[0]
        after = missing + part[p] - part[q]
        if group_m is not None and after * missing < 0:
            continue
        mask[q], mask[p], missing = True, False, after
        may_go.remove(p)
    return mask


def layer(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = random_inputs(60, 16, seed) + torch.linspace(-0.5, 0.5, 16, dtype=torch.float64)
    return random_weight(6, 16, seed), inputs


@pytest.mark.parametrize("pattern", [None, (2, 4), (1, 4)])
def test_equals_the_loop(pattern: tuple[int, int] | None) -> None:
    n_moved = 0
    for seed in range(4):
        weight, inputs = layer(seed)
        sums, variances, norms = inputs.sum(dim=0) / 3, inputs.var(dim=0, correction=0), inputs.norm(dim=0)
        score = weight.abs() * norms
        mask = n_of_m_mask(score, *pattern) if pattern else unstructured_mask(score, 48, group="row")
        found = balance_means(weight, mask, sums=sums, variances=variances, norms=norms, pattern=pattern)
        known = sums.tolist(), variances.tolist(), norms.tolist()
        expected = [
            loop(*row, *known, pattern and pattern[1]) for row in zip(weight.tolist(), mask.tolist(), strict=True)
        ]
        assert found.tolist() == expected
        assert torch.equal(found.sum(dim=1), mask.sum(dim=1))
        if pattern:
            assert (found.reshape(6, -1, pattern[1]).sum(dim=2) == pattern[0]).all()
        n_moved += int((found & ~mask).sum())
    assert n_moved > 8


def test_means_come_nearer_and_the_error_may_rise() -> None:
    """What it balances is balanced; of the layer's output nothing is promised, and here it is worse for it."""
    before, after, rises = 0.0, 0.0, 0
    for seed in range(6):
        weight, inputs = layer(seed)
        sums = inputs.sum(dim=0) / 3
        norms, hessian = inputs.norm(dim=0), hessian_of(inputs)
        mask = unstructured_mask(weight.abs() * norms, 48, group="row")
        found = balance_means(weight, mask, sums=sums, variances=inputs.var(dim=0, correction=0), norms=norms)
        before += float(((weight * ~mask) @ sums).abs().sum())
        after += float(((weight * ~found) @ sums).abs().sum())
        errors = [relative_output_error(weight, weight * kept, hessian) for kept in (mask, found)]
        rises += errors[1] > errors[0]
    assert after < 0.7 * before
    assert rises > 0


def test_a_row_whose_mean_is_right_stays_and_so_does_one_without_candidates() -> None:
    weight = torch.tensor([[1.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    mask = torch.tensor([[False, True, True], [False, True, True]])
    ones = torch.ones(3)
    assert torch.equal(balance_means(weight, mask, sums=ones * 0.01, variances=ones, norms=ones), mask)
    assert torch.equal(balance_means(weight, mask, sums=ones, variances=ones, norms=ones), mask), "no part is negative"


def test_an_input_that_does_not_vary_comes_first_if_it_has_the_right_sign() -> None:
    """ε = 1.5: of the dropped weights the one on the constant input brings it nearest to zero for its variance."""
    mask, variances = torch.tensor([[False, True, True, False]]), torch.tensor([0.0, 0.0, 0.0, 1.0])
    known = {"sums": torch.ones(4), "variances": variances, "norms": torch.ones(4)}
    found = balance_means(torch.tensor([[1.0, -1.0, -2.0, 0.5]]), mask, **known)
    assert found.tolist() == [[True, False, True, False]]
    wrong = balance_means(torch.tensor([[-0.5, -1.0, -2.0, 2.0]]), mask, **known)  # of the other sign it comes last
    assert wrong.tolist() == [[False, False, True, True]]
    several = torch.tensor([[0.2, 1.0, -1.0, 5.0]])  # two constant inputs dropped: the larger part comes first
    found = balance_means(several, torch.tensor([[False, False, True, True]]), **known, cycles=1)
    assert found.tolist() == [[False, True, False, True]]


def test_variances_are_those_of_the_inputs() -> None:
    _, inputs = layer(0)
    own = Statistics(None, inputs.norm(dim=0), inputs[:2], len(inputs), inputs.sum(dim=0), 3)
    torch.testing.assert_close(own.variances, inputs.var(dim=0, correction=0))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(own.permuted(order).variances, own.variances[order])
