"""Orthogonal columns that span the same as given ones, computed without loss of digits.

Predictors such as years, or seconds since 1970, are large beside what they vary by. Beside an intercept they span the
same as their differences from the mean, which are exact to the last digits, so these are what is orthogonalised.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ROUNDING = 1e-15  # of a mean, relative to the values: what a column varies by must be more
NEAR = 1e-4  # entries of Q'Q − I after one Cholesky factorisation, up to which a second makes them rounding


@dataclass(frozen=True)
class Basis:
    """Columns C = Q R, where rows have weights √w·C = Q R.

    Attributes:
        q: orthogonal columns of unit mean square, Q'Q = rows · I.
        root: R, upper triangular.
        has_intercept: whether the first column is constant, before rows are weighted.
        own: length of what each column has beside the earlier ones, relative to its own length; where there is an
            intercept, to that of its differences from the mean.
    """

    q: Float[np.ndarray, "rows terms"]
    root: Float[np.ndarray, "terms terms"]
    has_intercept: bool
    own: Float[np.ndarray, " terms"]


def orthogonalise_columns(
    columns: Float[np.ndarray, "rows terms"], roots: Float[np.ndarray, " rows"] | None = None
) -> Basis:
    """An orthogonal basis; an intercept is seen by its values and must be the first column.

    >>> basis = orthogonalise_columns(np.column_stack([np.ones(3), [1e9, 1e9 + 1, 1e9 + 3]]))
    >>> basis.q.T @ basis.q  # 3 · I

    Args:
        roots: what every row is multiplied by: square roots of prior weights.
    """
    has_intercept = bool(columns[0, 0] != 0 and (columns[:, 0] == columns[0, 0]).all())
    centred, back = _without_means(columns, roots) if has_intercept else (columns, np.eye(columns.shape[1]))
    if roots is not None:
        centred = centred * roots[:, None]
    sizes = np.abs(centred).max(axis=0)
    unit = centred / np.where(sizes > 0, sizes, 1)  # squares neither overflow nor vanish
    q, root = _factorised(unit)
    lengths = np.linalg.norm(root, axis=0)
    own = np.abs(np.diag(root)) / np.where(lengths > 0, lengths, 1)
    side = np.sqrt(len(columns))
    return Basis(q * side, (root * sizes / side) @ back, has_intercept, own)


def _without_means(
    columns: Float[np.ndarray, "rows terms"], roots: Float[np.ndarray, " rows"] | None
) -> tuple[Float[np.ndarray, "rows terms"], Float[np.ndarray, "terms terms"]]:
    """Differences from the means beside the intercept, and what leads back: columns = differences @ T."""
    back = np.eye(columns.shape[1])
    shares = np.full(len(columns), 1 / len(columns)) if roots is None else roots**2 / (roots @ roots)
    means = shares @ columns[:, 1:]
    centred = columns.copy(order="K")
    centred[:, 1:] -= means
    # A column that varies by no more than rounding is constant.
    flat = np.abs(centred[:, 1:]).max(axis=0, initial=0) <= ROUNDING * np.abs(means)
    centred[:, 1:][:, flat] = 0
    back[0, 1:] = means / columns[0, 0]
    return centred, back


def _factorised(
    columns: Float[np.ndarray, "rows terms"],
) -> tuple[Float[np.ndarray, "rows terms"], Float[np.ndarray, "terms terms"]]:
    """Q with Q'Q = I, and R, of columns of similar size."""
    # Cholesky factorisation of C'C, twice (Yamamoto et al. 2015, Electronic Transactions on Numerical Analysis 44): as
    # exact as Householder's QR where the first pass leaves Q near orthogonal, and few passes over the rows.
    q, root = columns, np.eye(columns.shape[1])
    for _ in range(2):
        try:
            half = np.linalg.cholesky(q.T @ q)
        except np.linalg.LinAlgError:  # columns that depend on each other
            return np.linalg.qr(columns)
        if q is not columns and np.abs(half - np.eye(len(half))).max() > NEAR:
            return np.linalg.qr(columns)
        q, root = (np.linalg.inv(half) @ q.T).T, half.T @ root
    return q, root
