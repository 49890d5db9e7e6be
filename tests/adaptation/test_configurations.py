"""Configurations: lines to values and back, and lines that are wrong."""

import pandas as pd
import pytest

from labutils.adaptation.configurations import (
    Adaptation,
    Tuning,
    configuration_table,
    name_configurations,
    short_names,
)


def test_a_line_and_its_values():
    found = Adaptation.read("lora rate=1e-3 steps=7 rank=4")
    assert found == Adaptation("lora", learning_rate=0.001, steps=7, rank=4, batch_size=8)
    assert Adaptation.read("lora learning_rate=1e-3 steps=7 rank=4 batch_size=8") == found
    assert str(found) == "lora rate=0.001 batch=8 rank=4 steps=7"
    assert Tuning.read("head") == Tuning("head") and str(Tuning("head")) == "head rate=0.001 batch=8 epochs=3"


@pytest.mark.parametrize("line", ["full", "full batch=16", "lora rate=2.5e-05 steps=3"])
def test_lines_that_mean_the_same_are_equal(line):
    once = Adaptation.read(line)
    assert Adaptation.read(str(once)) == once and len({once, Adaptation.read(f"{line} ")}) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "method '' is not one of full, lora"),
        ("loar steps=3", "Did you mean 'lora'"),
        ("head", "not one of full, lora"),
        ("full step=3", "Did you mean 'steps'"),
        ("full steps", "takes rate=…, batch=…, steps=…"),
        ("full rank=4", "the method 'full' takes"),
        ("full steps=3.5", "steps is int"),
        ("full rate=fast", "rate is float"),
        ("full rate=-1", "rate=-1.0 must be above 0"),
        ("full rate=nan", "must be above 0"),
        ("full batch=0", "batch=0 must be above 0"),
    ],
)
def test_wrong_lines_say_what_is_right(line, message):
    with pytest.raises(ValueError, match=message):
        Adaptation.read(line)


def test_short_names_tell_lines_apart():
    lines = ["full rate=3e-4 epochs=1", "lora rate=1e-3 epochs=3"]
    assert list(short_names(lines).values()) == ["full 3e-4, 1 epoch", "lora 1e-3, 3 epochs"]
    sizes = ["lora rate=2.5e-5 batch=8 rank=4", "lora rate=2.5e-5 batch=16 rank=8", "full rate=1 batch=16"]
    assert list(short_names(sizes).values()) == [
        "lora 2.5e-5, 3 epochs, batch 8, rank 4",
        "lora 2.5e-5, 3 epochs, batch 16, rank 8",
        "full 1e0, 3 epochs, batch 16",
    ]  # fmt: skip
    assert list(short_names(["full rate=3e-4 steps=40"], Adaptation).values()) == ["full 3e-4, 40 steps"]
    assert configuration_table(lines).query("epochs > 1").index.tolist() == ["lora rate=1e-3 epochs=3"]
    rates = configuration_table(["full rate=1e-3", "full rate=1e-4", "full rate=1e-3 epochs=1", "lora rate=1"])
    assert rates["nth_rate"].tolist() == [2, 1, 2, 1]


def test_codes_of_a_study_are_named():
    runs = pd.DataFrame(
        {
            "adaptation": ["D1", "none"], "adaptation_line": ["lora rate=1e-3 steps=2", "none"],
            "finetuning": ["H1", "H2"], "finetuning_line": ["head epochs=1", "full rate=1e-2 epochs=2"],
        }
    )  # fmt: skip
    assert name_configurations(runs) == {
        "D1": "lora 1e-3, 2 steps", "H1": "head 1e-3, 1 epoch", "H2": "full 1e-2, 2 epochs"
    }  # fmt: skip
