"""Do two quantities go together among tasks, with everything else held fixed? Ranks within each cell, then pooled.

Pooled over methods and sparsities, two columns that both grow with sparsity are correlated whatever they measure. Ranks
within one method at one sparsity compare tasks with tasks alone.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from labutils.stats.bootstrap import Interval
from labutils.stats.evidence import keeps_evidence
from labutils.stats.pairing import require_columns

FEWEST = 4  # clusters: the ranks of three have one correlation for every pair of orders, and next to no spread
NEAR_ONE = 1 - 1e-6  # Fisher's z of a perfect correlation is infinite


@keeps_evidence()
def within_cell_correlation(
    frame: pd.DataFrame, x: str, y: str, *, cells: Sequence[str], cluster: str, level: float = 0.95,
    n_resamples: int = 2000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Spearman's ρ of two columns with `cells` held fixed: ranks within each cell, then one correlation over all.

    >>> within_cell_correlation(pairs, "change", "relative_drop", cells=["method", "sparsity"], cluster="task")

    The correlation of ranks that are centred in their cell: the mean of the cells' own ρ, each weighted by how far its
    ranks spread (a cell in which all tasks lose the same says nothing). The interval resamples whole clusters, ranks
    them anew, and widens the deviations of Fisher's z by sqrt(n/χ²) with n − 1 degrees of freedom, as
    `labutils.stats.pigeonhole` does, so that few clusters have an honest interval. Resamples without any spread have no
    value and are left out. Of fewer than four clusters the interval is undefined.

    Args:
        frame: one row per cluster and cell, for every cell the same clusters.

    Raises:
        LookupError: a column is missing.
        ValueError: values that are NaN, a cluster that a cell lacks or holds twice.
    """
    require_columns(frame, [x, y, *cells, cluster])
    tables = [_crossed(frame, column, cells, cluster) for column in (x, y)]
    n_clusters = tables[0].shape[1]
    if n_clusters < FEWEST:
        return Interval.undefined(f"at least {FEWEST} values of {cluster} are needed; there are {n_clusters}")
    estimate = float(_pooled(*(table[None] for table in tables))[0])
    if np.isnan(estimate):
        return Interval.undefined(f"{x} or {y} is the same for every {cluster} in every cell")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(n_clusters, size=(n_resamples, n_clusters))
    found = _pooled(*(table[:, drawn].swapaxes(0, 1) for table in tables))
    widening = np.sqrt(n_clusters / generator.chisquare(n_clusters - 1, size=n_resamples))
    centre = np.arctanh(np.clip(estimate, -NEAR_ONE, NEAR_ONE))
    samples = np.tanh(centre + widening * (np.arctanh(np.clip(found, -NEAR_ONE, NEAR_ONE)) - centre))
    samples = samples[np.isfinite(samples)]
    return Interval.from_samples(estimate, samples, level=level, n_items=n_clusters, units=(cluster, "repetition"))


def _crossed(
    frame: pd.DataFrame, column: str, cells: Sequence[str], cluster: str
) -> Float[np.ndarray, "cells clusters"]:
    if frame[column].isna().any():
        raise ValueError(f"{column} needs a value in every row; {int(frame[column].isna().sum())} are missing")
    keys = [*cells, cluster]
    if frame.duplicated(keys).any():
        twice = frame.loc[frame.duplicated(keys), keys].iloc[0].to_dict()
        raise ValueError(f"one row per {cluster} and cell is needed; there are several of {twice}: average them first")
    table = frame.set_index(keys)[column].unstack(cluster)
    if table.isna().any(axis=None):
        lacking = int(table.isna().sum().sum())
        raise ValueError(f"every cell of {', '.join(cells)} needs a row of every {cluster}; {lacking} are missing")
    return table.to_numpy(dtype=float)


def _pooled(
    x: Float[np.ndarray, "resamples cells clusters"], y: Float[np.ndarray, "resamples cells clusters"]
) -> Float[np.ndarray, " resamples"]:
    """NaN where one of the two has no spread in any cell."""
    first, second = (rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (x, y))
    spread = np.sqrt(np.square(first).sum((1, 2)) * np.square(second).sum((1, 2)))
    return np.divide((first * second).sum((1, 2)), spread, out=np.full(len(x), np.nan), where=spread > 0)
