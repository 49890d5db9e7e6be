"""A formula applied to data: the response, the fixed columns, and per grouping factor the varying columns.

Whatever would end in a number without meaning is refused here, before anything is fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from labutils.multilevel.coding import (
    CONSTANT_TOLERANCE,
    group_codes,
    numeric_values,
    read_column,
    read_factor,
    term_columns,
)
from labutils.multilevel.formula import Formula, RandomTerm
from labutils.multilevel.orthogonal import Basis, orthogonalise_columns

SIZES = (1e-70, 1e70)  # of a column's largest value: beyond, squares of what is computed overflow or vanish
OFFSET = 1e4  # a mean this many times what a column varies by costs digits in powers and products
DEPENDENCE_TOLERANCE = 1e-7  # what a column has of its own, relative to its length; R's tolerance for linear models


@dataclass(frozen=True)
class Grouping:
    """All random terms of one grouping factor.

    Attributes:
        name: the grouping column, or "a:b".
        levels: label of each level.
        codes: level of each row.
        terms: names of the varying columns.
        columns: their values; one random coefficient per column and level.
        blocks: how the columns are divided among random terms; correlations are free within a block and zero outside.
    """

    name: str
    levels: tuple
    codes: Int[np.ndarray, " rows"]
    terms: tuple[str, ...]
    columns: Float[np.ndarray, "rows terms"]
    blocks: tuple[slice, ...]

    @property
    def n_coefficients(self) -> int:
        return len(self.levels) * len(self.terms)

    @property
    def n_parameters(self) -> int:
        """Variances and covariances."""
        sizes = [block.stop - block.start for block in self.blocks]
        return sum(size * (size + 1) // 2 for size in sizes)


@dataclass(frozen=True)
class Design:
    """Response y = X b + Σ_f Z_f u_f + e: names and numbers, ready to be fitted."""

    formula: str
    response: str
    y: Float[np.ndarray, " rows"]
    terms: tuple[str, ...]
    x: Float[np.ndarray, "rows terms"]
    groupings: tuple[Grouping, ...]

    @property
    def n_rows(self) -> int:
        return len(self.y)

    @cached_property
    def basis(self) -> Basis:
        """Orthogonal columns in the place of `x`."""
        return orthogonalise_columns(self.x)

    @cached_property
    def random_bases(self) -> tuple[tuple[Basis, ...], ...]:
        """For every grouping factor, one of each of its blocks."""
        return tuple(tuple(self._basis(g.columns[:, block]) for block in g.blocks) for g in self.groupings)

    def _basis(self, columns: Float[np.ndarray, "rows terms"]) -> Basis:
        # Most often what varies are the fixed effects, or the intercept alone.
        return self.basis if np.array_equal(columns, self.x) else orthogonalise_columns(columns)

    @property
    def n_parameters(self) -> int:
        """Fixed effects, variances and covariances, and the residual variance."""
        return len(self.terms) + sum(grouping.n_parameters for grouping in self.groupings) + 1

    def with_response(self, y: Float[np.ndarray, " rows"]) -> "Design":
        """The same model for other values of the response."""
        return replace(self, y=y)

    def resampled(self, chosen: Int[np.ndarray, " drawn"]) -> "Design":
        """The data of the chosen levels of the only grouping factor; one chosen twice counts as two levels."""
        (grouping,) = self.groupings
        order = np.argsort(grouping.codes, kind="stable")
        ends = np.cumsum(np.bincount(grouping.codes, minlength=len(grouping.levels)))
        rows_of = np.split(order, ends[:-1])
        rows = np.concatenate([rows_of[level] for level in chosen])
        codes = np.repeat(np.arange(len(chosen)), [len(rows_of[level]) for level in chosen])
        levels = tuple(grouping.levels[level] for level in chosen)
        drawn = replace(grouping, levels=levels, codes=codes, columns=grouping.columns[rows])
        return replace(self, y=self.y[rows], x=self.x[rows], groupings=(drawn,))


def build_design(formula: Formula, data: pd.DataFrame) -> Design:
    """Apply a formula to data.

    Raises:
        LookupError: an unknown column or function.
        ValueError: missing or infinite values, a constant or collinear predictor, a constant response, fewer than two
            groups, or fewer rows than parameters.
    """
    if not isinstance(data, pd.DataFrame):
        raise ValueError(f"The data must be a pandas DataFrame, not {type(data).__name__}: pd.DataFrame(data).")
    _refuse_missing(formula, data)
    y = numeric_values(formula.response, data)
    _refuse_sizes(str(formula.response), y)
    if np.ptp(y) <= CONSTANT_TOLERANCE * np.abs(y).max():
        raise ValueError(f"The response {str(formula.response)!r} is constant: there is no variance to explain.")
    terms, x = term_columns(formula.fixed, data)
    if not terms:
        raise ValueError(f"The formula {formula.text!r} has no fixed effect: leave in the intercept at least.")
    for factor in formula.uncorrelated:
        if read_factor(factor, data).levels:
            raise ValueError(f"{str(factor)!r} is a category; left of '||' give numbers, as 0/1 columns of your own.")
    names = list(dict.fromkeys(random.group for random in formula.random))
    groupings = tuple(_grouping(name, [r for r in formula.random if r.group == name], data) for name in names)
    _refuse_same_names("fixed effects", terms)
    _refuse_same_names("grouping factors", [grouping.name for grouping in groupings])
    design = Design(formula.text, str(formula.response), y, terms, x, groupings)
    check_identified(design)
    return design


def check_identified(design: Design) -> None:
    """Can all parameters be told apart?

    Raises:
        ValueError: a column is a combination of others, two grouping factors are the same, or rows are too few.
    """
    n_fixed, n_all = len(design.terms), design.n_parameters
    if design.n_rows <= n_all:
        raise ValueError(
            f"{design.n_rows} rows for {n_all} parameters ({n_fixed} fixed effects, {n_all - n_fixed} variances and "
            "covariances): give more rows or a smaller model."
        )
    _refuse_dependent(design.terms, design.x, design.basis, f"fixed effects of {design.formula!r}")
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
            _refuse_dependent(grouping.terms[block], grouping.columns[:, block], basis, where)
        if grouping.n_coefficients >= design.n_rows:
            raise ValueError(
                f"{design.n_rows} rows for {grouping.n_coefficients} random coefficients ({len(grouping.terms)} for "
                f"each of {len(grouping.levels)} levels of {grouping.name!r}): the residual variance cannot be told "
                "from theirs, so give more rows or let less vary."
            )


def _refuse_missing(formula: Formula, data: pd.DataFrame) -> None:
    columns = {name: read_column(data, name) for name in formula.columns()}
    if data.empty:
        raise ValueError("The data have no rows.")
    missing = {name: int(column.isna().sum()) for name, column in columns.items() if column.isna().any()}
    if missing:
        counts = ", ".join(f"{name!r} in {count} rows" for name, count in missing.items())
        raise ValueError(f"Values are missing: {counts}. Leave those rows out: data.dropna(subset={list(missing)}).")


def _refuse_same_names(what: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Two {what} would be called {twice!r}: rename a column, so that they can be told apart.")


def _refuse_sizes(name: str, values: Float[np.ndarray, " rows"]) -> None:
    size = float(np.abs(values).max())
    if size and not SIZES[0] < size < SIZES[1]:
        raise ValueError(
            f"The values of {name!r} go up to {size:g}, which double precision cannot square: rescale them."
        )


def _refuse_dependent(
    names: tuple[str, ...], columns: Float[np.ndarray, "rows terms"], basis: Basis, what: str
) -> None:
    """Name the first column that the earlier ones already contain."""
    sizes = np.abs(columns).max(axis=0)
    if (sizes == 0).any():
        raise ValueError(f"{names[int(np.argmin(sizes))]!r} is zero in every row, in the {what}.")
    for name, values in zip(names, columns.T, strict=True):
        _refuse_sizes(name, values)
    if (basis.own >= DEPENDENCE_TOLERANCE).all():
        return
    first = int(np.flatnonzero(basis.own < DEPENDENCE_TOLERANCE)[0])
    unit = columns / sizes
    weights = np.linalg.lstsq(unit[:, :first], unit[:, first], rcond=None)[0]
    others = [name for name, weight in zip(names[:first], weights, strict=True) if abs(weight) > 1e-6]
    large = np.abs(columns.mean(axis=0)) > OFFSET * np.maximum(columns.std(axis=0), 1e-300)
    far = [name for name, offset in zip(names, large & (np.ptp(columns, axis=0) > 0), strict=True) if offset]
    advice = f" {far[0]!r} is large beside what it varies by: subtract its mean before it enters." if far else ""
    raise ValueError(
        f"The predictor {names[first]!r} is a linear combination of {', '.join(map(repr, others))} in the {what}: "
        f"their effects cannot be told apart, leave one out.{advice}"
    )


def _grouping(group: tuple[str, ...], random: list[RandomTerm], data: pd.DataFrame) -> Grouping:
    """All random terms of one grouping factor, put together and checked."""
    name = ":".join(group)
    codes, levels = group_codes(group, data)
    if len(levels) < 2:
        raise ValueError(f"The grouping factor {name!r} has one level only ({levels[0]!r}): at least two are needed.")
    coded = [term_columns(term.terms, data) for term in random]
    terms = tuple(term for names, _ in coded for term in names)
    twice = next((term for term in terms if terms.count(term) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} varies over {name!r} in two random terms: its variance would be there twice.")
    ends = np.cumsum([len(names) for names, _ in coded])
    blocks = tuple(slice(int(end) - len(names), int(end)) for end, (names, _) in zip(ends, coded, strict=True))
    columns = np.concatenate([columns for _, columns in coded], axis=1)
    return Grouping(name, tuple(levels), codes, terms, columns, blocks)
