"""The table of rows with least squares on their masks: against numpy's least squares, and against itself made anew."""

import numpy as np
import pytest
import torch
from layers import random_hessian, random_mask, random_weight
from references import float64

from labutils.pruning.solved_rows import SolvedRows, exchange_places, order_by_mask, solve_rows


def solved(weight: torch.Tensor, mask: torch.Tensor, hessian: torch.Tensor) -> SolvedRows:
    return solve_rows(weight, hessian, order_by_mask(mask), mask.sum(dim=1))


@pytest.mark.parametrize("columns", [6, 10, 40])
def test_the_table_against_least_squares(columns: int) -> None:
    """Rows that keep different numbers of weights, so that some are padded; every entry of the table."""
    weight, hessian, mask = random_weight(6, columns), random_hessian(columns), random_mask(6, columns)
    rows = solved(weight, mask, hessian)
    assert len(mask.sum(dim=1).unique()) > 2 and torch.equal(rows.mask, mask)
    design, matrix = np.linalg.cholesky(float64(hessian)).T, float64(hessian)
    for row in range(6):
        dense, kept, order = float64(weight[row]), mask[row].nonzero().flatten().numpy(), rows.order[row].numpy()
        best = np.zeros(columns)
        best[kept] = np.linalg.lstsq(design[:, kept], design @ dense, rcond=None)[0]
        gone = np.setdiff1d(np.arange(columns), kept)
        inverse = np.linalg.inv(matrix[np.ix_(kept, kept)])
        across = inverse @ matrix[np.ix_(kept, gone)]
        expected = np.zeros((columns + 2, columns + 2))
        expected[np.ix_(kept, kept)], expected[np.ix_(kept, gone)] = -inverse, across
        expected[np.ix_(gone, kept)] = across.T
        expected[np.ix_(gone, gone)] = matrix[np.ix_(gone, gone)] - matrix[np.ix_(gone, kept)] @ across
        border = np.append(best + matrix @ (dense - best) * ~mask[row].numpy(), np.sum((design @ (dense - best)) ** 2))
        expected[:-1, -2] = expected[-2, :-1] = border
        places = np.append(order, [columns, columns + 1])
        np.testing.assert_allclose(float64(rows.table[row]), expected[np.ix_(places, places)], rtol=1e-8, atol=1e-9)
        assert float(rows.errors[row]) == pytest.approx(border[-1], rel=1e-9)


def test_exchanged_rows_are_those_made_from_scratch() -> None:
    """One pair, several, none: shorter lists are filled up."""
    weight, hessian = random_weight(3, 9), random_hessian(9)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[:, 2:7] = True
    rows, empty = solved(weight, mask, hessian), 10
    dropped = torch.tensor([[0, 3, 4], [2, empty, empty], [empty] * 3])
    restored = torch.tensor([[8, 5, 6], [7, empty, empty], [empty] * 3])
    exchange_places(rows.table, dropped, restored)
    for out, into, row in ((0, 8, 0), (3, 5, 0), (4, 6, 0), (2, 7, 1)):
        rows.order[row, [out, into]] = rows.order[row, [into, out]]
    anew = solve_rows(weight, hessian, rows.order, rows.n_kept)
    torch.testing.assert_close(rows.table, anew.table, rtol=1e-9, atol=1e-10)
    assert not rows.table[:, -1].any() and torch.equal(rows.mask[2], mask[2]) and not torch.equal(rows.mask[0], mask[0])


def test_fifty_exchanges_cost_few_digits() -> None:
    weight, hessian = random_weight(2, 20), random_hessian(20)
    mask = torch.arange(20).expand(2, 20) < 9
    rows, generator = solved(weight, mask, hessian), torch.Generator().manual_seed(0)
    for _ in range(50):
        out = torch.randint(0, 9, (2, 1), generator=generator)
        into = torch.randint(9, 20, (2, 1), generator=generator)
        exchange_places(rows.table, out, into)
        for row in range(2):
            pair = [int(out[row]), int(into[row])]
            rows.order[row, pair] = rows.order[row, pair[::-1]]
    anew = solve_rows(weight, hessian, rows.order, rows.n_kept)
    torch.testing.assert_close(rows.table, anew.table, rtol=1e-8, atol=1e-10)


def test_a_singular_system_is_refused() -> None:
    with pytest.raises(ValueError, match="singular on the kept weights"):
        solved(torch.ones(1, 3).double(), torch.tensor([[True, True, False]]), torch.ones(3, 3).double())
