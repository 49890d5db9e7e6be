"""Symmetric products from half of their entries, against literal sums in float64."""

import pytest
import torch

from labutils.models.structure import all_finite
from labutils.pruning.patterns import count_zeros, inside_mask
from labutils.pruning.symmetric import NARROWEST_STRIP, add_gram, mirror_lower, quadratic_form, strip_width

WIDTHS = [1, 5, NARROWEST_STRIP, NARROWEST_STRIP + 1, 3 * NARROWEST_STRIP + 7]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("width", WIDTHS)
def test_gram_is_the_sum_of_outer_products(width: int) -> None:
    batches, sums = [draw(3, width), draw(2, width)], torch.zeros(width, width, dtype=torch.float64)
    for batch in batches:
        add_gram(sums, batch)
    expected = torch.zeros_like(sums)
    for token in torch.cat(batches):
        expected += torch.outer(token, token)
    torch.testing.assert_close(mirror_lower(sums), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_quadratic_form_is_the_sum_over_rows(width: int) -> None:
    inputs, rows = draw(6, width), draw(4, width)
    hessian = inputs.T @ inputs
    expected = sum(float(torch.dot(row, hessian @ row)) for row in rows)
    assert quadratic_form(rows, hessian) == pytest.approx(expected)
    assert quadratic_form(rows, hessian) == pytest.approx(float((inputs @ rows.T).square().sum()))


def test_degenerate_forms() -> None:
    width = NARROWEST_STRIP + 3
    assert quadratic_form(torch.zeros(4, width), draw(width, width).float()) == 0
    assert quadratic_form(torch.zeros(0, width), torch.eye(width)) == 0
    assert quadratic_form(torch.ones(2, width), torch.ones(width, width)) == 2 * width**2
    sums = torch.zeros(width, width)
    add_gram(sums, torch.zeros(0, width))
    assert not sums.any()


def test_strips_are_neither_too_narrow_nor_too_many() -> None:
    assert strip_width(10) == strip_width(8 * NARROWEST_STRIP) == NARROWEST_STRIP
    assert strip_width(16 * NARROWEST_STRIP) == 2 * NARROWEST_STRIP


def test_what_a_mask_drops_is_plain_zero() -> None:
    weight, mask = torch.tensor([[-1.0, 2.0], [0.0, -3.0]]), torch.tensor([[False, True], [True, False]])
    kept = inside_mask(weight, mask)
    assert kept.tolist() == [[0.0, 2.0], [0.0, 0.0]] and not torch.signbit(kept).any()
    assert weight.tolist() == [[-1.0, 2.0], [0.0, -3.0]]
    assert count_zeros(kept) == 3 and count_zeros(torch.ones(0, 3)) == 0


def test_a_sum_that_overflows_is_no_sign_of_values_that_are_not_finite() -> None:
    assert all_finite(torch.full((4,), 3e38)) and all_finite(torch.zeros(0))
    for bad in (torch.nan, torch.inf, -torch.inf):
        assert not all_finite(torch.tensor([1.0, bad, 2.0]))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf]))
