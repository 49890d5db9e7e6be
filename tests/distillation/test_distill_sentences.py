"""Sentences under the figures, against numbers worked out by hand."""

import pandas as pd

from labutils.distillation import sentences


def test_the_table_of_scores_is_told_with_its_ceilings() -> None:
    table = pd.DataFrame(
        {"a": [1.0, 0.6, 0.7], "b": [0.8, 0.5, 0.5], "mean": [0.9, 0.55, 0.6]}, index=["teacher", "none", "kd"]
    )
    told = sentences.describe_score_table(table, [0, 1, 2])
    assert "the 3 seeds" in told and "labels alone 0.550 and plain distillation 0.600" in told
    assert told.endswith("the teacher is at a ceiling (0.98 or more) on a.")
    assert sentences.describe_score_table(table.drop(columns="a"), [0]).endswith("at a ceiling nowhere.")


def test_teachers_that_have_nothing_to_teach_are_named() -> None:
    teachers = pd.DataFrame({"task": ["lab:a", "lab:b"], "validation": [1.0, 0.7], "admitted": [False, True]})
    told = sentences.describe_teachers(teachers)
    assert told == ("Students are trained on 1 of 2 tasks. Left out, with the teacher's validation score: a 1.00.")
    assert "every task was taken" in sentences.describe_teachers(pd.DataFrame())


def test_the_gate_is_open_or_shut() -> None:
    assert sentences.describe_baseline("+0.02 [0.01, 0.03]", "").startswith(
        "The gate is open: plain distillation gains"
    )
    assert "Nothing is judged" in sentences.describe_baseline("0.00 [-0.01, 0.01]", "the baseline does not distil")


def test_gains_are_counted_by_task_and_by_layer() -> None:
    rows = [("t1", "ild", 0.1, 0.05, 0.2), ("t2", "ild", -0.1, -0.2, -0.05), ("t1", "none", 0.0, -0.1, 0.1)]
    gains = pd.DataFrame(rows, columns=["evaluation", "comparison", "estimate", "low", "high"])
    told = sentences.describe_task_gains(gains, "kd")
    assert told == "Against kd, of 2 tasks: ild better on 1, worse on 1; none better on 0, worse on 0."
    by_block = gains.assign(block=[1, 2, 1])
    assert sentences.describe_layer_gains(by_block) == (
        "The largest gain of each: ild +0.100 in layer 1 (clear); none +0.000 in layer 1 (not clear)."
    )


def test_the_last_layer_is_told_before_and_after() -> None:
    values = pd.DataFrame(
        [("untrained", 2, 0.3), ("kd", 2, 0.6), ("teacher", 6, 0.9)], columns=["arm", "blocks", "value"]
    ).assign(measure="AMI", block=lambda frame: frame["blocks"] - 1)
    early = values.assign(block=0, value=0.0)
    told = sentences.describe_layers(pd.concat([values, early], ignore_index=True))
    assert told == ("In the last layer: AMI 0.30 before training, 0.60 with plain distillation, 0.90 in the teacher.")


def test_rows_of_an_earlier_plan_say_so() -> None:
    assert sentences.describe_difference([], ["kd/cut"]) == ""
    told = sentences.describe_difference(["temperature: 1; now 4"], ["kd/cut"])
    assert "come from an earlier plan** (temperature: 1; now 4). They lack kd/cut" in told
