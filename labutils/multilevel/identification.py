"""Whether the parameters of a design can be told apart, before anything is fitted."""

from itertools import combinations

import numpy as np
from jaxtyping import Float

from labutils.multilevel.matrices import Design
from labutils.multilevel.orthogonal import Basis

SIZES = (1e-70, 1e70)  # of a column's largest value: beyond, squares of what is computed overflow or vanish
OFFSET = 1e4  # a mean this many times what a column varies by costs digits in powers and products
DEPENDENCE_TOLERANCE = 1e-7  # what a column has of its own, relative to its length; R's tolerance for linear models


def check_identified(design: Design) -> None:
    """Can all parameters be told apart?

    Raises:
        ValueError: a grouping factor has one level, a column is a combination of others, two grouping factors are the
            same, or rows are too few.
    """
    for grouping in design.groupings:
        if len(grouping.levels) < 2:
            raise ValueError(
                f"The grouping factor {grouping.name!r} has one level only ({grouping.levels[0]!r}): at least two are "
                "needed."
            )
    n_fixed, n_all = len(design.terms), design.n_parameters
    if design.n_rows <= n_all:
        raise ValueError(
            f"{design.n_rows} rows for {n_all} parameters ({n_fixed} fixed effects, {n_all - n_fixed} variances and "
            "covariances): give more rows or a smaller model."
        )
    _refuse_dependent(design.terms, design.x, design.basis, f"fixed effects of {design.formula!r}", design.weights)
    for one, other in combinations(design.groupings, 2):
        pairs = np.unique(one.codes * len(other.levels) + other.codes)
        if len(pairs) == len(one.levels) == len(other.levels):
            raise ValueError(
                f"The grouping factors {one.name!r} and {other.name!r} divide the rows in the same way: their "
                "variances cannot be told apart, leave one out."
            )
    for grouping, bases in zip(design.groupings, design.random_bases, strict=True):
        for block, basis in zip(grouping.blocks, bases, strict=True):
            where = f"random terms of {grouping.name!r}"
            if basis is not design.basis:  # what the fixed effects have was looked at already
                _refuse_dependent(grouping.terms[block], grouping.columns[:, block], basis, where, design.weights)
        if grouping.n_coefficients >= design.n_rows:
            raise ValueError(
                f"{design.n_rows} rows for {grouping.n_coefficients} random coefficients ({len(grouping.terms)} for "
                f"each of {len(grouping.levels)} levels of {grouping.name!r}): the residual variance cannot be told "
                "from theirs, so give more rows or let less vary."
            )


def refuse_sizes(name: str, values: Float[np.ndarray, " rows"]) -> None:
    """Values whose squares double precision does not hold."""
    _refuse_size(name, float(np.abs(values).max()))


def _refuse_size(name: str, size: float) -> None:
    if size and not SIZES[0] < size < SIZES[1]:
        raise ValueError(
            f"The values of {name!r} go up to {size:g}, which double precision cannot square: rescale them."
        )


def _refuse_dependent(
    names: tuple[str, ...],
    columns: Float[np.ndarray, "rows terms"],
    basis: Basis,
    what: str,
    weights: Float[np.ndarray, " rows"] | None,
) -> None:
    """Name the first column that the earlier ones already contain."""
    sizes = np.abs(columns).max(axis=0)
    if (sizes == 0).any():
        raise ValueError(f"{names[int(np.argmin(sizes))]!r} is zero in every row, in the {what}.")
    for name, size in zip(names, sizes, strict=True):
        _refuse_size(name, float(size))
    if (basis.own >= DEPENDENCE_TOLERANCE).all():
        return
    first = int(np.flatnonzero(basis.own < DEPENDENCE_TOLERANCE)[0])
    unit = columns / sizes
    unit = unit if weights is None else unit * np.sqrt(weights / weights.max())[:, None]
    shares = np.linalg.lstsq(unit[:, :first], unit[:, first], rcond=None)[0]
    others = [name for name, share in zip(names[:first], shares, strict=True) if abs(share) > 1e-6]
    large = np.abs(columns.mean(axis=0)) > OFFSET * np.maximum(columns.std(axis=0), 1e-300)
    far = [name for name, offset in zip(names, large & (np.ptp(columns, axis=0) > 0), strict=True) if offset]
    advice = f" {far[0]!r} is large beside what it varies by: subtract its mean before it enters." if far else ""
    raise ValueError(
        f"The predictor {names[first]!r} is a linear combination of {', '.join(map(repr, others))} in the {what}: "
        f"their effects cannot be told apart, leave one out.{advice}"
    )
