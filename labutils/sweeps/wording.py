"""Effects in words that can be read aloud: who gains and who loses, without a sign to be turned in the head."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from labutils.stats.bootstrap import write_interval


@runtime_checkable
class Effect(Protocol):
    """What has an estimate and the ends of its interval: an `Interval`, a `Verdict`, a row of a table."""

    estimate: float | None
    low: float | None
    high: float | None


def gain_or_loss(effect: Effect, unit: str = "", *, words: tuple[str, str] = ("gains", "loses"), form: str = "") -> str:
    """An effect as a gain or a loss: "gains 0.31 nats [0.28, 0.33]", "loses 0.44 nats [0.40, 0.49]".

    >>> gain_or_loss(contrast_interval(gain), "nats per token")

    Args:
        effect: positive is a gain. Of a loss all three numbers have their signs turned; an interval that holds zero
            is followed by "(may be nothing)".
        unit: stands behind the first number.
        words: for a gain and for a loss.
        form: as for `write_interval`.
    """
    if effect.estimate is None or effect.estimate != effect.estimate:
        return "is not measured"
    turned = bool(effect.estimate < 0)
    ends = (effect.low, effect.high)
    numbers = (-effect.estimate, -ends[1], -ends[0]) if turned else (effect.estimate, *ends)
    written = write_interval(*numbers, form, unit=unit).removeprefix("+")
    doubt = " (may be nothing)" if ends[0] <= 0 <= ends[1] else ""
    return f"{words[turned]} {written}{doubt}"


def name_list(names: Iterable[object], *, none: str = "none") -> str:
    """Names as a sentence has them: "a", "a and b", "a, b and c"; `none` where there are none.

    >>> name_list(["owl", "dlp"])
    """
    *first, last = [str(name) for name in names] or [none]
    return f"{', '.join(first)} and {last}" if first else last
