"""The means of the cells of a paired comparison, and what they are when items, draws and seeds are resampled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.pairing import Stratum, cross_tables
from labutils.stats.pigeonhole import cell_means, resampled_cell_means, shared_units

STRATA = ("model", "calibration", "evaluation")
RESAMPLES_AT_ONCE = 1000  # bounds the memory of the item weights: 8 bytes x this x items


class ResampledCells(NamedTuple):
    """Means of all cells, strata x cells with the cells fastest.

    Attributes:
        estimates: on the data as they are.
        parts: under random weights, [resamples, columns] in parts that were drawn together.
        labels: of every column, its stratum and cell.
        n_items, n_draws, note: as in `Interval`.
    """

    estimates: Float[np.ndarray, " columns"]
    parts: list[Float[np.ndarray, "resamples columns"]]
    labels: pd.DataFrame
    n_items: int
    n_draws: int
    note: str


def resample_cells(
    differences: pd.DataFrame,
    *,
    item: str = "item",
    draw: str = "draw",
    cells: Sequence[str] = ("sparsity",),
    strata: Sequence[str] | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> ResampledCells:
    """Resample cell means as `crossed_bootstrap` describes; every column of a resample belongs to the same weights.

    >>> resample_cells(gain, cells=("contrast", "sparsity")).estimates

    Raises:
        LookupError: an unknown column.
        ValueError: empty, NaN, duplicate or incompletely crossed values, or a single item and draw.
    """
    strata = [name for name in STRATA if name in differences] if strata is None else list(strata)
    factors = [*(name for name in (draw, "seed") if name in differences), item]
    tables = cross_tables(differences, factors, cells, strata)
    counts = {name: [len(table.levels[name]) for table in tables] for name in factors}
    if max(map(max, counts.values())) == 1:
        raise ValueError("one item and one draw have no interval: give at least two items or two draws")
    generator = np.random.default_rng(seed)
    sizes = [min(RESAMPLES_AT_ONCE, n_resamples - start) for start in range(0, n_resamples, RESAMPLES_AT_ONCE)]
    notes = [
        f"one {name} only{'' if max(count) == 1 else ' in some strata'}: its variation is not in the interval"
        for name, count in counts.items()
        if min(count) == 1
    ]
    n_items = sum(len(units) for *_, units in {shared_units(table, item) for table in tables})
    return ResampledCells(
        cell_means(tables),
        [resampled_cell_means(tables, size, generator) for size in sizes],
        _labels(tables, cells).reset_index(drop=True),
        n_items,
        min(counts.get(draw, [1])),
        "; ".join(notes),
    )


def _labels(tables: list[Stratum], cells: Sequence[str]) -> pd.DataFrame:
    """One row per column of the means."""
    return pd.concat([pd.DataFrame(list(table.cells), columns=list(cells)).assign(**table.names) for table in tables])
