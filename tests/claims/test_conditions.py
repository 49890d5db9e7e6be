"""A verdict over several conditions: it stands only where all agree, and it is wrong no more often than promised."""

import numpy as np
import pytest

from labutils.claims.conditions import judge_under
from labutils.stats.bootstrap import Interval

SCOPE = {"model": "simulated"}


def interval(centre: float | int, spread: float = 0.1) -> Interval:
    return Interval.from_samples(float(centre), centre + spread * np.linspace(-1, 1, 1001), level=0.95, n_items=10)


def test_what_holds_under_all_conditions_is_the_verdict() -> None:
    verdict, outcomes = judge_under("C12", {"all": interval(2), "usual": interval(1)}, what="range", scope=SCOPE)
    assert verdict.outcome == "contradicted" and verdict.estimate == 2
    assert outcomes == {"all": "contradicted", "usual": "contradicted"}
    assert "same outcome in each range examined: all, usual" in verdict.note


def test_what_changes_with_the_condition_is_not_testable() -> None:
    found = {"all": interval(2), "usual": interval(0), "narrow": interval(-2)}
    verdict, outcomes = judge_under("C12", found, what="range of hyperparameters", scope=SCOPE)
    assert verdict.outcome == "not testable here" and verdict.estimate is None
    assert outcomes == {"all": "contradicted", "usual": "supported", "narrow": "contradicted"}
    assert verdict.note.startswith("the outcome depends on the range of hyperparameters: all: contradicted (+2.00")


def test_contradictions_from_opposite_sides_do_not_agree() -> None:
    verdict, outcomes = judge_under("C12", {"all": interval(2), "narrow": interval(-2)}, what="range", scope=SCOPE)
    assert set(outcomes.values()) == {"contradicted"}
    assert verdict.outcome == "not testable here" and "opposite sides" in verdict.note


def test_one_condition_is_judged_as_it_is_and_none_is_refused() -> None:
    verdict, _ = judge_under("C12", {"all": interval(0)}, what="range", scope=SCOPE)
    assert verdict.outcome == "supported" and verdict.note == ""
    with pytest.raises(ValueError, match="C12 needs at least one range"):
        judge_under("C12", {}, what="range", scope=SCOPE)


def test_a_true_equality_is_contradicted_no_more_often_than_under_one_condition() -> None:
    """Planted: the log ratio lies on the margin under each of three conditions, estimated with independent errors."""
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(300):
        found = {name: interval(0.405 + generator.normal(scale=0.1), 0.1 * 1.96) for name in "abc"}
        wrong += judge_under("C12", found, what="range", scope=SCOPE)[0].outcome == "contradicted"
    assert wrong <= 0.025 * 300


def test_the_p_is_that_of_the_weakest_condition() -> None:
    intervals, scope = {"clear": interval(2, 0.1), "less clear": interval(2, 1.65)}, {"model": "m"}
    found, outcomes = judge_under("C12", intervals, what="range", scope=scope)
    alone = [judge_under("C12", {name: one}, what="range", scope=scope)[0] for name, one in intervals.items()]
    assert set(outcomes.values()) == {"contradicted"} and alone[0].p_value < alone[1].p_value == found.p_value
    assert found.judged is None
