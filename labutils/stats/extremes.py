"""The lowest of many cells, with an interval: whether something holds everywhere is a matter of the worst cell.

The lowest of several noisy means lies below the lowest true mean, and a percentile interval of resampled minima lies
lower still. Here the two ends come from two arguments that need no such resampling of a minimum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import UNITS, Interval
from labutils.stats.cells import resample_cells
from labutils.stats.evidence import keeps_evidence


class LowestCell(NamedTuple):
    """The interval of the lowest cell mean, and the table of all cells with intervals of their own."""

    interval: Interval
    cells: pd.DataFrame


@keeps_evidence("interval")
def lowest_cell(
    differences: pd.DataFrame,
    *,
    cells: Sequence[str] = ("sparsity",),
    strata: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
    units: tuple[str, str] = UNITS,
) -> LowestCell:
    """The lowest true mean of all strata and cells, with an interval that is right for a minimum.

    >>> lowest_cell(advantage_over(rows, "optiprune", components), cells=("contrast", "sparsity")).interval

    Low end: the lowest of the cells' own lower bounds. The true minimum is some cell's mean, and lies above that cell's
    bound with the stated probability (the intersection-union argument of Berger 1982, Technometrics 24: no correction
    for the number of cells). High end: the lowest of upper bounds that hold at once for all cells that may be the
    lowest, estimate + z · standard error with z the quantile of the largest standardised deviation over them (max-t,
    Westfall & Young 1993; a fifth of the tail is spent on leaving out cells that clearly lie higher). The interval is
    conservative where several cells are equally low. The estimate is the lowest cell's, which lies too low by chance;
    `note` says so.

    Args:
        differences, cells, strata, n_resamples, units: as for `crossed_bootstrap`.
        level: of the interval; each end has half of what is left.

    Returns:
        the interval, whose `samples` are those of the cell with the lowest bound; and one row per cell: its stratum and
        cell columns, ``estimate, low, high``, each interval on its own.

    Raises:
        LookupError, ValueError: those of `crossed_bootstrap`.
    """
    found = resample_cells(differences, cells=cells, strata=strata, n_resamples=n_resamples, seed=seed)
    samples, tail = np.concatenate(found.parts), (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    lowest = int(low.argmin())
    n_cells = len(found.estimates)
    selected = f"the lowest of {n_cells} cells, whose own estimate lies too low by chance" if n_cells > 1 else ""
    note = "; ".join(filter(None, [selected, found.note]))
    interval = Interval(
        float(found.estimates.min()), float(low.min()), _ceiling(found.estimates, samples, tail), level,
        found.n_items, found.n_draws, len(samples), samples[:, lowest], note, units,
    )  # fmt: skip
    return LowestCell(interval, found.labels.assign(estimate=found.estimates, low=low, high=high))


def _ceiling(
    estimates: Float[np.ndarray, " cells"], samples: Float[np.ndarray, "resamples cells"], tail: float
) -> float:
    """An upper bound of the lowest mean, among the cells that may be the lowest."""
    apart = tail / 5  # spent on telling which cells clearly lie above the one that came out lowest
    lowest = int(estimates.argmin())
    gaps, gap_samples = estimates - estimates[lowest], samples - samples[:, [lowest]]
    errors = gap_samples.std(axis=0, ddof=1)
    contenders = gaps <= _largest_deviation(-gaps, -gap_samples, errors, apart) * errors
    own = [part[..., contenders] for part in (estimates, samples, samples.std(axis=0, ddof=1))]
    return float((own[0] + _largest_deviation(*own, tail - apart) * own[2]).min())


def _largest_deviation(
    estimates: Float[np.ndarray, " cells"], samples: Float[np.ndarray, "resamples cells"],
    errors: Float[np.ndarray, " cells"], tail: float,
) -> float:  # fmt: skip
    """How many standard errors the estimate that fell lowest of all lies too low, at most, but for a share `tail`.

    The truth lies above an estimate as the estimate lies above its resamples.
    """
    moving = errors > 0  # two arms that agree exactly differ by the same number in every resample
    if not moving.any():
        return 0.0
    deviations = (estimates[moving] - samples[:, moving]) / errors[moving]
    return float(np.quantile(deviations.max(axis=1), 1 - tail))
