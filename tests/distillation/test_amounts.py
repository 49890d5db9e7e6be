"""Verdicts by the amount of data: planted gains of a baseline and of a method, amount by amount, task by task."""

import numpy as np
import pandas as pd
import pytest

from labutils.claims.registry import Guard
from labutils.distillation.amounts import gains_by_amount, judge_amounts, task_interval, why_no_baseline
from labutils.distillation.comparison import arm_differences, gains_by_start

ABOVE_CHANCE = Guard(0.7, 0.8, 0.5)
ABOUT = {"n_train": 100, "scope": {"model": "simulated"}, "guard": ABOVE_CHANCE, "unit": "score"}
SHARES = [0.5, 1.0]


def rows(
    effects: dict[str, float], seed: int = 0, *, task_sd: float = 0.0, n_tasks: int = 5, n_seeds: int = 6
) -> pd.DataFrame:
    """Items of arms that differ by known amounts; `task_sd` lets every arm's effect differ from task to task."""
    draws = np.random.default_rng(seed)
    parts = []
    for task in range(n_tasks):
        of_items = 0.1 * draws.normal(size=30)
        for arm, gain in effects.items():
            of_task = gain + task_sd * draws.normal() * (arm != "kd")
            for number in range(n_seeds):
                about = {"model": "m", "calibration": f"t{task}", "evaluation": f"t{task}", "arm": arm, "seed": number}
                losses = 0.4 + of_items - of_task + 0.01 * draws.normal() + 0.02 * draws.normal(size=30)
                parts.append(pd.DataFrame(about | {"item": range(30), "loss": losses}))
    return pd.concat(parts, ignore_index=True)


def planted(taught: float, half: float, whole: float) -> pd.DataFrame:
    """Plain distillation gains `taught` over labels alone at the whole data and as much at half; ild as told."""
    return rows(
        {"none": 0, "kd": taught, "ild": taught + whole, "none/share=0.5": -0.1, "kd/share=0.5": taught - 0.1}
        | {"ild/share=0.5": taught - 0.1 + half}
    )


def test_a_gain_at_every_amount_contradicts() -> None:
    amounts = gains_by_amount(planted(0.05, 0.04, 0.06), "ild", ["kd"], SHARES)
    verdict, table = judge_amounts("C14", amounts, **ABOUT)
    assert verdict.outcome == "contradicted" and verdict.estimate == pytest.approx(0.04, abs=0.01)
    assert table["training items"].tolist() == [50, 100] and set(table["outcome"]) == {"contradicted"}
    assert (verdict.item_unit, verdict.draw_unit, verdict.n_draws) == ("seed", "task", 5)
    assert why_no_baseline(amounts) == ""


def test_a_gain_at_one_amount_is_no_verdict_on_all() -> None:
    verdict, table = judge_amounts("C14", gains_by_amount(planted(0.05, -0.03, 0.06), "ild", ["kd"], SHARES), **ABOUT)
    assert verdict.outcome == "not testable here" and "depends on the amount of data" in verdict.note
    assert table["outcome"].tolist() == ["supported", "contradicted"]


def test_a_baseline_that_does_not_distil_is_no_test() -> None:
    amounts = gains_by_amount(planted(-0.05, 0.06, 0.06), "ild", ["kd"], SHARES)
    verdict, table = judge_amounts("C14", amounts, **ABOUT)
    assert verdict.outcome == "not testable here" and verdict.note.startswith("the baseline does not distil")
    assert set(table["outcome"]) == {"no test: the baseline does not distil"}
    assert "the baseline does not distil" in why_no_baseline(amounts)


def test_an_amount_without_a_baseline_leaves_the_others_to_judge() -> None:
    frame = rows({"none": 0, "kd": 0.05, "ild": 0.1, "none/share=0.5": 0, "kd/share=0.5": -0.05, "ild/share=0.5": 0.1})
    verdict, table = judge_amounts("C14", gains_by_amount(frame, "ild", ["kd"], SHARES), **ABOUT)
    assert verdict.outcome == "contradicted" and "no test at 50 items" in verdict.note
    assert table["outcome"].tolist() == ["no test: the baseline does not distil", "contradicted"]


def test_arms_that_the_rows_lack_are_named() -> None:
    frame = planted(0.05, 0.06, 0.06)
    amounts = gains_by_amount(frame[frame["arm"] != "none/share=0.5"], "ild", ["kd"], SHARES)
    verdict, table = judge_amounts("C14", amounts, **ABOUT)
    assert table.loc[0, "outcome"] == "not in the rows (none/share=0.5)" and verdict.outcome == "contradicted"
    assert why_no_baseline(amounts, 0.5) == "the rows lack the arms none/share=0.5"


def test_the_better_rival_is_the_one_to_beat() -> None:
    amounts = gains_by_amount(rows({"none": 0, "kd": 0.05, "ild": 0.1, "loraild": 0.08}), "loraild", ["kd", "ild"], [1])
    assert amounts[1].rival == "ild" and amounts[1].gain.high < 0


def test_tasks_are_the_units_and_the_interval_holds_their_mean_gain() -> None:
    """Planted: gains of 0.03 that differ between tasks; over 150 studies 95 % intervals hold the mean."""
    held = []
    for seed in range(150):
        frame = rows({"kd": 0.0, "ild": 0.03}, seed, task_sd=0.05, n_seeds=2)
        found = task_interval(arm_differences(frame, {"ild": ("kd", "ild")}))
        held.append(found.low <= 0.03 <= found.high)
    assert 0.9 <= np.mean(held) <= 0.99


def test_one_task_speaks_of_itself_alone() -> None:
    found = task_interval(arm_differences(rows({"kd": 0, "ild": 0.03}, n_tasks=1), {"ild": ("kd", "ild")}))
    assert found.note == "one task: the interval says nothing of others" and found.low > 0


def test_gains_are_told_by_what_students_start_from() -> None:
    frame = rows({"kd": 0, "ild": 0.05, "kd/cut": 0.2, "ild/cut": 0.2, "none": -0.02}, n_tasks=2)
    frame = frame[~((frame["arm"] == "kd") & (frame["seed"] == 0))]  # a seed that one arm lacks counts for none
    table = gains_by_start(frame, ["none", "ild"], reference="kd").set_index(["start", "comparison"])["estimate"]
    assert table.index.tolist() == [("random weights", "none"), ("random weights", "ild"), ("pretrained blocks", "ild")]
    assert table.tolist() == pytest.approx([-0.02, 0.05, 0.0], abs=0.02)
