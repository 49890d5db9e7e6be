"""SparseSwaps against a search that tries every exchange by computing the whole error anew."""

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from layers import hessian_of, random_hessian, random_inputs, random_weight

from labutils.pruning.patterns import n_of_m_mask, unstructured_mask
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
def test_equals_the_search_by_trying(pattern: tuple[int, int] | None) -> None:
    n_moved = 0
    for seed in range(4):
        weight, hessian = random_weight(5, 16, seed), random_hessian(16, seed)
        score = weight.abs() * hessian.diagonal().sqrt()
        mask = n_of_m_mask(score, *pattern) if pattern else unstructured_mask(score, 37)
        found = swap_weights(weight, mask, hessian, pattern=pattern)
        for row in range(5):
            expected = search_by_trying(weight[row], mask[row], hessian, pattern and pattern[1])
            assert torch.equal(found.mask[row], expected)
        n_moved += int(found.n_swaps.sum())
    assert n_moved > 5


def test_by_hand() -> None:
    """Δ(0→2) = −3 and Δ(0→1) = 43.5, worked out on paper; then nothing helps."""
    start = torch.tensor([[True, False, False]])
    found = swap_weights(ROW, start, HESSIAN)
    assert found.mask.tolist() == [[False, False, True]] and found.n_swaps.tolist() == [1]
    assert float(error(ROW, start, HESSIAN)) == 22.5 and float(error(ROW, found.mask, HESSIAN)) == 19.5


@fuzz(25)
@given(st.integers(0, 10**6), st.integers(4, 24), st.floats(0.1, 0.9), st.sampled_from([2, 30, 100]))
def test_no_exchange_is_left_that_helps(seed: int, columns: int, share: float, tokens: int) -> None:
    """Few tokens make a singular Hessian, with inputs that can stand in for each other."""
    weight, hessian = random_weight(3, columns, seed), hessian_of(random_inputs(tokens, columns, seed))
    mask = torch.rand(3, columns, generator=torch.Generator().manual_seed(seed)) < share
    found = swap_weights(weight, mask, hessian)
    assert torch.equal(found.mask.sum(dim=1), mask.sum(dim=1))
    before, after = error(weight, mask, hessian), error(weight, found.mask, hessian)
    scale = (weight.square() * hessian.diagonal()).amax(dim=1)
    for row in range(3):
        assert after[row] <= before[row] + 1e-12 * scale[row]
        for other in exchanges(found.mask[row]):
            gain = after[row] - error(weight[row : row + 1], other[None], hessian)[0]
            assert gain <= 1e-9 * before[row] + 1e-11 * scale[row]


def test_the_error_falls_at_every_exchange() -> None:
    weight, hessian = random_weight(6, 32), random_hessian(32)
    mask = unstructured_mask(weight.abs(), 96, group="row")
    errors, most = [error(weight, mask, hessian)], int(swap_weights(weight, mask, hessian).n_swaps.max())
    for count in range(1, most + 2):
        found = swap_weights(weight, mask, hessian, max_swaps=count)
        errors.append(error(weight, found.mask, hessian))
        moved = found.n_swaps == count
        assert (errors[-1][moved] < errors[-2][moved]).all()
        assert torch.equal(errors[-1][~moved], errors[-2][~moved])
    assert most > 3 and not moved.any()


def test_many_inputs_are_searched_as_a_whole_although_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that pass over nothing lead to the same mask; so do small chunks of rows."""
    weight, hessian = random_weight(9, 60), random_hessian(60)
    mask = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 270, group="row")
    found = swap_weights(weight, mask, hessian)
    monkeypatch.setattr(
        "labutils.pruning.swaps._RowPairs._bounds", lambda self, rows, costs, gains: costs.float() - 1e9
    )
    monkeypatch.setattr("labutils.pruning.swaps.CHUNK_BYTES", 1)
    everything = swap_weights(weight, mask, hessian)
    assert torch.equal(found.mask, everything.mask) and torch.equal(found.n_swaps, everything.n_swaps)


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
