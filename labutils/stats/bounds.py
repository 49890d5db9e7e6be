"""An interval from one-sided bounds at every level, so that its ends and its p-value say the same.

A percentile interval and its p-value come from the same resamples. Where the two ends follow from different arguments,
as for the lowest of several cells, no resamples of the statistic stand behind them. Here the bounds at all levels take
their place: of as many ordered numbers, the k-th from below is the lower bound that errs in a share k/(n + 1) of the
studies, and the k-th from above the upper bound that does.
"""

from math import ceil

import numpy as np
from jaxtyping import Float

from labutils.stats.bootstrap import UNITS, Interval


def bound_tails(n_resamples: int) -> Float[np.ndarray, " half"]:
    """The shares of studies in which bounds may err, from the smallest that so many resamples can tell up to a half.

    >>> bound_tails(4)
    array([0.2, 0.4])
    """
    half = n_resamples // 2
    return (np.arange(half) + 1) / (2 * half + 1)


def interval_of_bounds(
    estimate: float,
    lower: Float[np.ndarray, " half"],
    upper: Float[np.ndarray, " half"],
    *,
    level: float,
    n_items: int,
    n_draws: int | None = None,
    note: str = "",
    units: tuple[str, str] = UNITS,
) -> Interval:
    """The interval of lower and upper bounds, each given for all of `bound_tails`.

    >>> tails = bound_tails(10_000)
    >>> interval_of_bounds(0.0, norm.ppf(tails), -norm.ppf(tails), level=0.95, n_items=40)
    Interval(estimate=0.0, low=-1.96, high=1.96, ...)

    Its `samples` are the bounds in order. `p_value` of them is below 1 − level for a value outside of the interval, and
    for no value inside: the ends are the order statistics at which that p-value crosses the level. A bound that lies
    beyond one that may err more seldom gives way to it, which errs on the safe side.

    Raises:
        ValueError: too few bounds for the level.
    """
    bounds = np.maximum.accumulate(np.concatenate([lower, upper[::-1]]))
    # The most bounds that may lie at or beyond a value with 2 · (number + 1) / (n + 1) still below 1 − level.
    last = ceil((1 - level) / 2 * (len(bounds) + 1) - 1 - 1e-9) - 1
    if last < 0:
        raise ValueError(
            f"{len(bounds)} resamples are too few for a level of {level}: give at least {4 / (1 - level):.0f}"
        )
    return Interval(
        estimate, float(bounds[last]), float(bounds[-1 - last]), level, n_items, n_draws, len(bounds), bounds, note,
        units,
    )  # fmt: skip
