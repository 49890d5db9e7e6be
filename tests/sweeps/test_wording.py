"""Sentences that can be read aloud, whatever the sign."""

from types import SimpleNamespace

import pytest

from labutils.sweeps import gain_or_loss, name_list


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.306, 0.276, 0.333), "gains 0.306 nats [0.276, 0.333]"),
        ((-0.0043, -0.0056, -0.0029), "loses 0.0043 nats [0.0029, 0.0056]"),
        ((0.006, -0.007, 0.019), "gains 0.006 nats [−0.007, 0.019] (may be nothing)"),
        ((-0.1, -0.4, 0.2), "loses 0.10 nats [−0.20, 0.40] (may be nothing)"),
        ((float("nan"),) * 3, "is not measured"),
        ((None, None, None), "is not measured"),
    ],
)
def test_a_loss_has_no_sign_to_turn(numbers: tuple, said: str) -> None:
    effect = SimpleNamespace(estimate=numbers[0], low=numbers[1], high=numbers[2])
    assert gain_or_loss(effect, "nats") == said


def test_words_and_lists() -> None:
    effect = SimpleNamespace(estimate=-2.0, low=-3.0, high=-1.0)
    assert gain_or_loss(effect, "%", words=("adds", "saves"), form=".1f") == "saves 2.0 % [1.0, 3.0]"
    assert name_list([]) == "none" and name_list(["a"]) == "a" and name_list("abc") == "a, b and c"
