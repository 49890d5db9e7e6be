"""Paired differences, crossed bootstrap intervals, tests and corrections: the statistics behind every verdict."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor, isfinite, log10, nan
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import chi2

from labutils.stats.cells import resample_cells
from labutils.stats.evidence import Evidence, keeps_evidence
from labutils.stats.pairing import paired_differences

__all__ = [
    "Heterogeneity", "Interval", "crossed_bootstrap", "crossover", "expected_false_contradictions", "heterogeneity",
    "holm", "p_value", "paired_differences", "slope",
]  # fmt: skip

UNITS = ("item", "calibration draw")
SUMMARIES = {"mean": lambda cell_means: cell_means.mean(axis=1), "lowest": lambda cell_means: cell_means.min(axis=1)}

Numbers = Sequence[float | int] | np.ndarray | pd.Series
Statistic = Callable[[Float[np.ndarray, "resamples columns"]], Float[np.ndarray, " resamples"]]


@dataclass(frozen=True)
class Interval:
    """A percentile interval and the resamples it was read from.

    `n_items` counts the items of all evaluations together, `n_draws` the repetitions (calibration draws, mostly) of the
    stratum that has fewest, None where nothing was repeated. `units` names in the singular what the two count. `note`
    says what the interval leaves out.
    """

    estimate: float
    low: float
    high: float
    level: float
    n_items: int
    n_draws: int | None
    n_resamples: int
    samples: Float[np.ndarray, " resamples"] = field(repr=False, compare=False)
    note: str = ""
    units: tuple[str, str] = UNITS
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_samples(
        cls,
        estimate: float,
        samples: Float[np.ndarray, " resamples"],
        *,
        level: float,
        n_items: int,
        n_draws: int | None = None,
        note: str = "",
        units: tuple[str, str] = UNITS,
    ) -> "Interval":
        """The percentile interval of resamples; those without a value are left out, and `note` says how many.

        >>> Interval.from_samples(0.5, np.linspace(0.0, 1.0, 1001), level=0.95, n_items=40)
        Interval(estimate=0.5, low=0.025, high=0.975, ...)
        """
        low, high, missing = _percentiles(estimate, samples, level)
        note = "; ".join(filter(None, [note, missing]))
        return cls(estimate, low, high, level, n_items, n_draws, len(samples), samples, note, units)

    @classmethod
    def undefined(cls, reason: str, *, units: tuple[str, str] = UNITS) -> "Interval":
        """The interval of what cannot be told from the rows at hand; `judge` makes it "not testable here".

        >>> str(Interval.undefined("there is one calibration set"))
        'not testable here (there is one calibration set)'
        """
        return cls(nan, nan, nan, nan, 0, None, 0, np.empty(0), reason, units)

    @property
    def defined(self) -> bool:
        """False for what `undefined` gives."""
        return self.n_resamples > 0

    def __str__(self) -> str:
        """The estimate with its interval, to two significant digits of the interval's width."""
        return format(self, "")

    def __format__(self, form: str) -> str:
        """As `str`, or with a number format and a unit: `f"{gain:+.2f points}"` → "+0.31 points [0.12, 0.50]"."""
        if not self.defined:
            return f"not testable here ({self.note})"
        return write_interval(self.estimate, self.low, self.high, *form.partition(" ")[::2])


def write_interval(estimate: float, low: float, high: float, form: str = "", unit: str = "") -> str:
    """An interval for a reader: "+0.31 points [0.12, 0.50]", with true minus signs and no negative zero.

    Args:
        form: format of the three numbers, as ".3f" or ".1%"; a "+" concerns the estimate alone. Without one: as many
            digits as show two significant ones of the interval's width, and the estimate's sign.
    """
    if not form:
        width = high - low or abs(estimate) or 1.0
        form = f"+.{min(8, max(0, 1 - floor(log10(width))))}f" if isfinite(width) else "+.2f"
    plain = form.removeprefix("+")
    numbers = [format(number, plain) for number in (estimate, low, high)]
    numbers = [text.removeprefix("-") if not re.search("[1-9a-z]", text) else text for text in numbers]
    sign = "+" if form != plain and not numbers[0].startswith("-") and re.search("[1-9]", numbers[0]) else ""
    shown, low_text, high_text = (text.replace("-", "−") for text in numbers)
    return " ".join(filter(None, [sign + shown, unit, f"[{low_text}, {high_text}]"]))


class Heterogeneity(NamedTuple):
    """Cochran's Q with its chi-square p-value, and I², the share of the variation that is not sampling error."""

    q: float
    degrees_of_freedom: int
    p_value: float
    i_squared: float


@keeps_evidence()
def crossed_bootstrap(
    differences: pd.DataFrame,
    statistic: str | Statistic = "mean",
    *,
    item: str = "item",
    draw: str = "draw",
    cells: Sequence[str] = ("sparsity",),
    strata: Sequence[str] | None = None,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    units: tuple[str, str] = UNITS,
) -> Interval:
    """Percentile interval of a statistic of cell means, resampling items, calibration draws and seeds together.

    >>> gain = paired_differences(rows, {"arm": "ria/uniform"}, {"arm": "ria/owl"})
    >>> crossed_bootstrap(gain, slope([0.5, 0.6, 0.7]))

    `differences` holds one `value` per item x draw (x `seed`, where that column exists) x cell x stratum. Every
    resample weights the units of each factor and averages over the product of the weights: the pigeonhole bootstrap of
    Owen (2007, Annals of Applied Statistics 1(2)), correct for main effects, conservative for their interaction. All
    cells of a stratum share the weights, so a difference between sparsities is paired. Strata (by default those of
    model, calibration, evaluation that are columns) share draws where they agree on `calibration`, and items where they
    agree on everything but the model and the calibration; otherwise they are resampled independently. Weights are
    widened for few units, see `labutils.stats.pigeonhole`. A factor with one unit cannot be resampled; `note` then says
    so.
    `units` names what items and draws are, as `Interval.units` does.

    `statistic` maps cell means [resamples, strata x cells] (sorted, cells fastest) to [resamples]; "mean" averages
    them, "lowest" takes the least.
    Raises LookupError for an unknown column, ValueError for empty, NaN, duplicate or incompletely crossed values.
    """
    summarise = _resolve(statistic)
    if n_resamples < 100 or not 0 < level < 1:
        raise ValueError(f"n_resamples={n_resamples}, level={level}: at least 100 resamples, a level between 0 and 1")
    found = resample_cells(
        differences, item=item, draw=draw, cells=cells, strata=strata, n_resamples=n_resamples, seed=seed
    )
    samples = np.concatenate([summarise(part) for part in found.parts])
    estimate = float(summarise(found.estimates[None, :])[0])
    counts = {"n_items": found.n_items, "n_draws": found.n_draws}
    return Interval.from_samples(estimate, samples, level=level, **counts, note=found.note, units=units)


@dataclass(frozen=True)
class _Slope:
    x: tuple[float, ...]

    def __call__(self, cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        grid = _increasing(self.x)
        weights = (grid - grid.mean()) / np.square(grid - grid.mean()).sum()
        return _average_strata(cell_means, grid) @ weights


def slope(x: Numbers) -> Statistic:
    """Statistic: least-squares slope over `x` (one increasing value per cell) of cell means averaged over strata.

    >>> crossed_bootstrap(gain, slope([0.5, 0.6, 0.7]))  # gain per unit of sparsity
    """
    return _Slope(tuple(_increasing(x).tolist()))


@dataclass(frozen=True)
class _Crossover:
    x: tuple[float, ...]

    def __call__(self, cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        grid = _increasing(self.x)
        y = _average_strata(cell_means, grid)
        location, sign_ahead = np.full(len(y), np.nan), np.zeros(len(y))
        for k in reversed(range(len(grid) - 1)):
            sign_ahead = np.where(y[:, k + 1] != 0, np.sign(y[:, k + 1]), sign_ahead)
            found = np.isnan(location) & (y[:, k] < 0) & (sign_ahead > 0)
            left, right = y[found, k], y[found, k + 1]
            location[found] = grid[k] + (grid[k + 1] - grid[k]) * left / (left - right)
        return location


def crossover(x: Numbers) -> Statistic:
    """Statistic: where interpolated means over strata last turn from negative to positive; NaN if nowhere.

    >>> crossed_bootstrap(gain, crossover([0.5, 0.6, 0.7]))  # the sparsity from which on the candidate is better
    """
    return _Crossover(tuple(_increasing(x).tolist()))


def p_value(samples: Float[np.ndarray, " resamples"], boundaries: Numbers = (0.0,)) -> float:
    """Two-sided bootstrap p-value of lying on the nearest boundary, with the +1 correction of Davison & Hinkley (1997).

    >>> p_value(interval.samples, (-margin, margin))

    With boundaries (-δ, δ) and an estimate between them this is twice the p-value of two one-sided tests (Schuirmann
    1987): it is below 0.05 when the 95 % interval, not only the customary 90 % one, lies inside ±δ.
    """
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} of {len(samples)} resamples have no value: no p-value")
    tails = [min(np.sum(samples <= b), np.sum(samples >= b)) for b in boundaries]
    return float(min(1.0, 2 * (max(tails) + 1) / (len(samples) + 1)))


def holm(p_values: Numbers) -> Float[np.ndarray, " tests"]:
    """Holm's (1979) step-down adjusted p-values, in the given order; they bound the chance of any false rejection.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    raw = np.asarray(p_values, dtype=float)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], got {raw.tolist()}")
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(raw), 0, -1) * raw[order]))
    return adjusted


def heterogeneity(estimates: Numbers, standard_errors: Numbers) -> Heterogeneity:
    """Do effects differ between settings by more than sampling error? Cochran's Q and I² (Higgins & Thompson 2002).

    >>> heterogeneity([0.1, 0.3], [0.05, 0.05]).i_squared
    0.875

    A single setting has no others to differ from: its I² and p are NaN.
    """
    effects, errors = np.asarray(estimates, dtype=float), np.asarray(standard_errors, dtype=float)
    usable = len(effects) == len(errors) >= 1 and np.isfinite(effects).all() and np.isfinite(errors).all()
    if not usable or not (errors > 0).all():
        raise ValueError("heterogeneity needs finite estimates, each with a positive standard error")
    weights = errors**-2.0
    q = float(np.sum(weights * np.square(effects - np.average(effects, weights=weights))))
    degrees = len(effects) - 1
    if degrees == 0:
        return Heterogeneity(0.0, 0, float("nan"), float("nan"))
    return Heterogeneity(q, degrees, float(chi2.sf(q, degrees)), max(0.0, 1 - degrees / q) if q > 0 else 0.0)


def expected_false_contradictions(n_tests: int, *, level: float = 0.95) -> float:
    """Number of uncorrected intervals expected wholly on the wrong side by chance if no tested claim had any effect.

    >>> expected_false_contradictions(40)  # one, at 95 %
    """
    return n_tests * (1 - level) / 2


def _percentiles(estimate: float, samples: Float[np.ndarray, " resamples"], level: float) -> tuple[float, float, str]:
    finite = samples[np.isfinite(samples)]
    if not np.isfinite(estimate) or finite.size == 0:
        return float("nan"), float("nan"), "the statistic has no value on these data"
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    without = 1 - finite.size / samples.size
    return float(low), float(high), f"{without:.1%} of the resamples have no value" if without else ""


def _resolve(statistic: str | Statistic) -> Statistic:
    if callable(statistic):
        return statistic
    if statistic not in SUMMARIES:
        known = ", ".join(map(repr, SUMMARIES))
        raise ValueError(f"statistic {statistic!r} is not known: use {known}, slope(x), crossover(x) or a function")
    return SUMMARIES[statistic]


def _increasing(x: Numbers) -> Float[np.ndarray, " cells"]:
    grid = np.asarray(x, dtype=float)
    if len(grid) < 2 or not (np.diff(grid) > 0).all():
        raise ValueError(f"x must hold at least two increasing values, one per cell, got {grid.tolist()}")
    return grid


def _average_strata(
    cell_means: Float[np.ndarray, "resamples columns"], grid: Float[np.ndarray, " cells"]
) -> Float[np.ndarray, "resamples cells"]:
    resamples, columns = cell_means.shape
    if columns % len(grid):
        raise ValueError(f"{columns} cell means do not divide into strata of {len(grid)} cells: give one x per cell")
    return cell_means.reshape(resamples, -1, len(grid)).mean(axis=1)
