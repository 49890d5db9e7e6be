"""An effect with its interval as a drawing: units are margins, to the right is what speaks for the claim."""

import html
from math import asinh, isfinite

WIDTH, HEIGHT, EDGE = 140, 22, 6
REACH = 300.0  # margins; what lies further out is drawn at the edge


def position(value: float, width: int = WIDTH) -> float:
    """Where a value in margins lies, in pixels: linear near zero, logarithmic beyond, cut at the edges.

    >>> position(0.0), position(1e9) == position(REACH)
    (70.0, True)
    """
    cut = max(-REACH, min(REACH, value))
    return round(width / 2 + (width / 2 - EDGE) * asinh(cut) / asinh(REACH), 1)


def draw_interval(low: float, estimate: float, high: float, label: str, *, width: int = WIDTH) -> str:
    """The drawing as SVG in HTML.

    >>> draw_interval(-0.2, 0.5, 1.4, "+0.5 margins [−0.2, 1.4]")

    Args:
        low, estimate, high: in margins.
        label: the same in words, for readers who do not see it.
        width: in pixels.

    Raises:
        ValueError: a number is not finite, or the interval ends before it begins.
    """
    if not all(map(isfinite, (low, estimate, high))) or not low <= high:
        raise ValueError(f"an interval to draw has finite numbers, the low one first, not {low}, {estimate}, {high}")
    left, dot, right = (position(value, width) for value in (low, estimate, high))
    middle, (margin_left, margin_right) = HEIGHT / 2, (position(-1.0, width), position(1.0, width))
    return (
        f'<svg class="interval" role="img" aria-label="{html.escape(label)}" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}">'
        f'<rect class="band" x="{margin_left}" y="0" width="{margin_right - margin_left:.1f}" height="{HEIGHT}"/>'
        f'<line class="zero" x1="{position(0.0, width)}" x2="{position(0.0, width)}" y1="0" y2="{HEIGHT}"/>'
        f'<line class="reach" x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{dot}" cy="{middle}" r="3.5"/></svg>'
    )
