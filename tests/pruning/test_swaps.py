"""SparseSwaps against a search that tries every exchange by computing the whole error anew."""

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from layers import hessian_of, random_hessian, random_inputs, random_mask, random_weight
from spiked_inputs import KINDS, inputs_of

from labutils.pruning.patterns import n_of_m_mask, unstructured_mask
from labutils.pruning.reconstruction import damped_hessian
from labutils.pruning.swap_pairs import Costs, _bounds, helpful_pairs
from labutils.pruning.swaps import swap_weights

HESSIAN = torch.tensor([[6, 3, 2], [3, 6, 1], [2, 1, 2]], dtype=torch.float64)
ROW = torch.tensor([[2, -1.5, 3]], dtype=torch.float64)


def error(weight: torch.Tensor, mask: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """Per row."""
    lost = weight * ~mask
    return ((lost @ hessian) * lost).sum(dim=1)


def exchanges(mask: torch.Tensor, group_m: int | None = None) -> list[torch.Tensor]:
    """Every mask of a row that one exchange away, inside groups where there are any; lowest p first, then lowest q."""
    found = []
    for p in mask.nonzero().flatten().tolist():
        for q in (~mask).nonzero().flatten().tolist():
            if group_m is None or p // group_m == q // group_m:
                other = mask.clone()
                other[p], other[q] = False, True
                found.append(other)
    return found


def search_by_trying(row: torch.Tensor, mask: torch.Tensor, hessian: torch.Tensor, group_m: int | None) -> torch.Tensor:
    """The best exchange again and again, each error summed from scratch."""
    start = now = float(error(row[None], mask[None], hessian))
    while tried := exchanges(mask, group_m):
        errors = [float(error(row[None], other[None], hessian)) for other in tried]
        best = min(range(len(tried)), key=errors.__getitem__)
        if errors[best] - now >= -1e-9 * start:
            break
        mask, now = tried[best], errors[best]
    return mask


@pytest.mark.parametrize("pattern", [None, (2, 4), (1, 4), (4, 8)])
def test_as_good_as_the_search_by_trying(pattern: tuple[int, int] | None) -> None:
    """The order of exchanges is not quite the same, and so may be where it ends: not far off, on the whole."""
    n_moved, found_error, tried_error = 0, 0.0, 0.0
    for seed in range(4):
        weight, hessian = random_weight(5, 16, seed), random_hessian(16, seed)
        score = weight.abs() * hessian.diagonal().sqrt()
        mask = n_of_m_mask(score, *pattern) if pattern else unstructured_mask(score, 37)
        found = swap_weights(weight, mask, hessian, pattern=pattern)
        damped = damped_hessian(hessian, 0.01)
        for row in range(5):
            own, group_m = slice(row, row + 1), pattern and pattern[1]
            tried = search_by_trying(weight[row], mask[row], damped, group_m)
            found_error += float(error(weight[own], found.mask[own], damped))
            tried_error += float(error(weight[own], tried[None], damped))
            assert_nothing_helps(weight[own], mask[own], found.mask[own], damped, group_m)
        n_moved += int(found.n_swaps.sum())
    assert n_moved > 5 and found_error <= 1.02 * tried_error


def assert_nothing_helps(
    weight: torch.Tensor, start: torch.Tensor, mask: torch.Tensor, hessian: torch.Tensor, group_m: int | None = None,
    least: float = 1e-11,
) -> None:  # fmt: skip
    """By trying every exchange; `least` is a share of Σ w_j² H_jj."""
    before, after = error(weight, start, hessian), error(weight, mask, hessian)
    scale = (weight.square() * hessian.diagonal()).sum(dim=1)
    for row in range(len(weight)):
        allowed = 1e-9 * before[row] + least * scale[row]
        assert after[row] <= before[row] + allowed
        for other in exchanges(mask[row], group_m):
            assert after[row] - error(weight[row : row + 1], other[None], hessian)[0] <= allowed


def test_by_hand() -> None:
    """Δ(0→2) = −3 and Δ(0→1) = 43.5, worked out on paper; then nothing helps."""
    start = torch.tensor([[True, False, False]])
    found = swap_weights(ROW, start, HESSIAN, damping=0.0)
    assert found.mask.tolist() == [[False, False, True]] and found.n_swaps.tolist() == [1]
    assert float(error(ROW, start, HESSIAN)) == 22.5 and float(error(ROW, found.mask, HESSIAN)) == 19.5


@fuzz(12)
@given(st.integers(0, 10**6), st.integers(4, 24), st.floats(0.1, 0.9), st.sampled_from([2, 30, 100]))
def test_no_exchange_is_left_that_helps(seed: int, columns: int, share: float, tokens: int) -> None:
    """Few tokens make a singular Hessian, with inputs that can stand in for each other."""
    weight, hessian = random_weight(3, columns, seed), hessian_of(random_inputs(tokens, columns, seed))
    mask = torch.rand(3, columns, generator=torch.Generator().manual_seed(seed)) < share
    for damping in (0.0, 0.01):
        found = swap_weights(weight, mask, hessian, damping=damping)
        assert torch.equal(found.mask.sum(dim=1), mask.sum(dim=1))
        assert_nothing_helps(weight, mask, found.mask, damped_hessian(hessian, damping))


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_leaves_nothing_of_a_millionth(kind: str) -> None:
    """Wide enough that the lists hold a part of the weights, on inputs as they are in networks, and worse."""
    weight, hessian = random_weight(6, 160).float(), hessian_of(inputs_of(kind, 160)).float()
    mask = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 480, group="row")
    found = swap_weights(weight, mask, hessian)
    assert torch.equal(found.mask.sum(dim=1), mask.sum(dim=1)) and found.n_swaps.sum() > 0
    damped, double = damped_hessian(hessian.double(), 0.01), weight.double()
    for row in range(6):
        lost = double[row] * ~found.mask[row]
        pull, own = lost @ damped, double[row].square() * damped.diagonal()
        drop, restore = own + 2 * double[row] * pull, own - 2 * double[row] * pull
        change = drop[:, None] + restore - 2 * double[row, :, None] * double[row] * damped
        change = change[found.mask[row]][:, ~found.mask[row]]
        assert change.min() >= -3e-6 * own.sum()  # a millionth, and the rounding of its sums
    assert (error(double, found.mask, damped) <= error(double, mask, damped) * (1 + 1e-9)).all()


def test_the_units_of_the_inputs_do_not_matter() -> None:
    weight, hessian = random_weight(4, 40).float(), random_hessian(40).float()
    mask = unstructured_mask(weight.abs(), 80, group="row")
    found = swap_weights(weight, mask, hessian).mask
    assert torch.equal(swap_weights(weight * 2.0**-60, mask, hessian * 2.0**-40).mask, found)
    assert not torch.equal(found, mask)


def test_an_input_that_was_always_zero_is_dropped_for_free() -> None:
    inputs = random_inputs(60, 12)
    inputs[:, 3] = 0
    weight, mask = random_weight(4, 12), torch.zeros(4, 12, dtype=torch.bool)
    weight[:, 3], mask[:, :6] = 100.0, True
    found = swap_weights(weight, mask, hessian_of(inputs)).mask
    assert not found[:, 3].any() and (found.sum(dim=1) == 6).all()


def test_the_error_falls_at_every_exchange() -> None:
    weight, hessian = random_weight(6, 32), random_hessian(32)
    damped = damped_hessian(hessian, 0.01)
    mask = unstructured_mask(weight.abs(), 96, group="row")
    errors, most = [error(weight, mask, damped)], int(swap_weights(weight, mask, hessian).n_swaps.max())
    for count in range(1, most + 2):
        found = swap_weights(weight, mask, hessian, max_swaps=count)
        errors.append(error(weight, found.mask, damped))
        moved = found.n_swaps == count
        assert (errors[-1][moved] < errors[-2][moved]).all()
        assert torch.equal(errors[-1][~moved], errors[-2][~moved])
    assert most > 3 and not moved.any()


def test_rows_that_are_searched_together_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, hessian = random_weight(9, 100), hessian_of(inputs_of("correlated", 100))
    mask = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 450, group="row")
    found = swap_weights(weight, mask, hessian)
    monkeypatch.setattr("labutils.pruning.swaps.ROWS", 1)
    assert torch.equal(found.mask, swap_weights(weight, mask, hessian).mask) and found.n_swaps.sum() > 50


@pytest.mark.parametrize("kind", KINDS)
def test_no_pair_is_below_its_bound_and_the_best_are_found(kind: str) -> None:
    damped = damped_hessian(hessian_of(inputs_of(kind, 48)), 0.01)
    scale = damped.diagonal().sqrt()
    hessian, weight, mask = damped / scale / scale[:, None], random_weight(5, 48), random_mask(5, 48)
    costs = Costs.of(weight, mask, (weight * ~mask) @ hessian)
    largest = hessian.abs().fill_diagonal_(0).amax(dim=1)
    change = costs.drop[:, :, None] + costs.restore[:, None, :]
    change -= 2 * weight[:, :, None] * weight[:, None, :] * hessian
    bounds = _bounds(weight.abs(), largest, *costs)
    assert (bounds <= change.amin(dim=2) + 1e-12).all() and (
        bounds > change.amin(dim=2) - 10 * weight.abs().max()
    ).any()
    pairs, helps = helpful_pairs(weight, costs, hessian, largest, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(helps, change.flatten(1).amin(dim=1) < 0) and helps.any()
    for row in helps.nonzero().flatten().tolist():
        place = int(change[row].argmin())
        assert place // 48 in pairs.kept[row] and place % 48 in pairs.dropped[row]


def test_nothing_to_exchange() -> None:
    weight, hessian = random_weight(3, 8), random_hessian(8)
    for mask in (torch.ones(3, 8, dtype=torch.bool), torch.zeros(3, 8, dtype=torch.bool)):
        found = swap_weights(weight, mask, hessian)
        assert torch.equal(found.mask, mask) and not found.n_swaps.any()
    alone = torch.diag(hessian.diagonal())
    wanda = unstructured_mask(weight.abs() * alone.diagonal().sqrt(), 12, group="row")
    assert torch.equal(swap_weights(weight, wanda, alone).mask, wanda), "without correlations Wanda's mask is the best"


def test_refused() -> None:
    weight, hessian, mask = random_weight(2, 8), random_hessian(8), torch.ones(2, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="does not keep 2 of every 4"):
        swap_weights(weight, mask, hessian, pattern=(2, 4))
    with pytest.raises(ValueError, match="needs a mask of that shape"):
        swap_weights(weight, mask[:1], hessian)
    with pytest.raises(ValueError, match="not finite"):
        swap_weights(weight, mask, hessian * torch.nan)
