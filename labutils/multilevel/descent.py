"""Quasi-Newton descent (BFGS; Nocedal & Wright 2006, Numerical Optimization, chapters 3 and 6) for few parameters.

A deviance of n rows has rounding errors of about n times those of one number, so that what counts as no further fall
grows with it. The descent ends where a Newton step with the curvature found so far would gain less than that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " parameters"]
ValueAndSlope = Callable[[Vector], tuple[float, Vector]]

CLOSE_ENOUGH = (1e-8, 1e-13)  # a difference of two ends that does not count: absolute, and relative to the value
AHEAD = (1e-10, 1e-14)  # fall that may still be ahead at the end, known from slopes and so more exactly
NOISE = 1e-14  # of a value, relative: what it may rise by in a step and still count as not risen
MOST_STEPS = 300
MOST_TRIALS = 25
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


def descend(function: ValueAndSlope, start: Vector, curvature: Vector) -> Descent:
    """Go down from a point to where the slope vanishes.

    >>> descend(lambda x: (float(x @ x), 2 * x), np.ones(2), np.ones(2)).point  # 0, 0

    Args:
        function: the value and its slope; an infinite value forbids a point.
        curvature: a guess of the second derivative in every parameter, above zero.
    """
    point, (value, slope) = start, function(start)
    inverse, steps_since_guess, sure = np.diag(1 / curvature), 0, False
    for _ in range(MOST_STEPS):
        direction = -inverse @ slope
        ahead = -float(slope @ direction) / 2
        over = ahead < _tolerance(AHEAD, value)
        if over and (sure or not slope.any()):
            return Descent(point, value, slope, True)
        # One step more when the curvature is but a guess: the gain is then one, too.
        sure = over
        found = _search(function, point, value, slope, _shortened(direction, point))
        if found is None:
            if steps_since_guess == 0 or sure:
                return Descent(point, value, slope, sure)
            inverse, steps_since_guess = np.diag(1 / curvature), 0
            continue
        change, fallen = found[0] - point, found[2] - slope
        point, value, slope = found
        inverse = _with_curvature(inverse, change, fallen, first=steps_since_guess == 0)
        steps_since_guess += 1
        sure = sure or steps_since_guess >= len(point)
    return Descent(point, value, slope, False)


def _tolerance(sizes: tuple[float, float], value: float) -> float:
    absolute, relative = sizes
    return max(absolute, relative * abs(value))


def _shortened(direction: Vector, point: Vector) -> Vector:
    share = np.abs(direction).max() / (LONGEST * max(1.0, np.abs(point).max()))
    return direction / max(1.0, share)


def _with_curvature(
    inverse: Float[np.ndarray, "parameters parameters"], change: Vector, fallen: Vector, *, first: bool
) -> Float[np.ndarray, "parameters parameters"]:
    """The BFGS update; after the first step the guess is scaled by what the step has shown of the curvature."""
    curvature = float(change @ fallen)
    if curvature <= 1e-12 * np.linalg.norm(change) * np.linalg.norm(fallen):
        return inverse
    if first:
        inverse = inverse * (curvature / float(fallen @ inverse @ fallen))
    left = np.eye(len(change)) - np.outer(change, fallen) / curvature
    return left @ inverse @ left.T + np.outer(change, change) / curvature


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
