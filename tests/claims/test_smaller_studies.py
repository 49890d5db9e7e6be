"""Power by drawing smaller studies: against planted truth, and at its ends."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from labutils.claims.power import draw_study, power_of
from labutils.claims.registry import judge, not_testable
from labutils.claims.verdicts import Verdict

SCOPE = {"model": "tiny"}


def study(effect: float, *, n_items: int, n_draws: int = 4, noise: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Items that differ, draws that do not, one cell."""
    generator = np.random.default_rng(seed)
    items = effect + generator.normal(0, noise, n_items)
    items += effect - items.mean()
    return pd.DataFrame(
        [{"evaluation": "a", "calibration": "a", "item": item, "draw": draw, "sparsity": 0.6, "value": value}
         for item, value in enumerate(items) for draw in range(n_draws)]
    )  # fmt: skip


def verdict(frame: pd.DataFrame) -> Verdict:
    return judge("C05", frame, dense_loss=1.0, scope=SCOPE)


def test_a_study_as_large_has_power_one() -> None:
    large = verdict(study(0.5, n_items=40))
    assert large.outcome == "supported" and power_of(large, large, n_studies=10) == 1.0


def test_power_is_that_of_a_t_test_of_that_size() -> None:
    """Of 400 items with effect 0.5 and deviation 1, studies of 20 see it with the power of Student's test."""
    large, small = verdict(study(0.5, n_items=400)), verdict(study(0.5, n_items=20, n_draws=4, seed=1))
    found = power_of(large, small, n_studies=200)
    shift = 0.5 * np.sqrt(20)
    expected = 1 - t.cdf(t.ppf(0.975, 19) - shift, 19)
    assert abs(found - expected) < 0.12


def test_power_falls_with_the_size() -> None:
    large = verdict(study(0.5, n_items=200))
    powers = [power_of(large, verdict(study(0.5, n_items=n, seed=2)), n_studies=60) for n in (6, 24, 80)]
    assert powers[0] < powers[1] < powers[2] == pytest.approx(1.0, abs=0.05)


def test_studies_take_shared_units_together() -> None:
    frame = pd.concat([study(0.5, n_items=10).assign(evaluation=name, model=model) for name in "ab" for model in "xy"])
    drawn = draw_study(frame, {"item": 3, "draw": 2}, np.random.default_rng(0))
    by_model = drawn.groupby(["evaluation", "model"])["item"].unique().map(sorted).map(tuple)
    assert (by_model["a"]["x"] == by_model["a"]["y"]) and len(by_model["a"]["x"]) == 3
    assert drawn["draw"].nunique() == 2 and len(drawn) == 2 * 2 * 3 * 2
    assert len(draw_study(frame, {"item": None, "draw": 99}, np.random.default_rng(0))) == len(frame)


def test_what_cannot_be_compared_is_refused() -> None:
    large = verdict(study(0.5, n_items=20))
    with pytest.raises(ValueError, match="two verdicts on one claim with their rows"):
        power_of(large, not_testable("C05", "no rows", scope=SCOPE))
    with pytest.raises(ValueError, match="no setting and no sparsity in common"):
        power_of(large, verdict(study(0.5, n_items=20).assign(sparsity=0.8)))
