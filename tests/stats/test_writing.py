"""Numbers for a reader: true minus signs, and none before a zero."""

import pytest

from labutils.stats import write_number


@pytest.mark.parametrize(
    ("value", "form", "said"),
    [
        (-9.2, ".0f", "−9"),
        (-0.0007, "+.4f", "−0.0007"),
        (-0.0007, ".2f", "0.00"),
        (-0.0007, "+.2f", "0.00"),
        (0.31, "+.2f", "+0.31"),
        (-0.001, ".0%", "0%"),
        (-1.3e-44, ".2g", "−1.3e−44"),
        (float("nan"), ".2f", "nan"),
        (-float("inf"), ".2f", "−inf"),
    ],
)
def test_a_number_has_a_true_minus_and_a_zero_has_none(value: float, form: str, said: str) -> None:
    assert write_number(value, form) == said
