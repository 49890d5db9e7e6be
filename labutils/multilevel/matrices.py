"""The matrices of a model: response, fixed columns, and per grouping factor the varying columns and their levels."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from labutils.multilevel.codebook import Codebook
from labutils.multilevel.orthogonal import Basis, orthogonalise_columns


@dataclass(frozen=True)
class Grouping:
    """All random terms of one grouping factor.

    Attributes:
        name: the grouping column, or "a:b".
        group: the columns it is made of.
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
    group: tuple[str, ...] = ()

    @property
    def n_coefficients(self) -> int:
        return len(self.levels) * len(self.terms)

    @property
    def n_parameters(self) -> int:
        """Variances and covariances."""
        sizes = [block.stop - block.start for block in self.blocks]
        return sum(size * (size + 1) // 2 for size in sizes)

    def at_rows(self, rows: Int[np.ndarray, " chosen"]) -> "Grouping":
        """The chosen rows, and the levels that are left."""
        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        return replace(self, levels=tuple(self.levels[i] for i in kept), codes=codes, columns=self.columns[rows])


@dataclass(frozen=True)
class Design:
    """Response y = X b + Σ_f Z_f u_f + e: names and numbers, ready to be fitted.

    Attributes:
        weights: prior weights w, with which the residual variance of a row is σ²/w; None where all are one.
        codebook: how new data are to be coded so that they mean the same.
    """

    formula: str
    response: str
    y: Float[np.ndarray, " rows"]
    terms: tuple[str, ...]
    x: Float[np.ndarray, "rows terms"]
    groupings: tuple[Grouping, ...]
    weights: Float[np.ndarray, " rows"] | None = None
    codebook: Codebook | None = None

    @property
    def n_rows(self) -> int:
        return len(self.y)

    @cached_property
    def basis(self) -> Basis:
        """Orthogonal columns in the place of `x`, its rows weighted."""
        return orthogonalise_columns(self.x, self._roots)

    @cached_property
    def _roots(self) -> Float[np.ndarray, " rows"] | None:
        return None if self.weights is None else np.sqrt(self.weights)

    def weighted(self, values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """√w times every value: residuals so weighted all have the variance σ²."""
        return values if self._roots is None else self._roots * values

    @cached_property
    def random_bases(self) -> tuple[tuple[Basis, ...], ...]:
        """For every grouping factor, one of each of its blocks."""
        return tuple(tuple(self._basis(g.columns[:, block]) for block in g.blocks) for g in self.groupings)

    def _basis(self, columns: Float[np.ndarray, "rows terms"]) -> Basis:
        # Most often what varies are the fixed effects, or the intercept alone.
        same = columns.shape == self.x.shape and np.array_equal(columns, self.x)
        return self.basis if same else orthogonalise_columns(columns, self._roots)

    @property
    def n_parameters(self) -> int:
        """Fixed effects, variances and covariances, and the residual variance."""
        return len(self.terms) + sum(grouping.n_parameters for grouping in self.groupings) + 1

    def with_response(self, y: Float[np.ndarray, " rows"]) -> "Design":
        """The same model for other values of the response."""
        return replace(self, y=y)

    def at_rows(self, rows: Int[np.ndarray, " chosen"], groupings: tuple[Grouping, ...]) -> "Design":
        """The chosen rows, with grouping factors that were brought to them already."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, y=self.y[rows], x=self.x[rows], weights=weights, groupings=groupings)

    def without(self, name: str, level: int) -> "Design":
        """The rows that do not belong to a level of the grouping factor `name`; levels that this empties are gone."""
        grouping = next(grouping for grouping in self.groupings if grouping.name == name)
        rows = np.flatnonzero(grouping.codes != level)
        return self.at_rows(rows, tuple(each.at_rows(rows) for each in self.groupings))

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
        return self.at_rows(rows, (drawn,))
