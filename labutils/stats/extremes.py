"""The lowest of many cells, with an interval: whether something holds everywhere is a matter of the worst cell.

The lowest of several noisy means lies below the lowest true mean, and a percentile interval of resampled minima lies
lower still. Here the two ends come from two arguments that need no such resampling of a minimum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from labutils.stats.bootstrap import UNITS, Interval
from labutils.stats.bounds import bound_tails, interval_of_bounds
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
    `note` says so. `samples` are such bounds at all levels, so that the p-value agrees with the interval
    (`interval_of_bounds`).

    Args:
        differences, cells, strata, n_resamples, units: as for `crossed_bootstrap`.
        level: of the interval; each end has half of what is left.

    Returns:
        the interval; and one row per cell: its stratum and cell columns, ``estimate, low, high``, each interval on its
        own, and ``error``, the standard deviation of its resamples.

    Raises:
        LookupError, ValueError: those of `crossed_bootstrap` and `interval_of_bounds`.
    """
    found = resample_cells(differences, cells=cells, strata=strata, n_resamples=n_resamples, seed=seed)
    samples, tail = np.concatenate(found.parts), (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    tails = bound_tails(len(samples))
    floors = np.sort(samples, axis=0)[: len(tails)].min(axis=1)
    n_cells = len(found.estimates)
    selected = f"the lowest of {n_cells} cells, whose own estimate lies too low by chance" if n_cells > 1 else ""
    interval = interval_of_bounds(
        float(found.estimates.min()), floors, _ceilings(found.estimates, samples, tails), level=level,
        n_items=found.n_items, n_draws=found.n_draws, note="; ".join(filter(None, [selected, found.note])), units=units,
    )  # fmt: skip
    errors = samples.std(axis=0, ddof=1)
    return LowestCell(interval, found.labels.assign(estimate=found.estimates, low=low, high=high, error=errors))


def _ceilings(
    estimates: Float[np.ndarray, " cells"],
    samples: Float[np.ndarray, "resamples cells"],
    tails: Float[np.ndarray, " tails"],
) -> Float[np.ndarray, " tails"]:
    """Upper bounds of the lowest mean, among the cells that may be the lowest, that err in these shares of studies."""
    apart = tails / 5  # spent on telling which cells clearly lie above the one that came out lowest
    lowest = int(estimates.argmin())
    # A cell is left out where its gap to the lowest is more than the largest deviation of any gap, in standard errors.
    gaps, gap_samples = estimates - estimates[lowest], samples - samples[:, [lowest]]
    order, shifted = _by_distance(gaps, gap_samples.std(axis=0, ddof=1))
    most = _largest_deviations(-gaps[order], -gap_samples[:, order])[:, -1]
    n_contenders = np.searchsorted(shifted, np.maximum(0.0, np.quantile(most, 1 - apart)), side="right")
    own, errors = estimates[order], samples[:, order].std(axis=0, ddof=1)
    deviations = _largest_deviations(own, samples[:, order])
    found = np.empty(len(tails))
    for n in np.unique(n_contenders):
        at = n_contenders == n
        far = np.quantile(deviations[:, n - 1], 1 - (tails - apart)[at])
        found[at] = (own[:n] + far[:, None] * errors[:n]).min(axis=1)
    return found


def _by_distance(
    gaps: Float[np.ndarray, " cells"], errors: Float[np.ndarray, " cells"]
) -> tuple[Int[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """The cells by their gaps in standard errors, and these: zero of the lowest, infinite of a gap without error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = np.where(gaps == 0, 0.0, gaps / errors)
    order = np.argsort(distances, kind="stable")
    return order, distances[order]


def _largest_deviations(
    estimates: Float[np.ndarray, " cells"], samples: Float[np.ndarray, "resamples cells"]
) -> Float[np.ndarray, "resamples cells"]:
    """By how many standard errors the farthest of the first n estimates lies too low, in each resample, for every n.

    The truth lies above an estimate as the estimate lies above its resamples.
    """
    errors = samples.std(axis=0, ddof=1)
    moving = errors > 0  # two arms that agree exactly differ by the same number in every resample
    deviations = np.full(samples.shape, -np.inf)
    deviations[:, moving] = (estimates[moving] - samples[:, moving]) / errors[moving]
    farthest = np.maximum.accumulate(deviations, axis=1)
    return np.where(np.isfinite(farthest), farthest, 0.0)
