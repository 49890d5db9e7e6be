"""Ranges of hyperparameters: which runs they hold, and conditions that cannot be read."""

import pandas as pd
import pytest

from labutils.adaptation.ranges import runs_in_range, split_ranges

LINES = ["full rate=3e-4 epochs=1", "full rate=3e-4 epochs=3", "lora rate=1e-3 epochs=3"]
RUNS = pd.DataFrame({"finetuning_line": [*LINES, *LINES], "sample": ["base"] * 3 + ["S01"] * 3})


def test_a_range_holds_the_runs_that_fulfil_its_condition():
    assert runs_in_range(RUNS, "").equals(RUNS)
    assert runs_in_range(RUNS, "2 <= epochs <= 4")["finetuning_line"].tolist() == LINES[1:] * 2
    assert runs_in_range(RUNS, "epochs == 3 and method == 'lora'")["sample"].tolist() == ["base", "S01"]
    assert runs_in_range(RUNS, "epochs > 5").empty


def test_lines_name_ranges():
    found = split_ranges(RUNS, ["all:", "long: epochs == 3", "narrow, lora: method == 'lora'"])
    assert {name: len(runs) for name, runs in found.items()} == {"all": 6, "long": 4, "narrow, lora": 2}
    for wrong in ([], ["all"], [": epochs > 1"], ["all:", "all: epochs > 1"]):
        with pytest.raises(ValueError, match="give lines 'name: condition', every name once"):
            split_ranges(RUNS, wrong)


@pytest.mark.parametrize("condition", ["steps > 3", "epochs >", "epochs"])
def test_a_condition_that_cannot_be_read_is_told(condition):
    with pytest.raises(ValueError, match="cannot be read .*; write a condition on method, learning_rate"):
        runs_in_range(RUNS, condition)
