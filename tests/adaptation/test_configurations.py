"""Configurations: lines to values and back, and lines that are wrong."""

import pytest

from labutils.adaptation.configurations import Adaptation, Tuning


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
