"""Well-conditioned coordinates for the fit, and the way back to those of the data.

Predictors measured in years or in thousandths give cross products that lose digits and parameters of very different
size. The fit therefore works on orthogonal columns of unit mean square: X = Q R, every random term Z = Q R likewise,
and the residuals of least squares, scaled to unit mean square, in the place of y. Likelihood, estimates and degrees of
freedom are the same in any such coordinates; only the way to them is safer.

Prior weights w, with residuals of variance σ²/w, are ordinary residuals once every row of X, Z and y is multiplied by
√w. That is done here, so that everything behind sees rows of equal weight; the density of y takes ½ Σ log w in return.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array, hstack

from labutils.multilevel.matrices import Design, Grouping
from labutils.multilevel.orthogonal import Basis
from labutils.multilevel.products import Products

MANY, SPARSE = 100_000, 0.25  # numbers of Z_1'Z_o, and share of them that is filled, for which it stays sparse
EXACT = 1e-10  # of what the response varies by: residuals of least squares that count as none


@dataclass(frozen=True)
class Coordinates:
    """What leads back to the units of the data.

    Attributes:
        order: position in the design of every grouping factor, the eliminated one first.
        fixed_root: R of X = Q R.
        least_squares: coefficients of least squares, where the fit's coefficients start from.
        scale: root mean square of the residuals of least squares.
        random_roots: R of Z = Q R, in the order of `order`; block-diagonal over the random terms.
        log_weights: sum of the logarithms of the prior weights.
    """

    order: tuple[int, ...]
    fixed_root: Float[np.ndarray, "fixed fixed"]
    least_squares: Float[np.ndarray, " fixed"]
    scale: float
    random_roots: tuple[Float[np.ndarray, "_ _"], ...]
    log_weights: float = 0.0

    def coefficients(self, internal: Float[np.ndarray, " fixed"]) -> Float[np.ndarray, " fixed"]:
        """Fixed effects in the units of the data."""
        return self.least_squares + self.scale * np.linalg.solve(self.fixed_root, internal)

    def fixed_covariance(self, internal: Float[np.ndarray, "... fixed fixed"]) -> Float[np.ndarray, "... fixed fixed"]:
        """Covariances of fixed effects in the units of the data; leading axes are kept."""
        # X b = Q (R b): a covariance C of R b is R⁻¹ C R⁻¹' in b, times scale² since the response was divided by it.
        back = self.scale * np.linalg.inv(self.fixed_root)
        return back @ internal @ back.T

    def random_covariance(self, number: int, internal: Float[np.ndarray, "_ _"]) -> Float[np.ndarray, "_ _"]:
        """Covariance of the random coefficients of the factor `number` of `order`, in the units of the data."""
        back = self.scale * np.linalg.inv(self.random_roots[number])
        return back @ internal @ back.T

    def deviance_shift(self, n_rows: int, reml: bool) -> float:
        """What the change of coordinates adds to the deviance."""
        # n log s² from the response divided by s (n − p under REML), and log|X'V⁻¹X| = log|Q'V⁻¹Q| + 2 log|R|; the
        # density of y is that of √w·y times √w, row by row.
        n_fixed = len(self.least_squares)
        determinant = 2 * np.log(np.abs(np.diag(self.fixed_root))).sum()
        return float(2 * (n_rows - n_fixed * reml) * np.log(self.scale) + reml * determinant - self.log_weights)


def orthogonalise(design: Design) -> tuple[Products, Coordinates]:
    """Cross products in well-conditioned coordinates, and those coordinates.

    Raises:
        ValueError: the fixed effects reproduce the response exactly, or the grouping factors are too large together.
    """
    q, root = design.basis.q, design.basis.root
    # Q'Q = n I: least squares are R b = Q'y / n. Its residuals stand for y, as the likelihood only sees y − X b.
    # What lies along an intercept is taken off first, so that a response far from zero loses no digits.
    level = np.average(design.y, weights=design.weights) * design.basis.has_intercept
    y = design.weighted(design.y - level)
    internal = q.T @ y / design.n_rows
    residuals = y - q @ internal
    if design.basis.has_intercept:
        internal[0] += level * root[0, 0] / design.x[0, 0]
    scale = _root_mean_square(residuals)
    if scale <= max(EXACT * _root_mean_square(y), 4 * np.finfo(float).eps * np.abs(design.weighted(design.y)).max()):
        raise ValueError(f"The fixed effects reproduce {design.response!r} exactly: nothing is left to divide up.")
    least_squares = np.linalg.solve(root, internal)
    sizes = [grouping.n_coefficients for grouping in design.groupings]
    order = tuple(sorted(range(len(sizes)), key=lambda i: -sizes[i]))  # the largest is eliminated level by level
    groupings = [design.groupings[i] for i in order]
    _refuse_too_large(groupings)
    blocks = [_orthogonal_blocks(design.groupings[i], design.random_bases[i]) for i in order]
    columns, random_roots = zip(*blocks, strict=True)
    products = _cross_products(groupings, columns, q, residuals / scale)
    log_weights = 0.0 if design.weights is None else float(np.log(design.weights).sum())
    return products, Coordinates(order, root, least_squares, scale, random_roots, log_weights)


def _root_mean_square(values: Float[np.ndarray, " rows"]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _orthogonal_blocks(
    grouping: Grouping, bases: tuple[Basis, ...]
) -> tuple[Float[np.ndarray, "rows terms"], Float[np.ndarray, "terms terms"]]:
    """Q and R of one random term at a time, since the terms are to stay uncorrelated."""
    root = np.zeros((len(grouping.terms),) * 2)
    for block, basis in zip(grouping.blocks, bases, strict=True):
        root[block, block] = basis.root
    return bases[0].q if len(bases) == 1 else np.hstack([basis.q for basis in bases]), root


def _cross_products(
    groupings: list[Grouping],
    columns: tuple[Float[np.ndarray, "rows _"], ...],
    x: Float[np.ndarray, "rows fixed"],
    y: Float[np.ndarray, " rows"],
) -> Products:
    """The first of the groupings is the one to be eliminated."""
    # Z_j'Z_j and Z_j'[X, y] of the eliminated factor: sums over the rows of each level, never the whole block-diagonal
    # matrix. Where Z has the columns of X, its own sums are among those beside X.
    values, n_terms = columns[0], columns[0].shape[1]
    sides = [*values.T, *([] if values is x else x.T), y]
    sums = _level_sums(groupings[0], values, sides)
    own, cross = sums[:, :, :n_terms], sums[:, :, -1 - x.shape[1] :]
    dense = np.vstack([x.T, y]).T
    gram, between = dense.T @ dense, None
    if len(groupings) > 1:
        little = len(y) * max(grouping.n_coefficients for grouping in groupings) < MANY
        spread = _filled if little else _sparse  # of so little, full matrices are faster
        first, *others = [spread(grouping, each) for grouping, each in zip(groupings, columns, strict=True)]
        other = np.hstack(others) if little else hstack(others, format="csr")
        mixed, squares, inside = other.T @ dense, other.T @ other, first.T @ other
        gram = np.block([[squares if little else squares.toarray(), mixed], [mixed.T, gram]])
        size = inside.shape[0] * inside.shape[1]
        if not little and size >= MANY and inside.nnz <= SPARSE * size:
            between = csr_array(inside)
        else:
            inside = inside if little else inside.toarray()
            cross = np.concatenate([inside.reshape(*cross.shape[:2], -1), cross], axis=2)
    sizes = tuple((len(grouping.levels), len(grouping.terms)) for grouping in groupings)
    return Products(len(y), x.shape[1], sizes, own, cross, gram, between)


def _level_sums(
    grouping: Grouping, values: Float[np.ndarray, "rows terms"], sides: Sequence[Float[np.ndarray, " rows"]]
) -> Float[np.ndarray, "levels terms sides"]:
    """Sums over the rows of every level, of each of the values times each of the sides, which begin with the values."""
    n_levels, n_terms = len(grouping.levels), values.shape[1]
    found = np.empty((n_levels, n_terms, len(sides)))
    for i, each in enumerate(values.T):
        for j, side in enumerate(sides):
            mirrored = j < i
            found[:, i, j] = found[:, j, i] if mirrored else np.bincount(grouping.codes, each * side, n_levels)
    return found


def _filled(grouping: Grouping, values: Float[np.ndarray, "rows terms"]) -> Float[np.ndarray, "rows coefficients"]:
    """One row per row, one column per level and varying column."""
    n_rows, n_terms = values.shape
    found = np.zeros((n_rows, len(grouping.levels), n_terms))
    found[np.arange(n_rows), grouping.codes] = values
    return found.reshape(n_rows, -1)


def _sparse(grouping: Grouping, values: Float[np.ndarray, "rows terms"]) -> csr_array:
    """The same where most numbers are zero."""
    n_rows, n_terms = values.shape
    places = grouping.codes[:, None] * n_terms + np.arange(n_terms)
    ends = np.arange(0, values.size + 1, n_terms)
    return csr_array((values.ravel(), places.ravel(), ends), shape=(n_rows, grouping.n_coefficients))


def _refuse_too_large(groupings: list[Grouping], limit: int = 100_000_000) -> None:
    """All grouping factors but the first are kept as dense matrices."""
    sizes = [grouping.n_coefficients for grouping in groupings]
    others = sum(sizes[1:])
    if others * (others + sizes[0]) > limit:
        counts = ", ".join(f"{grouping.name!r} {size:,}" for grouping, size in zip(groupings, sizes, strict=True))
        raise ValueError(
            f"The grouping factors have too many random coefficients together ({counts}): all but the largest are kept "
            f"in dense matrices, of {limit:,} numbers at most."
        )
