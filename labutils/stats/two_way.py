"""Shares of the variance of a table of means: of its rows, of its columns, and of both together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

PARTS = ("rows", "columns", "interaction")


@dataclass(frozen=True)
class TwoWayShare:
    """A statistic of cell means; see `two_way_share`."""

    part: str
    shape: tuple[int, int]
    logs: bool = False

    def __call__(self, cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        tables = cell_means.reshape(len(cell_means), -1, *self.shape)
        if self.logs:
            tables = np.log(np.where(tables > 0, tables, np.nan))
        tables = tables - tables.mean(axis=(2, 3), keepdims=True)
        total = np.square(tables).mean(axis=(2, 3))
        rows = np.square(tables.mean(axis=3)).mean(axis=2)
        columns = np.square(tables.mean(axis=2)).mean(axis=2)
        own = {"rows": rows, "columns": columns, "interaction": total - rows - columns}[self.part]
        return np.divide(own, total, out=np.zeros_like(own), where=~(total <= 0)).mean(axis=1)


def two_way_share(part: str, shape: tuple[int, int], *, logs: bool = False) -> TwoWayShare:
    """Statistic: the share of the sum of squares of a table of cell means that a part of it explains (η²).

    >>> crossed_bootstrap(losses, two_way_share("rows", (4, 5)), cells=("mask", "step"))

    The cells are those of a two-way layout, rows × columns, one mean in each. The three shares add up to one; a table
    without differences has none. Over strata they are averaged.

    Args:
        part: "rows", "columns" or "interaction".
        shape: how many values the first and the second cell column have.
        logs: whether the logarithms of the means are split; where one is not above zero, there is no share.

    Raises:
        ValueError: another part, or a table of one row or column.
    """
    if part not in PARTS or min(shape) < 2:
        raise ValueError(f"part={part!r} must be one of {', '.join(PARTS)}, of a table of at least 2 × 2, not {shape}.")
    return TwoWayShare(part, tuple(shape), logs)
