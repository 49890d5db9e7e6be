"""An interval for every group of a frame."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from labutils.stats.bootstrap import Interval, crossed_bootstrap
from labutils.stats.pairing import require_columns

mean_interval = partial(crossed_bootstrap, cells=(), n_resamples=2000)


def interval_table(
    frame: pd.DataFrame, by: Sequence[str], interval: Callable[..., Interval] = mean_interval, **options: Any
) -> pd.DataFrame:
    """The interval of every group, one row each, in the order of first appearance.

        interval_table(gain, ["evaluation", "sparsity"], level=0.9)
        interval_table(contrasts, ["model"], crossed_bootstrap, cells=["contrast", "sparsity"])

    Args:
        frame: with the columns that `interval` reads, as `value`, `item` and `draw`.
        by: columns that tell the groups apart; rows without a value are a group, too.
        interval: from the rows of a group to its interval; without it that of their mean, items and calibration draws
            resampled together, 2000 times.
        options: keyword arguments of `interval`.

    Returns:
        the columns `by`, `estimate, low, high`, and `error`, the standard deviation of the resamples.

    Raises:
        LookupError: no column of that name; and that of `interval`.
        ValueError: that of `interval`.
    """
    require_columns(frame, by)
    rows = []
    for key, group in frame.groupby(list(by), sort=False, dropna=False):  # a key may be missing
        found = interval(group, **options)
        names = dict(zip(by, key, strict=True))
        error = float(found.samples.std(ddof=1))
        rows.append({**names, "estimate": found.estimate, "low": found.low, "high": found.high, "error": error})
    return pd.DataFrame(rows, columns=[*by, "estimate", "low", "high", "error"])
