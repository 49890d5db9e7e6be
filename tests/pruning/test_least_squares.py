"""Least squares on a mask against numpy's own, row by row, and against every other reconstruction of the same mask."""

import numpy as np
import obs_references as reference
import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from layers import hessian_of, hessian_with_lowest_eigenvalue, random_hessian, random_inputs, random_mask, random_weight
from references import float64
from spiked_inputs import KINDS, inputs_of

import labutils.pruning.least_squares
from labutils.pruning.admm import admm_on_mask
from labutils.pruning.least_squares import least_squares
from labutils.pruning.patterns import n_of_m_mask, unstructured_mask
from labutils.pruning.reconstruction import damped_hessian, factor_hessian, obs_update

INPUTS = torch.tensor([[1, 2, 0], [0, 1, 1], [2, 0, 1], [1, 1, 0]], dtype=torch.float64)
WEIGHT = torch.tensor([[1, -2, 3], [2, 1, -1]], dtype=torch.float64)


def masks_of(kind: str, rows: int, columns: int) -> torch.Tensor:
    share = {"few": 0.2, "half": 0.5, "many": 0.8}.get(kind, 0.5)
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(3)) < share
    if kind == "shared":
        mask[1::2] = mask[0]
    if kind == "2:4":
        mask = n_of_m_mask(random_weight(rows, columns).abs(), 2, 4)
    return mask


def damped_errors(weight: torch.Tensor, new: torch.Tensor, hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Per row, with the damped Hessian."""
    lost = (weight - new).double()
    return ((lost @ damped_hessian(hessian.double(), damping)) * lost).sum(dim=1)


@pytest.mark.parametrize("kind", ["few", "half", "many", "shared", "2:4"])
@pytest.mark.parametrize("columns", [8, 64])
def test_equals_numpy_on_the_kept_columns(kind: str, columns: int) -> None:
    weight, inputs, mask = random_weight(12, columns), random_inputs(4 * columns, columns), masks_of(kind, 12, columns)
    found = float64(least_squares(weight, mask, inputs.T @ inputs, damping=0.0))
    for row in range(12):
        kept = mask[row].numpy()
        best = np.linalg.lstsq(float64(inputs)[:, kept], float64(inputs) @ float64(weight[row]), rcond=None)[0]
        np.testing.assert_allclose(found[row, kept], best, rtol=1e-8, atol=1e-8)
        assert (found[row, ~kept] == 0).all()


@pytest.mark.parametrize("damping", [1e-6, 0.01, 0.3])
@pytest.mark.parametrize("kind", ["few", "half", "many"])
def test_damping_pulls_towards_the_dense_weights(kind: str, damping: float) -> None:
    weight, hessian, mask = random_weight(6, 20), random_hessian(20), masks_of(kind, 6, 20)
    damped, _ = reference.damped_hessian(float64(hessian), damping)
    found = least_squares(weight, mask, hessian, damping=damping)
    np.testing.assert_allclose(float64(found), reference.best_update(float64(weight), mask.numpy(), damped), rtol=1e-8)


def test_by_hand() -> None:
    """Masks, weights and errors worked out on paper: X of four tokens and three inputs."""
    hessian = INPUTS.T @ INPUTS
    mask = torch.tensor([[False, True, True], [True, False, True]])
    found = least_squares(WEIGHT, mask, hessian, damping=0.0)
    torch.testing.assert_close(found, torch.tensor([[0, -18 / 11, 42 / 11], [2.5, 0, -1]], dtype=torch.float64))
    torch.testing.assert_close(
        damped_errors(WEIGHT, found, hessian, 0.0), torch.tensor([36 / 11, 4.5], dtype=torch.float64)
    )
    damped = least_squares(WEIGHT[:1], mask[:1], hessian, damping=0.01)
    assert damped[0].tolist() == pytest.approx([0, -1.6360603, 3.7993780], abs=1e-7)
    assert float(damped_errors(WEIGHT[:1], damped, hessian, 0.0)) == pytest.approx(3.2734236, abs=1e-7)


def test_the_smaller_system_of_a_row_gives_what_the_larger_one_would() -> None:
    weight, hessian = random_weight(40, 24), random_hessian(24)
    mask = torch.rand(40, 24, generator=torch.Generator().manual_seed(0)) < torch.linspace(0, 1, 40)[:, None]
    damped, _ = reference.damped_hessian(float64(hessian), 0.01)
    found, inverse = least_squares(weight, mask, hessian), np.linalg.inv(damped)
    for row in range(40):
        gone = (~mask[row]).numpy()
        dual = float64(weight[row])
        if gone.any():
            dual -= inverse[:, gone] @ np.linalg.solve(inverse[np.ix_(gone, gone)], dual[gone])
        np.testing.assert_allclose(float64(found[row]), dual, rtol=1e-8, atol=1e-10)
    assert 5 < int((mask.sum(dim=1) > 12).sum()) < 35, "both forms must have been tried"


def test_at_the_optimum_no_kept_weight_has_a_gradient() -> None:
    weight, hessian, mask = random_weight(10, 48), random_hessian(48), random_mask(10, 48)
    damped = damped_hessian(hessian, 0.01)
    gradient = ((weight - least_squares(weight, mask, hessian)) @ damped) * mask
    assert gradient.abs().max() < 1e-8 * (weight @ damped).abs().max()


@pytest.mark.parametrize("chunk_bytes", [1, 5000, 2**26])
@pytest.mark.parametrize("kind", ["half", "shared", "many"])
def test_chunks_do_not_matter(kind: str, chunk_bytes: int) -> None:
    weight, hessian, mask = random_weight(15, 16), random_hessian(16), masks_of(kind, 15, 16)
    whole = least_squares(weight, mask, hessian)
    torch.testing.assert_close(
        least_squares(weight, mask, hessian, chunk_bytes=chunk_bytes), whole, rtol=1e-11, atol=1e-13
    )


def test_ends() -> None:
    weight, hessian, mask = random_weight(5, 12), random_hessian(12), random_mask(5, 12)
    assert torch.equal(least_squares(weight, torch.ones_like(mask), hessian), weight)
    assert not least_squares(weight, torch.zeros_like(mask), hessian).any()
    alone = torch.diag(hessian.diagonal())
    torch.testing.assert_close(least_squares(weight, mask, alone), weight * mask, rtol=1e-12, atol=0)
    inputs = random_inputs(40, 12)
    inputs[:, [2, 7]] = 0
    found = least_squares(weight, mask, hessian_of(inputs))
    # An input that is always zero says nothing.
    torch.testing.assert_close(found[:, [2, 7]], (weight * mask)[:, [2, 7]], rtol=1e-12, atol=0)


def test_more_kept_weights_never_have_a_larger_error() -> None:
    weight, hessian, mask = random_weight(6, 16), random_hessian(16), torch.zeros(6, 16, dtype=torch.bool)
    errors = damped_errors(weight, least_squares(weight, mask, hessian), hessian, 0.01)
    for column in torch.randperm(16, generator=torch.Generator().manual_seed(1)).tolist():
        mask[:, column] = True
        after = damped_errors(weight, least_squares(weight, mask, hessian), hessian, 0.01)
        assert (after <= errors + 1e-9).all()
        errors = after


@fuzz(30)
@given(st.integers(0, 10**6), st.integers(2, 20), st.floats(0.05, 0.95), st.sampled_from([1e-4, 0.01, 0.3]))
def test_no_other_reconstruction_of_the_mask_is_better(seed: int, columns: int, share: float, damping: float) -> None:
    weight, hessian = random_weight(4, columns, seed), hessian_of(random_inputs(columns, columns, seed))
    mask = torch.rand(4, columns, generator=torch.Generator().manual_seed(seed)) < share
    best = damped_errors(weight, least_squares(weight, mask, hessian, damping=damping), hessian, damping)
    factor = factor_hessian(hessian, damping=damping)
    others = {
        "none": weight * mask,
        "obs": obs_update(weight, mask, factor),
        "admm": admm_on_mask(weight, mask, hessian, damping=damping),
        "another": least_squares(weight, mask, hessian, damping=10 * damping),
    }
    for name, new in others.items():
        errors = damped_errors(weight, new, hessian, damping)
        assert (best <= errors * (1 + 1e-9) + 1e-12 * hessian.diagonal().mean()).all(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damping", [0.01, 1e-3])
def test_single_precision_is_within_a_thousandth_and_no_other_reconstruction_is_better(
    kind: str, damping: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By products with the Hessian; rows that do not arrive are factorised, which is no part of what is tested here."""
    monkeypatch.setattr("labutils.pruning.least_squares._solve_primal", lambda *_: None)
    monkeypatch.setattr("labutils.pruning.least_squares._solve_dual", lambda *_: None)
    monkeypatch.setattr("labutils.pruning.least_squares.USUAL_PRODUCTS", 0)
    monkeypatch.setattr("labutils.pruning.least_squares.CHOLESKY_RATIO", 50)
    weight, hessian = random_weight(8, 192).float(), hessian_of(inputs_of(kind, 192)).float()
    mask = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 768, group="row")
    found = damped_errors(weight, least_squares(weight, mask, hessian, damping=damping), hessian, damping)
    monkeypatch.undo()
    exact = least_squares(weight.double(), mask, hessian.double(), damping=damping)
    best = damped_errors(weight, exact, hessian, damping)
    assert (found <= best * 1.001).all() and found.sum() <= best.sum() * 1.0003
    factor = factor_hessian(hessian, damping=damping)
    for other in (
        weight * mask,
        obs_update(weight, mask, factor),
        admm_on_mask(weight, mask, hessian, damping=damping),
    ):
        assert (found <= damped_errors(weight, other, hessian, damping) * 1.001).all()
        assert found.sum() <= damped_errors(weight, other, hessian, damping).sum() * 1.0003


@pytest.mark.parametrize(("decay", "damping"), [(3.0, 0.01), (4.0, 0.01), (3.0, 0.005)])
def test_single_precision_where_a_few_directions_have_nearly_all(decay: float, damping: float) -> None:
    """As near as it says also where eigenvalues fall with a power of their rank; fewer tokens than inputs."""
    generator = torch.Generator().manual_seed(2)
    width, n_tokens = 512, 300
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    spread = (
        torch.randn(n_tokens, width, generator=generator, dtype=torch.float64) * torch.arange(1, width + 1) ** -decay
    )
    inputs = (spread @ basis) * torch.randn(width, generator=generator, dtype=torch.float64).exp()
    hessian, weight = (inputs.T @ inputs).float(), random_weight(16, width).float()
    mask = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 16 * width // 2, group="row")
    exact = least_squares(weight.double(), mask, hessian.double(), damping=damping)
    best = damped_errors(weight, exact, hessian, damping)
    found = damped_errors(weight, least_squares(weight, mask, hessian, damping=damping), hessian, damping)
    assert (found <= best * 1.001).all() and found.sum() <= best.sum() * 1.0003


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_types_on_few_tokens(dtype: torch.dtype) -> None:
    """The answer is that of the factorisation, up to what the type can hold."""
    weight, hessian = random_weight(6, 400).to(dtype), hessian_of(inputs_of("scarce", 400)).float()
    mask = random_mask(6, 400)
    found = least_squares(weight, mask, hessian)
    assert found.dtype == dtype and not found[~mask].any()
    exact = least_squares(weight.double(), mask, hessian.double())
    best = damped_errors(weight, exact.to(dtype), hessian, 0.01)
    assert damped_errors(weight, found, hessian, 0.01).sum() <= best.sum() * (1.0001 if dtype == torch.float32 else 1.1)


@pytest.mark.parametrize("why", ["few products", "drift"])
def test_rows_that_do_not_arrive_are_factorised(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few products, or an eigenvalue so low that the drift of single precision might matter."""
    weight, mask = random_weight(4, 400).float(), random_mask(4, 400)
    hessian = hessian_of(inputs_of("scarce", 400))
    damping = 1e-8 if why == "drift" else 0.01
    if why == "few products":
        monkeypatch.setattr("labutils.pruning.least_squares.USUAL_PRODUCTS", 0)
        monkeypatch.setattr("labutils.pruning.least_squares.CHOLESKY_RATIO", 0.3)
    factorised = []
    real = labutils.pruning.least_squares._factors
    monkeypatch.setattr(
        "labutils.pruning.least_squares._factors", lambda *given: factorised.append(int(given[2].sum())) or real(*given)
    )
    found = least_squares(weight, mask, hessian, damping=damping)
    assert sum(factorised) == 4
    exact = least_squares(weight.double(), mask, hessian.double(), damping=damping)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-6)


def test_a_singular_hessian_that_is_regular_on_what_is_kept() -> None:
    """Six tokens and eight inputs: the inverse of the whole does not exist, where fewer are dropped than kept."""
    weight, inputs = random_weight(2, 8), random_inputs(6, 8)
    mask = torch.tensor([[True] * 5 + [False] * 3, [False] * 3 + [True] * 5])
    found = float64(least_squares(weight, mask, inputs.T @ inputs, damping=0.0))
    for row in range(2):
        kept = mask[row].numpy()
        best = np.linalg.lstsq(float64(inputs)[:, kept], float64(inputs) @ float64(weight[row]), rcond=None)[0]
        np.testing.assert_allclose(found[row, kept], best, rtol=1e-6)


@pytest.mark.parametrize("wrong", ["mask", "hessian", "nan", "singular"])
def test_refused(wrong: str) -> None:
    weight, hessian, mask = random_weight(3, 6), random_hessian(6), random_mask(3, 6)
    mask[:, :3] = True
    if wrong == "mask":
        mask = mask[:, 1:]
    elif wrong == "hessian":
        hessian = random_hessian(5)
    elif wrong == "nan":
        hessian[0, 1] = torch.nan
    else:
        hessian = hessian_with_lowest_eigenvalue(-3.0)
    message = {"nan": "not finite", "singular": "singular on the kept weights"}.get(wrong, "needs a mask of that shape")
    with pytest.raises(ValueError, match=message):
        least_squares(weight, mask, hessian, damping=0.0)
