"""The README's table shows the beginning of an answer, whole sentences of it."""

import pytest

from labutils.runner.short_answers import LEAST, in_short

LONG = "On lab-llama it costs 0.1 nats [0.0, 0.2] (C01 inconclusive. It varies by model) and gains 3.5 times the speed."


@pytest.mark.parametrize(
    ("answer", "short"),
    [
        ("Yes. No. It depends.", "Yes. No. It depends."),
        (LONG, LONG),
        (f"{LONG} Also asked: C02.", f"{LONG} …"),
        (f"It depends. {LONG} *More* here.", f"It depends. {LONG} …"),
        (f"{LONG} of this kind.", f"{LONG} of this kind."),
        ("", ""),
        (f"{LONG[:-1]} :) ] too. Then.", f"{LONG[:-1]} :) ] too. …"),
    ],
)
def test_an_answer_ends_with_a_sentence(answer: str, short: str) -> None:
    assert len(LONG) >= LEAST
    assert in_short(answer) == short
