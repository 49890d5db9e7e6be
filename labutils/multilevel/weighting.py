"""Prior weights of rows: a row of weight w has the residual variance σ²/w, as a mean of w observations would."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.multilevel.coding import read_column

Weights = str | Sequence[float | int] | np.ndarray | pd.Series
SMALLEST, LARGEST = 1e-70, 1e70  # as for all columns: beyond, double precision does not hold the squares
WIDEST = 1e9  # largest weight over smallest


def read_weights(weights: Weights, data: pd.DataFrame) -> Float[np.ndarray, " rows"]:
    """One positive number per row.

    >>> read_weights("n_items", pd.DataFrame({"n_items": [10, 40]}))
    array([10., 40.])

    Args:
        weights: a column of the data, or one number per row, in its order.

    Raises:
        LookupError: there is no such column.
        ValueError: not one number per row; missing, zero, negative, infinite or too far apart; a series with another
            index.
    """
    if isinstance(weights, str):
        name, values = f"the column {weights!r}", read_column(data, weights)
    else:
        name, values = "`weights`", weights
        if isinstance(weights, pd.Series) and not weights.index.equals(data.index):
            raise ValueError("The index of `weights` is not that of the data: give a column's name, or to_numpy().")
    try:
        found = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The weights in {name} are no numbers ({error}): give one positive number per row."
        ) from error
    if found.shape != (len(data),):
        raise ValueError(f"The weights in {name} have the shape {found.shape}: {len(data)} rows need one number each.")
    wrong = ~((found > SMALLEST) & (found < LARGEST))  # true for NaN too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"The weights in {name} must be positive and finite, but {int(wrong.sum())} are not, the first in row "
            f"{first} (counted from 0): {found[first]:g}. Leave out rows that are to count for nothing."
        )
    spread = found.max() / found.min()
    if spread > WIDEST:
        raise ValueError(
            f"The weights in {name} differ by a factor of {spread:.3g}: rows of the least weight would count for less "
            f"than rounding, so leave them out ({WIDEST:g} at most)."
        )
    return found


def equal_row_variance(weights: Float[np.ndarray, " rows"] | None, residual: float) -> float:
    """The residual variance that all rows have, σ²/w.

    Raises:
        ValueError: rows have different weights, and so different variances.
    """
    if weights is None:
        return residual
    if np.ptp(weights) > 0:
        raise ValueError(
            "Shares of variance take one residual variance for all rows, but prior weights give each row its own: "
            "fit without weights, or to means of equally many observations."
        )
    return residual / float(weights[0])
