"""Numbers as a reader sees them: a true minus sign, and no sign before a zero."""

import re


def write_number(value: float, form: str = "") -> str:
    """A number with a true minus sign: "−0.31", and "0.00" for what rounds to zero.

    >>> write_number(-0.0007, "+.4f"), write_number(-0.0007, ".2f")
    ('−0.0007', '0.00')

    Args:
        form: as for `format`; a sign before a zero is left out, also one that the form asks for.
    """
    return true_minus(format(value, form))


def true_minus(text: str) -> str:
    """A written number with a true minus sign; without a sign where it has no other digit than zero.

    >>> true_minus("-9 points"), true_minus("-0.0%")
    ('−9 points', '0.0%')
    """
    zero = re.search("[0-9]", text) and not re.search("[1-9]", text)
    return re.sub("[-+](?=[.0])", "", text) if zero else text.replace("-", "−")
