"""Cross products of a model's columns, all that its deviance needs of the data, and what a solution is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Products:
    """Cross products of the columns, all that the deviance needs of the data.

    Attributes:
        n_rows, n_fixed: rows, and columns of X.
        sizes: (levels, columns) of every grouping factor, the eliminated one first.
        own: Z_j'Z_j of every level j of the eliminated factor.
        cross: Z_j'[Z_other, X, y] of every level; [X, y] alone where `between` is given.
        gram: [Z_other, X, y]'[Z_other, X, y].
        between: Z_eliminated'Z_other, where few of its numbers are not zero.
    """

    n_rows: int
    n_fixed: int
    sizes: tuple[tuple[int, int], ...]
    own: Float[np.ndarray, "levels terms terms"]
    cross: Float[np.ndarray, "levels terms columns"]
    gram: Float[np.ndarray, "rest rest"]
    between: csr_array | None = None

    @cached_property
    def levels_last(self) -> Float[np.ndarray, "terms all levels"]:
        """`own` and `cross` side by side, the levels along the last axis."""
        return np.ascontiguousarray(np.concatenate([self.own, self.cross], axis=2).transpose(1, 2, 0))

    @cached_property
    def own_sum(self) -> Float[np.ndarray, "terms terms"]:
        """Z'Z of the eliminated factor, summed over its levels."""
        return self.own.sum(0)

    def dense(self) -> "Products":
        """The same with `between` as part of `cross`."""
        if self.between is None:
            return self
        levels, terms, _ = self.cross.shape
        between = self.between.toarray().reshape(levels, terms, -1)
        return replace(self, cross=np.concatenate([between, self.cross], axis=2), between=None)


@dataclass(frozen=True)
class Solution:
    """What one choice of the factors Λ gives; the lists hold one entry per grouping factor.

    Attributes:
        log_det_v, log_det_x: log|V|, log|X'V⁻¹X|.
        r2: y'Py, the residual sum of squares in the metric V⁻¹.
        coefficients: generalised least squares estimate of b.
        information_root: lower Cholesky factor of X'V⁻¹X.
        scores: Z_j'Py of every level.
        information: Σ_j Z_j'V⁻¹Z_j.
        projected: Σ_j Z_j'PZ_j.
    """

    log_det_v: float
    log_det_x: float
    r2: float
    coefficients: Float[np.ndarray, " fixed"]
    information_root: Float[np.ndarray, "fixed fixed"]
    scores: list[Float[np.ndarray, "_ _"]]
    information: list[Float[np.ndarray, "_ _"]]
    projected: list[Float[np.ndarray, "_ _"]]


def beside_fixed(products: Products) -> list[Float[np.ndarray, "_ _"]]:
    """Σ_j Z_j'PZ_j of every grouping factor where there are no random effects: what of Z_j lies beside X.

    The columns of X are orthogonal, X'X = n I, so that P = I − XX'/n.
    """
    fixed, sizes = slice(-1 - products.n_fixed, -1), products.sizes[1:]
    rows = [products.cross[..., fixed].reshape(-1, products.n_fixed)]
    rows += [part[:, fixed] for part in split_rows(products.gram, sizes)]
    squares = [products.own, *diagonal_blocks(products.gram, sizes)]
    inside = [part.reshape(*size, -1) for part, size in zip(rows, products.sizes, strict=True)]
    return [
        own.sum(0) - np.einsum("jap,jbp->ab", part, part) / products.n_rows
        for own, part in zip(squares, inside, strict=True)
    ]


def split_rows(
    matrix: Float[np.ndarray, "rest columns"], sizes: Sequence[tuple[int, int]]
) -> list[Float[np.ndarray, "_ columns"]]:
    """The rows of each grouping factor that was not eliminated."""
    ends = accumulate(levels * terms for levels, terms in sizes)
    return [matrix[end - levels * terms : end] for end, (levels, terms) in zip(ends, sizes, strict=True)]


def diagonal_blocks(
    matrix: Float[np.ndarray, "rest rest"], sizes: Sequence[tuple[int, int]]
) -> list[Float[np.ndarray, "_ _ _"]]:
    """The square blocks of every level along the diagonal, for each grouping factor that was not eliminated."""
    found, start = [], 0
    for levels, terms in sizes:
        places = start + np.arange(levels * terms).reshape(levels, terms)
        found.append(matrix[places[:, :, None], places[:, None, :]])
        start += levels * terms
    return found


def scaled_rows(
    matrix: Float[np.ndarray, "rest columns"],
    factors: Sequence[Float[np.ndarray, "_ _"]],
    sizes: Sequence[tuple[int, int]],
) -> Float[np.ndarray, "rest columns"]:
    """Λ' times the rows of every grouping factor that was not eliminated; the rows of X and y stay."""
    if not factors:
        return matrix
    result = matrix.copy()
    for rows, factor, (levels, terms) in zip(split_rows(result, sizes), factors, sizes, strict=True):
        if terms == 1:
            rows *= factor.item()
        else:
            rows[:] = (factor.T @ rows.reshape(levels, terms, -1)).reshape(rows.shape)
    return result


def row_scaling(
    factors: Sequence[Float[np.ndarray, "_ _"]], sizes: Sequence[tuple[int, int]], n_rows: int
) -> Callable[[np.ndarray], np.ndarray]:
    """`scaled_rows` of one matrix after the other: by one number a row where all factors have one column."""
    if not sizes or any(terms > 1 for _, terms in sizes):
        return lambda matrix: scaled_rows(matrix, factors, sizes)
    shares, start = np.ones((n_rows, 1)), 0
    for factor, (levels, _) in zip(factors, sizes, strict=True):
        shares[start : start + levels] = factor.item()
        start += levels
    return lambda matrix: shares * matrix
