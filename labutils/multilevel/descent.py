"""Quasi-Newton descent (L-BFGS; Nocedal & Wright 2006, Numerical Optimization, chapters 3 and 7) for few parameters.

A deviance of n rows has rounding errors of about n times those of one number, so that what counts as no further fall
grows with it. The descent ends where a Newton step with the curvature found so far would gain less than that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " parameters"]
ValueAndSlope = Callable[[Vector], tuple[float, Vector]]
Curvature = Callable[[Vector], Float[np.ndarray, "parameters parameters"]]

CLOSE_ENOUGH = (1e-8, 1e-13)  # a difference of two ends that does not count: absolute, and relative to the value
AHEAD = (1e-10, 1e-14)  # fall that may still be ahead at the end, known from slopes and so more exactly
NOISE = 1e-14  # of a value, relative: what it may rise by in a step and still count as not risen
MOST_STEPS = 300
MOST_TRIALS = 25
NEAR = 0.1  # length of a step, relative to the parameters, whose curvature still holds at its end
MEMORY = 30  # steps whose curvature is remembered
ENOUGH_FALL = 1e-4  # of a step, relative to what its slope promised (Armijo)
ENOUGH_FLATTER = 0.9  # the slope at the end of a step, relative to that at its beginning (Wolfe)
LONGEST = 2.0  # change of a parameter in one step, relative to parameters of size one or more


@dataclass(frozen=True)
class Descent:
    """Where a descent ended; `converged` says whether it is at a minimum along all directions."""

    point: Vector
    value: float
    slope: Vector
    converged: bool


def close_enough(value: float) -> float:
    """A difference of values of this size that does not count."""
    return _tolerance(CLOSE_ENOUGH, value)


def descend(function: ValueAndSlope, start: Vector, curvature: Curvature) -> Descent:
    """Go down from a point to where the slope vanishes.

    >>> descend(lambda x: (float(x @ x), 2 * x), np.ones(2), lambda x: np.eye(2)).point  # 0, 0

    Args:
        function: the value and its slope; an infinite value forbids a point.
        curvature: a guess of the second derivatives at a point, positive definite; what the steps show corrects it.
    """
    point, (value, slope) = start, function(start)
    pairs: list[tuple[Vector, Vector]] = []
    sure = False
    for _ in range(MOST_STEPS):
        direction = -_newton_step(slope, curvature(point), pairs)
        ahead = -float(slope @ direction) / 2
        over = ahead < _tolerance(AHEAD, value)
        if over and (sure or not slope.any()):
            return Descent(point, value, slope, True)
        # One step more when the curvature is but a guess: the gain is then one, too.
        sure = over
        found = _search(function, point, value, slope, _shortened(direction, point))
        if found is None:
            if not pairs or over:
                return Descent(point, value, slope, over)
            pairs = []
            continue
        change, bent = found[0] - point, found[2] - slope
        near = np.linalg.norm(change) < NEAR * np.linalg.norm(point)
        if near and change @ bent > 1e-12 * np.linalg.norm(change) * np.linalg.norm(bent):
            pairs = [*pairs[1 - MEMORY :], (change, bent)]
        point, value, slope = found
        sure = sure or len(pairs) >= min(len(point), 3)
    return Descent(point, value, slope, False)


def _newton_step(
    slope: Vector, curvature: Float[np.ndarray, "parameters parameters"], pairs: list[tuple[Vector, Vector]]
) -> Vector:
    """The inverse curvature times a slope: that of the guess, corrected by each pair of a change and what it bent."""
    # The two loops of L-BFGS (Nocedal & Wright 2006, algorithm 7.4).
    shares = []
    for change, bent in reversed(pairs):
        shares.append(float(change @ slope) / float(change @ bent))
        slope = slope - shares[-1] * bent
    step = np.linalg.solve(curvature, slope)
    for (change, bent), share in zip(pairs, reversed(shares), strict=True):
        step = step + change * (share - float(bent @ step) / float(change @ bent))
    return step


def _tolerance(sizes: tuple[float, float], value: float) -> float:
    absolute, relative = sizes
    return max(absolute, relative * abs(value))


def _shortened(direction: Vector, point: Vector) -> Vector:
    share = np.abs(direction).max() / (LONGEST * max(1.0, np.abs(point).max()))
    return direction / max(1.0, share)


def _search(
    function: ValueAndSlope, point: Vector, value: float, slope: Vector, direction: Vector
) -> tuple[Vector, float, Vector] | None:
    """A lower point along a direction, no longer steep along it; None where rounding hides any fall."""
    promised = float(slope @ direction)
    noise = NOISE * abs(value)
    step, low, high, best = 1.0, 0.0, np.inf, None
    for _ in range(MOST_TRIALS):
        trial = point + step * direction
        there, steep = function(trial)
        if not there <= value + ENOUGH_FALL * step * promised + noise:
            high = step
            # The minimum of the parabola through value and slope at the beginning and the value here.
            bent = 2 * (there - value - promised * step)
            wanted = -promised * step**2 / bent if np.isfinite(bent) and bent > 0 else 0.0
            step = float(np.clip(wanted, low + 0.1 * (high - low), low + 0.5 * (high - low)))
        elif (along := float(steep @ direction)) < ENOUGH_FLATTER * promised:
            best, low = (trial, there, steep), step
            # The slope seems to vanish where the line through both slopes does.
            wanted = step * promised / (promised - along) if along > promised else 4 * step
            step = float(np.clip(wanted, 2 * step, 8 * step)) if high == np.inf else (low + high) / 2
        else:
            return trial, there, steep
        if high - low < 1e-8 * high:
            break
    return best
