"""One grouping factor, all levels at once, against one factorisation per level, which `test_deviance` proves."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from labutils.multilevel import coordinates, deviance
from labutils.multilevel.design import build_design
from labutils.multilevel.formula import read_formula
from labutils.multilevel.products import Products
from labutils.multilevel.single import FEW, solve_single


def products(terms: str) -> Products:
    generator, n = np.random.default_rng(0), 400
    g, (x, w) = generator.integers(0, 30, n), generator.normal(size=(2, n))
    y = x + generator.normal(size=30)[g] * (1 + x) + generator.normal(size=n)
    data = pd.DataFrame({"y": y, "x": x, "w": w, "g": g})
    return coordinates.orthogonalise(build_design(read_formula(f"y ~ x * w + ({terms} | g)"), data))[0]


@pytest.mark.parametrize("size", [1.0, 30.0, 1e-6, 0.0])  # of the last row of Λ
@pytest.mark.parametrize(("terms", "count"), [("1", 1), ("0 + w", 1), ("x", 2), ("x + w", 3)])
def test_the_solution_is_that_of_one_factorisation_per_level(
    terms: str, count: int, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = products(terms)
    factor = np.tril(np.random.default_rng(1).normal(size=(count, count)))
    factor[-1] *= size
    assert count <= FEW
    single = solve_single(found, factor)
    monkeypatch.setattr(deviance, "FEW", 0)
    per_level = deviance.solve(found, [factor])
    for field in fields(per_level):
        one, other = getattr(single, field.name), getattr(per_level, field.name)
        for a, b in zip(*(value if isinstance(value, list) else [value] for value in (one, other)), strict=True):
            size = max(1.0, np.abs(b).max())
            assert np.asarray(a) == pytest.approx(np.asarray(b), rel=1e-9, abs=1e-9 * size), field.name
    for blocks in deviance.level_precisions(found, [factor]):
        assert blocks.sum(0) == pytest.approx(single.information[0], rel=1e-9, abs=1e-9)


def test_no_number_comes_of_factors_that_are_none() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        solve_single(products("x"), np.full((2, 2), np.nan))
