"""The first steps of a fit: where they end on balanced data, and that they never lead up."""

import numpy as np
import pandas as pd
import pytest
from literal_models import balanced_data, grouped_data

from labutils.multilevel import fit_multilevel
from labutils.multilevel.fit import STARTS, Problem, _scored
from labutils.multilevel.scoring import scored


def problem_and_start(formula: str, data: pd.DataFrame) -> tuple[Problem, np.ndarray]:
    problem = fit_multilevel(formula, data).fit.problem
    return problem, STARTS[0] * problem.theta([np.eye(len(mask)) for mask in problem.free])


@pytest.mark.parametrize("sd", [0.5, 1.0, 3.0])
def test_on_balanced_data_they_end_near_the_anova_solution(sd: float) -> None:
    """τ²/σ² = (MSB/MSW − 1)/n, in internal coordinates too, since the intercept has unit mean square there."""
    data = balanced_data(3, n_groups=30, size=8, sd=sd)
    problem, start = problem_and_start("y ~ 1 + (1 | g)", data)
    means = data.groupby("g")["y"].transform("mean")
    between = 8 * data.groupby("g")["y"].mean().var(ddof=1)
    within = ((data["y"] - means) ** 2).sum() / (len(data) - 30)
    assert _scored(problem, start)[0] ** 2 == pytest.approx((between / within - 1) / 8, rel=0.02)


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | g)", "y ~ x + (x || g) + (1 | h)", "y ~ w + (1 | g/h)"])
@pytest.mark.parametrize("seed", range(3))
def test_they_never_lead_up_and_stay_inside_the_cone(formula: str, seed: int) -> None:
    problem, start = problem_and_start(formula, grouped_data(seed, sd=(0.3, 0.05)))
    found = _scored(problem, start)
    assert problem.value_and_gradient(found)[0] <= problem.value_and_gradient(start)[0]
    for factor in problem.factors(found):
        assert np.linalg.eigvalsh(factor @ factor.T)[0] > 0


def test_a_step_that_does_not_lead_down_is_not_taken() -> None:
    values = iter([1.0, float("inf")])

    def evaluate(factors: list[np.ndarray]) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
        return next(values), [np.eye(1)], [np.eye(1)]

    assert scored(evaluate, [np.eye(1)], [[slice(0, 1)]], [4])[0].tolist() == [[1.0]]
