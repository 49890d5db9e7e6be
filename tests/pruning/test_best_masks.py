"""The best of all masks against all masks, one after the other."""

import itertools

import numpy as np
import obs_references as reference
import pytest
from layers import random_hessian, random_weight
from references import float64

from labutils.pruning.admm import gradual_admm
from labutils.pruning.alps import alps
from labutils.pruning.best_masks import best_mask, errors_on_masks
from labutils.pruning.patterns import unstructured_mask
from labutils.pruning.reconstruction import factor_hessian, sparsegpt
from labutils.pruning.swaps import swap_weights


def every_mask(columns: int, n_drop: int, pattern: tuple[int, int] | None) -> list[np.ndarray]:
    found = []
    for gone in itertools.combinations(range(columns), n_drop):
        mask = np.ones(columns, dtype=bool)
        mask[list(gone)] = False
        if pattern is None or (mask.reshape(-1, pattern[1]).sum(axis=1) == pattern[0]).all():
            found.append(mask)
    return found


@pytest.mark.parametrize(("n_drop", "pattern"), [(0, None), (2, None), (4, None), (8, None), (4, (2, 4)), (6, (1, 4))])
def test_equals_the_best_of_all(n_drop: int, pattern: tuple[int, int] | None) -> None:
    weight, hessian = random_weight(3, 8), random_hessian(8)
    damped, _ = reference.damped_hessian(float64(hessian), 0.01)
    found = best_mask(weight, hessian, n_drop, pattern=pattern)
    for row in range(3):
        errors = []
        for mask in every_mask(8, n_drop, pattern):
            new = reference.best_update(float64(weight[row : row + 1]), mask[None], damped)
            errors.append(reference.quadratic_error(new - float64(weight[row : row + 1]), damped))
        assert float(found.errors[row]) == pytest.approx(min(errors), rel=1e-8, abs=1e-10)
        assert found.mask[row].tolist() == every_mask(8, n_drop, pattern)[int(np.argmin(errors))].tolist()
    assert ((found.weight != 0) == found.mask).all()


def test_no_method_falls_below_the_bound() -> None:
    for seed in range(3):
        weight, hessian = random_weight(3, 16, seed), random_hessian(16, seed)
        bound = best_mask(weight, hessian, 8)
        start = unstructured_mask(weight.abs() * hessian.diagonal().sqrt(), 24, group="row")
        masks = {
            "wanda": start,
            "swaps": swap_weights(weight, start, hessian).mask,
            "admm": gradual_admm(weight, hessian, n_drop=24, group="row")[1],
            "alps": alps(weight, hessian, n_drop=24, group="row")[1],
            "best": bound.mask,
        }
        table = errors_on_masks(weight, masks, hessian).set_index("mask")
        assert (table["kept"] == 0.5).all() and (table["solved"] <= table["masked"] + 1e-12).all()
        assert table.loc["best", "ratio"] == pytest.approx(1) and (table["ratio"] >= 1 - 1e-9).all()
        assert table.loc["wanda", "ratio"] > 1.2, "else the bound says nothing"
        assert bound.branches < 12870 / 4 * 3, "fewer than all masks of three rows"


def test_sparsegpt_at_a_budget_per_row_is_no_better_than_its_masks_bound() -> None:
    ratios = []
    for seed in range(4):
        weight, hessian = random_weight(1, 12, seed), random_hessian(12, seed)
        _, mask = sparsegpt(weight, factor_hessian(hessian), n_drop=6)
        table = errors_on_masks(weight, {"sparsegpt": mask, "best": best_mask(weight, hessian, 6).mask}, hessian)
        solved = table.set_index("mask")["solved"]
        ratios.append(solved["sparsegpt"] / solved["best"])
    assert min(ratios) >= 1 - 1e-9 and max(ratios) > 1.01


def test_refused() -> None:
    weight, hessian = random_weight(1, 12), random_hessian(12)
    with pytest.raises(ValueError, match=r"outside \[0, 12\]"):
        best_mask(weight, hessian, 13)
    with pytest.raises(ValueError, match="drops 6; got 5"):
        best_mask(weight, hessian, 5, pattern=(2, 4))
    with pytest.raises(ValueError, match="not found in 3 branches"):
        best_mask(weight, hessian, 6, most_branches=3)
    with pytest.raises(ValueError, match="at least one mask"):
        errors_on_masks(weight, {}, hessian)
