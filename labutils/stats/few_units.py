"""An effect over few units, such as models, rules or texts, of which each has an estimate of its own."""

import numpy as np
import pandas as pd
from scipy.stats import t

from labutils.stats.bootstrap import Interval
from labutils.stats.evidence import keeps_evidence
from labutils.stats.pairing import require_columns

GRID = 10_000  # quantiles of Student's t that stand for resamples


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
    error = found.std(ddof=1) / np.sqrt(len(found))
    shares = (np.arange(GRID) + 0.5) / GRID
    samples = found.mean() + error * t.ppf(shares, len(found) - 1)
    return Interval.from_samples(
        float(found.mean()), samples, level=level, n_items=n_items or len(found), n_draws=len(found),
        note=f"over {len(found)} {unit}s", units=("item" if n_items else unit, unit),
    )  # fmt: skip
