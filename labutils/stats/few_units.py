"""An effect over few units, such as models, rules or texts, of which each has an estimate of its own."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t

from labutils.stats.bootstrap import Interval
from labutils.stats.bounds import bound_tails, interval_of_bounds
from labutils.stats.evidence import keeps_evidence
from labutils.stats.pairing import require_columns

GRID = 10_000  # bounds from Student's t that stand for resamples


@keeps_evidence()
def interval_over_units(
    effects: pd.DataFrame, *, unit: str = "model", value: str = "estimate", level: float = 0.95, n_items: int = 0
) -> Interval:
    """The mean effect in the population that the units are from, by Student's t over their estimates.

    >>> interval_over_units(interval_table(gain, ["model"]), unit="model")

    The unit of replication of a claim about architectures is the architecture: its interval must widen when effects
    differ between architectures, however many items each was measured on. The estimates' own spread holds both, the
    units' true differences and the error of each estimate, so the t interval with k − 1 degrees of freedom needs
    neither apart; it is exact for normal effects measured equally well. With two or three units it is wide, as it
    should be.

    Args:
        effects: one row per unit, with the columns `unit` and `value`.
        n_items: what the units' own estimates were found over, for the verdict's sentence.

    Raises:
        LookupError: a column is missing.
        ValueError: fewer than two units, a unit that stands in two rows, or estimates that are not finite.
    """
    require_columns(effects, [unit, value])
    found = effects[value].to_numpy(dtype=float)
    if len(found) < 2 or effects[unit].duplicated().any() or not np.isfinite(found).all():
        raise ValueError(
            f"an effect over units needs one finite {value!r} for each of at least two {unit}s, got {len(found)} rows "
            f"for {effects[unit].nunique()}: {dict(zip(effects[unit], found, strict=True))}"
        )
    return lowest_over_units(found[None], unit=unit, level=level, n_items=n_items)


def lowest_over_units(
    means: Float[np.ndarray, "cells units"], *, unit: str = "model", level: float = 0.95, n_items: int = 0
) -> Interval:
    """The lowest of several cells' mean effects in the population that the units are from.

    >>> lowest_over_units(np.array([[0.1, 0.2, 0.3], [-0.1, 0.1, 0.0]]), unit="model").estimate
    0.0

    Every cell has the t interval of `interval_over_units`. The low end is the lowest of their lower bounds
    (intersection-union, as in `labutils.stats.lowest_cell`), the high end the lowest of upper bounds that hold at once
    (Bonferroni). `samples` are such bounds at all levels, so that the p-value agrees with the interval.

    Raises:
        ValueError: fewer than two units, no cell, or means that are not finite.
    """
    n_cells, n_units = means.shape
    if n_cells < 1 or n_units < 2 or not np.isfinite(means).all():
        raise ValueError(
            f"the lowest cell over {unit}s needs finite means of at least one cell and two {unit}s, got {n_cells} "
            f"cells of {n_units} with {int((~np.isfinite(means)).sum())} that are not finite"
        )
    centres, errors = means.mean(axis=1), means.std(axis=1, ddof=1) / np.sqrt(n_units)
    tails = bound_tails(GRID)
    lower = (centres + errors * t.ppf(tails, n_units - 1)[:, None]).min(axis=1)
    upper = (centres - errors * t.ppf(tails / n_cells, n_units - 1)[:, None]).min(axis=1)
    among = f"; the lowest of {n_cells} cells" if n_cells > 1 else ""
    return interval_of_bounds(
        float(centres.min()), lower, upper, level=level, n_items=n_items or n_units, n_draws=n_units,
        note=f"over {n_units} {unit}s{among}", units=("item" if n_items else unit, unit),
    )  # fmt: skip
