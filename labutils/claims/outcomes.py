"""From an interval to an outcome: one rule for every kind of claim, the same in both directions."""

from math import inf, isfinite

NEGLIGIBLE = "real, negligible"
OUTCOMES = ("supported", "contradicted", NEGLIGIBLE, "equivalent", "inconclusive", "not testable here")
# Which side of zero a claim denies: an effect there that lies within the margin is real and negligible. On the other
# side the claim holds; an equivalence claims no more than that effects are negligible.
DENIED = {"positive": ("below", "above"), "no_worse": ("below",), "negative_result": ("above",), "equivalence": ()}
KINDS = tuple(DENIED)


def region(kind: str, margin: float | None) -> tuple[float, float]:
    """Where the judged quantity lies if the claim holds, for a margin in the quantity's own unit.

    >>> region("no_worse", 0.01)
    (-0.01, inf)
    """
    delta = inf if margin is None else margin
    regions = {
        "positive": (0.0, inf),
        "no_worse": (-delta, inf),
        "negative_result": (-inf, delta),
        "equivalence": (-delta, delta),
    }
    return regions[kind]


def decide(kind: str, low: float, high: float, margin: float | None) -> str:
    """The outcome of an interval. An effect must exceed zero; a margin may be touched.

    >>> decide("positive", 0.002, 0.008, 0.01), decide("no_worse", 0.002, 0.008, 0.01)
    ('real, negligible', 'supported')

    A `positive` claim denies that the effect is too small to matter, so a negligible effect of either sign neither
    supports nor contradicts it. `no_worse` denies what lies below zero alone, `negative_result` what lies above.
    """
    lowest, highest = region(kind, margin)
    within = margin is not None and -margin <= low and high <= margin
    side = "above" if low > 0 else "below" if high < 0 else None
    if within and side in DENIED[kind]:
        return NEGLIGIBLE
    above = low > lowest if kind == "positive" else low >= lowest
    if above and high <= highest:
        return "supported"
    if high < lowest or low > highest:
        return "contradicted"
    return "equivalent" if kind == "positive" and within else "inconclusive"


def boundaries(kind: str, outcome: str, margin: float | None) -> tuple[float, ...]:
    """The values that an outcome excludes; its p-value is the largest of those against each of them.

    >>> boundaries("positive", "real, negligible", 0.01)
    (-0.01, 0.0, 0.01)

    A negligible effect is two statements, that it is not zero and that it lies within the margin, and both must hold.
    """
    if outcome == NEGLIGIBLE:
        return (-margin, 0.0, margin)
    return tuple(bound for bound in region(kind, margin) if isfinite(bound))


def without_evidence(kind: str, outcome: str) -> str:
    """What is left of an outcome that does not survive the correction for many tests.

    >>> without_evidence("positive", "real, negligible"), without_evidence("positive", "supported")
    ('equivalent', 'inconclusive')

    "equivalent", "inconclusive" and "not testable here" claim no effect and stay.
    """
    if outcome == NEGLIGIBLE and kind == "positive":
        return "equivalent"
    return "inconclusive" if outcome in ("supported", "contradicted", NEGLIGIBLE) else outcome
