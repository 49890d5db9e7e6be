"""The preconditioner of the leading eigenvectors against the inverse it stands for, written out row by row."""

import torch
from layers import hessian_of, random_mask, random_weight
from spiked_inputs import inputs_of

from labutils.pruning.conjugate_gradients import descend, descend_in_error
from labutils.pruning.leading_part import LeadingPart


def unit_hessian(kind: str, columns: int) -> torch.Tensor:
    hessian = hessian_of(inputs_of(kind, columns))
    hessian.diagonal().add_(0.01 * hessian.diagonal().mean())
    scale = hessian.diagonal().sqrt()
    return hessian / scale / scale[:, None]


def test_is_the_inverse_on_every_support() -> None:
    hessian, mask = unit_hessian("correlated", 40), random_mask(6, 40)
    leading, inside = LeadingPart(hessian, rank=5), mask.double()
    rest = random_weight(6, 40) * inside
    found = leading.apply(rest, inside, leading.cores(inside))
    for row in range(6):
        factor = leading.factor[mask[row]]
        whole = leading.others * torch.eye(len(factor), dtype=torch.float64) + factor @ factor.T
        expected = leading.others * torch.linalg.solve(whole, rest[row, mask[row]])
        torch.testing.assert_close(found[row, mask[row]], expected)
        assert not found[row, ~mask[row]].any()


def test_far_fewer_products_than_without_and_the_same_end() -> None:
    hessian, mask = unit_hessian("correlated", 200), random_mask(8, 200)
    weight = random_weight(8, 200)
    lost = weight * ~mask
    right, errors = (lost @ hessian) * mask, ((lost @ hessian) * lost).sum(dim=1)
    fast = descend_in_error(hessian, right, mask, errors, 1e-10, 500, LeadingPart(hessian))
    slow, products = descend(hessian, right, mask, torch.full_like(errors, 1e-6), 500)
    assert fast.arrived.all() and 2 * fast.products < products < 500
    torch.testing.assert_close(fast.step, slow, rtol=1e-4, atol=1e-4)
    left = ((lost - fast.step) @ hessian * (lost - fast.step)).sum(dim=1)
    torch.testing.assert_close(fast.left, left)
