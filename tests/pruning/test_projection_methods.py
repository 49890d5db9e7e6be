"""ADMM and ALPS against loops written from the papers' formulas, and what they achieve."""

import numpy as np
import obs_references as reference
import pytest
import torch
from layers import hessian_of, random_hessian, random_inputs, random_mask, random_weight
from references import float64

from labutils.pruning.admm import admm_on_mask, gradual_admm
from labutils.pruning.alps import alps
from labutils.pruning.least_squares import least_squares
from labutils.pruning.patterns import unstructured_mask
from labutils.pruning.reconstruction import damped_hessian

BUDGETS = [{"n_drop": 48}, {"n_drop": 48, "group": "row"}, {"n_drop": 48, "pattern": (2, 4)}]


def kept_of(
    score: np.ndarray, n_drop: int, pattern: tuple[int, int] | None = None, group: str = "matrix"
) -> np.ndarray:
    """All but the lowest: of every group of a pattern, of every row, or of the matrix."""
    width = pattern[1] if pattern else score.shape[1] if group == "row" else score.size
    parts = score.reshape(-1, width)
    # As the budgets say: of a row its share, and what does not divide by the rows from all that is left.
    each = pattern[1] - pattern[0] if pattern else n_drop // len(parts)
    mask = np.ones(parts.shape, dtype=bool)
    for part, kept in zip(parts, mask, strict=True):
        kept[np.argsort(part, kind="stable")[:each]] = False
    mask = mask.reshape(score.shape)
    rest = 0 if pattern else n_drop - each * len(parts)
    for place in np.argsort(np.where(mask, score, np.inf), axis=None, kind="stable")[:rest]:
        mask.flat[place] = False
    return mask


def scaled(weight: torch.Tensor, hessian: torch.Tensor, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    damped, _ = reference.damped_hessian(float64(hessian), damping)
    scale = np.sqrt(np.diag(damped))
    return float64(weight) * scale, damped / np.outer(scale, scale), scale


def admm_loop(weight: torch.Tensor, hessian: torch.Tensor, mask_at: object, steps: int = 20) -> np.ndarray:
    """Every matrix written out; W is recomputed by solving, step by step."""
    dense, matrix, scale = scaled(weight, hessian, 0.01)
    current, running = dense.copy(), np.zeros_like(dense)
    for step in range(steps):
        mask = mask_at(current + running, step)
        projected = np.where(mask, current + running, 0)
        running = running + current - projected
        right = dense @ matrix + (projected - running)
        current = np.linalg.solve(matrix + np.eye(len(matrix)), right.T).T
    return np.where(mask, current + running, 0) / scale


def error(weight: torch.Tensor, new: torch.Tensor, hessian: torch.Tensor) -> float:
    lost = weight - new
    return float(((lost @ damped_hessian(hessian, 0.01)) * lost).sum())


def test_admm_on_a_mask_equals_the_loop() -> None:
    for seed in range(3):
        weight, hessian, mask = random_weight(5, 12, seed), random_hessian(12, seed), random_mask(5, 12, seed)
        for steps in (1, 2, 20):
            expected = admm_loop(weight, hessian, lambda current, step: mask.numpy(), steps)  # noqa: B023
            found = admm_on_mask(weight, mask, hessian, steps=steps)
            np.testing.assert_allclose(float64(found), expected, rtol=1e-9, atol=1e-11)
            assert not found[~mask].any()


def test_admm_on_a_mask_goes_to_least_squares() -> None:
    """It lowers the error, comes nearer with more steps, and is never below the optimum."""
    for seed in range(5):
        weight, hessian, mask = random_weight(5, 16, seed), random_hessian(16, seed), random_mask(5, 16, seed)
        best = error(weight, least_squares(weight, mask, hessian), hessian)
        after = [error(weight, admm_on_mask(weight, mask, hessian, steps=steps), hessian) for steps in (20, 400)]
        assert best * (1 - 1e-9) <= after[1] <= best * 1.0001
        assert after[1] <= after[0] < error(weight, weight * mask, hessian)


@pytest.mark.parametrize("gradual", [True, False])
@pytest.mark.parametrize("budget", BUDGETS)
def test_gradual_admm_equals_the_loop(budget: dict, gradual: bool) -> None:
    """By the paper's law, and at the full sparsity at each of the first steps, as the authors' code has it."""
    weight, hessian = random_weight(6, 16), random_hessian(16)
    chosen: list[np.ndarray] = []

    def mask_at(current: np.ndarray, step: int) -> np.ndarray:
        if step < 15:
            share = 1 - (1 - (step + 1) / 15) ** 3 if gradual else 1
            chosen[:] = [kept_of(np.abs(current), **{**budget, "n_drop": round(budget["n_drop"] * share)})]
        return chosen[0]

    expected = admm_loop(weight, hessian, mask_at)
    found, mask = gradual_admm(weight, hessian, **budget, gradual=gradual)
    assert mask.numpy().tolist() == chosen[0].tolist() and int((~mask).sum()) == 48
    np.testing.assert_allclose(float64(found), expected, rtol=1e-8, atol=1e-10)
    if "pattern" not in budget:
        assert not torch.equal(found, gradual_admm(weight, hessian, **budget, gradual=not gradual)[0])


def test_alps_with_the_papers_damping() -> None:
    """0.01 of the trace is a damping of 0.01 · in; the search then sees H + 0.01 · tr(H) · I."""
    weight, hessian = random_weight(6, 16), random_hessian(16)
    by_hand = hessian + 0.01 * hessian.trace() * torch.eye(16, dtype=torch.float64)
    found, mask = alps(weight, hessian, n_drop=48, damping=0.01 * 16)
    expected, own = alps(weight, by_hand, n_drop=48, damping=0.0)
    assert torch.equal(mask, own)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("budget", BUDGETS)
def test_alps_equals_the_loop(budget: dict) -> None:
    weight, hessian = random_weight(6, 16), random_hessian(16)
    dense, matrix, scale = scaled(weight, hessian, 0.01)
    known = kept_of(dense**2, **budget)
    projected, dual, rho, n_kept = np.where(known, dense, 0), np.zeros_like(dense), 0.1, known.sum()
    for step in range(1, 301):
        free = np.linalg.solve(matrix + rho * np.eye(16), (dense @ matrix - dual + rho * projected).T).T
        mask = kept_of((free + dual / rho) ** 2, **budget)
        projected = np.where(mask, free + dual / rho, 0)
        dual = dual + rho * (free - projected)
        if step % 3 == 0:
            changed, known = (mask != known).sum(), mask
            if changed == 0:
                break
            rho *= 1.3 if changed >= 0.1 * n_kept else 1.2 if changed >= 0.005 * n_kept else 1.1
    expected = kept_of(free**2, **budget)
    found, chosen = alps(weight, hessian, **budget)
    assert chosen.numpy().tolist() == expected.tolist() and step > 6
    best = error(weight, least_squares(weight, chosen, hessian), hessian)
    assert best * (1 - 1e-9) <= error(weight, found, hessian) <= best * 1.05, "ten steps come near to the optimum"


@pytest.mark.parametrize("search", [gradual_admm, alps])
def test_its_layers_are_better_than_those_of_wandas_mask(search: object) -> None:
    for seed in range(5):
        weight, hessian = random_weight(8, 20, seed), random_hessian(20, seed)
        wanda = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 80, group="row")
        found, mask = search(weight, hessian, n_drop=80)
        assert int(mask.sum()) == 80 and not found[~mask].any()
        assert error(weight, found, hessian) < 0.9 * error(weight, weight * wanda, hessian)
        assert error(weight, found, hessian) < error(weight, least_squares(weight, wanda, hessian), hessian)


@pytest.mark.parametrize("search", [gradual_admm, alps])
def test_weights_of_inputs_that_are_always_zero_go_first(search: object) -> None:
    inputs = random_inputs(50, 12)
    inputs[:, [1, 8]] = 0
    found, mask = search(random_weight(5, 12), hessian_of(inputs), n_drop=20)
    assert not mask[:, [1, 8]].any() and not found[:, [1, 8]].any() and int((~mask).sum()) == 20


@pytest.mark.parametrize("search", [gradual_admm, alps])
def test_the_ends_of_the_budget(search: object) -> None:
    weight, hessian = random_weight(4, 8), random_hessian(8)
    found, mask = search(weight, hessian, n_drop=0)
    assert mask.all()
    torch.testing.assert_close(found, weight, rtol=1e-6, atol=1e-8)
    found, mask = search(weight, hessian, n_drop=32)
    assert not mask.any() and not found.any()
