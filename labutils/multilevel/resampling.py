"""Bootstrap intervals for whatever a fitted model says: variance shares, ratios of shares, coefficients.

The parametric bootstrap draws new random coefficients and residuals from the fitted model; it takes the model to be
true. The cluster bootstrap draws whole groups with replacement; it does not, but needs many groups, some 20 at least.
Both refit the model every time. Intervals are bias-corrected percentiles (Efron 1981, Canadian Journal of Statistics
9): a share of variance is never negative, so its resamples lie above the estimate on average, and plain percentiles
would carry that bias twice.

They are approximate. In simulated balanced studies of 24 groups with 16 rows, parametric 95 % intervals held the truth
in 91 to 93 % of the studies for shares above 5 %, but in only 70 to 87 % for shares of 1 or 2 %, and never for a share
of exactly zero, which no interval of positive numbers reaches: whether there is an effect is a question for its t-test.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from joblib import Parallel, delayed
from scipy.stats import norm

from labutils.core.progress import progress
from labutils.multilevel.identification import check_identified
from labutils.multilevel.matrices import Design
from labutils.multilevel.model import MultilevelModel, fit_model

Statistic = Callable[[MultilevelModel], pd.Series]
METHODS = ("parametric", "cluster")
MOST_FAILURES = 0.1  # share of resamples that may have no fit before intervals are refused


@dataclass(frozen=True)
class Bootstrap:
    """Intervals and the resamples they were read from.

    Attributes:
        table: one row per entry of the statistic: estimate, low, high.
        samples: one row per resample, one column per entry.
        singular: share of the resamples with a singular fit.
        note: how many resamples had no fit, and why; empty where all had one.
    """

    table: pd.DataFrame
    samples: pd.DataFrame = field(repr=False)
    method: str
    level: float
    singular: float
    note: str


def shares(model: MultilevelModel) -> pd.Series:
    """All variance shares of `r2`, with the index (variance, component)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.r2().stack().dropna()


def bootstrap(
    model: MultilevelModel,
    statistic: Statistic = shares,
    *,
    method: str = "parametric",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Intervals of a statistic of a model, by default of all its variance shares.

    >>> bootstrap(model, n_resamples=1000).table.loc["total"]
    >>> bootstrap(model, lambda fitted: pd.Series({"icc": fitted.icc}), method="cluster").table

    Resamples run through joblib: `with joblib.parallel_config(n_jobs=2)` spreads them over processes.

    Args:
        statistic: maps a model to named numbers; always the same names.
        method: "parametric", or "cluster" for models with one grouping factor.
        n_resamples: at least 2 / (1 − level), so that each end of an interval lies inside the resamples.

    Raises:
        ValueError: an unknown method, no level, several grouping factors, or too many resamples without a fit.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known: use one of {', '.join(map(repr, METHODS))}.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1.")
    fewest = math.ceil(2 / (1 - level) - 1e-9)
    if n_resamples < fewest:
        raise ValueError(f"n_resamples={n_resamples}: an interval of level {level} needs at least {fewest} resamples.")
    if method == "cluster" and len(model.design.groupings) > 1:
        names = ", ".join(grouping.name for grouping in model.design.groupings)
        raise ValueError(f"The cluster bootstrap takes one grouping factor, not {names}: use method='parametric'.")
    estimate = statistic(model)
    seeds = np.random.SeedSequence(seed).spawn(n_resamples)
    run = Parallel(return_as="generator")(delayed(_resample)(model, statistic, method, each) for each in seeds)
    found = list(progress(run, total=n_resamples, description=f"{method} bootstrap", unit="resample"))
    fitted = [result for result in found if not isinstance(result, str)]
    failures = sorted({result for result in found if isinstance(result, str)})
    lost = n_resamples - len(fitted)
    note = f"{lost} of {n_resamples} resamples without a fit: {failures[0]}" if lost else ""
    if lost > MOST_FAILURES * n_resamples:
        raise ValueError(f"No interval, {note}")
    samples = pd.DataFrame([values for values, _ in fitted]).reset_index(drop=True)[list(estimate.index)]
    bounds = [bias_corrected(samples[name].to_numpy(dtype=float), estimate[name], level) for name in estimate.index]
    table = pd.DataFrame(bounds, index=estimate.index, columns=["low", "high"])
    table.insert(0, "estimate", estimate)
    return Bootstrap(table, samples, method, level, float(np.mean([singular for _, singular in fitted])), note)


def bias_shift(samples: Float[np.ndarray, " resamples"], estimate: float) -> float:
    """Twice the normal quantile of the share of resamples below the estimate; ties count half (Efron 1981)."""
    below = np.mean(samples < estimate) + np.mean(samples == estimate) / 2
    edge = 1 / (2 * len(samples))  # all resamples on one side: as far as their number can tell
    return float(2 * norm.ppf(np.clip(below, edge, 1 - edge)))


def bias_corrected(samples: Float[np.ndarray, " resamples"], estimate: float, level: float) -> tuple[float, float]:
    """Percentiles of the resamples, moved by `bias_shift` on the scale of normal quantiles."""
    if not np.isfinite(samples).all() or not np.isfinite(estimate):
        return float("nan"), float("nan")
    shift = bias_shift(samples, estimate)
    tail = norm.ppf((1 - level) / 2)
    low, high = np.quantile(samples, norm.cdf([shift + tail, shift - tail]))
    return float(low), float(high)


def simulate_response(model: MultilevelModel, generator: np.random.Generator) -> Float[np.ndarray, " rows"]:
    """A response drawn from the fitted model: new random coefficients, new residuals."""
    design = model.design
    noise = np.sqrt(model.residual_variance) * generator.normal(size=design.n_rows)
    # A residual of a row of weight w has the variance σ²/w.
    y = design.x @ model.coefficients + (noise if design.weights is None else noise / np.sqrt(design.weights))
    for grouping in design.groupings:
        values, vectors = np.linalg.eigh(model.covariances[grouping.name].to_numpy())
        root = vectors * np.sqrt(values.clip(min=0))  # a singular covariance has no Cholesky factor
        drawn = generator.normal(size=(len(grouping.levels), len(grouping.terms))) @ root.T
        y = y + (grouping.columns * drawn[grouping.codes]).sum(1)
    return y


def _resample(
    model: MultilevelModel, statistic: Statistic, method: str, seed: np.random.SeedSequence
) -> tuple[pd.Series, bool] | str:
    """The statistic of one refit and whether that is singular; the reason, where there is no fit."""
    generator = np.random.default_rng(seed)
    # A singular estimate is a stationary point of every resample too, so it is no place to start from.
    start = None if model.singular else model.fit.theta
    try:
        fitted = fit_model(_resampled_design(model, method, generator), reml=model.reml, start=start)
    except ValueError as error:
        return str(error)
    return (statistic(fitted), fitted.singular) if fitted.converged else "the descent did not reach a minimum"


def _resampled_design(model: MultilevelModel, method: str, generator: np.random.Generator) -> Design:
    if method == "parametric":
        return model.design.with_response(simulate_response(model, generator))
    n_levels = len(model.design.groupings[0].levels)
    design = model.design.resampled(generator.integers(n_levels, size=n_levels))
    check_identified(design)
    return design
