"""Marginal means: what a model predicts for levels of some factors, averaged evenly over those of all others.

A reference grid holds every combination of levels of the categories, with numbers at their mean (numbers with two
values only, such as 0/1 columns, at both). The predictions of the fixed effects on the grid, averaged evenly, are
linear in the coefficients, L b, so that their t-tests are those of any contrast (Searle, Speed & Milliken 1980, The
American Statistician 34(4), "population marginal means"). Grid and defaults are those of R's emmeans (Lenth).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from labutils.core.options import suggest
from labutils.multilevel.codebook import listed
from labutils.multilevel.model import MultilevelModel
from labutils.multilevel.multiplicity import adjusted_p

MOST_ROWS = 1_000_000
Rows = Float[np.ndarray, "means fixed"]


@dataclass(frozen=True)
class MarginalMeans:
    """Marginal means and the contrasts among them.

    Attributes:
        table: index, the levels; columns estimate, se, df (Satterthwaite), low, high: the interval of each by itself.
        by: columns of the index, its first, within whose levels contrasts are taken.
    """

    table: pd.DataFrame
    by: tuple[str, ...]
    model: MultilevelModel = field(repr=False)
    rows: Rows = field(repr=False)

    def pairs(self, *, adjust: str = "tukey") -> pd.DataFrame:
        """All differences of two means, an earlier one minus a later one, with t-tests.

        >>> marginal_means(model, "recipe").pairs(adjust="holm")

        Args:
            adjust: how p-values count the number of comparisons: "tukey" (all pairs of means, Tukey & Kramer), "holm",
                "bonferroni", "sidak" or "none". With `by`, a family is the comparisons at one level of it.

        Returns:
            index `contrast` (with `by` before it); columns estimate, se, df, t, p (two-sided, adjusted).
            `attrs["note"]` says how they were adjusted.

        Raises:
            ValueError: an unknown adjustment, or a single mean.
        """
        labels = [" ".join(map(str, level)) if isinstance(level, tuple) else str(level) for level in self._levels]
        pairs = list(combinations(range(len(labels)), 2))
        if not pairs:
            raise ValueError(f"There is one mean only, {labels[0]!r}: nothing to compare it with.")
        matrix = np.zeros((len(pairs), len(labels)))
        for row, (one, other) in zip(matrix, pairs, strict=True):
            row[one], row[other] = 1.0, -1.0
        return self._contrasts([f"{labels[one]} - {labels[other]}" for one, other in pairs], matrix, adjust, "pairs")

    def contrasts(self, weights: Mapping[str, Mapping[object, float | int]], *, adjust: str = "none") -> pd.DataFrame:
        """Weighted sums of means.

        >>> marginal_means(model, "recipe").contrasts({"A against the rest": {"A": 1, "B": -0.5, "C": -0.5}})

        Args:
            weights: name of each contrast → level → weight; levels of several factors are tuples.
            adjust: as for `pairs`; Tukey's is for pairs alone.

        Returns:
            as `pairs`.

        Raises:
            LookupError: a level that has no mean.
            ValueError: no contrast, or an unknown adjustment.
        """
        if not weights:
            raise ValueError("No contrast is given: name → level → weight.")
        for level in (level for named in weights.values() for level in named):
            if level not in self._levels:
                raise LookupError(f"There is no mean of {level!r}: there are {listed(self._levels)}.")
        matrix = np.array([[float(named.get(level, 0.0)) for level in self._levels] for named in weights.values()])
        return self._contrasts(list(weights), matrix, adjust, "contrasts")

    @cached_property
    def _levels(self) -> list:
        """The levels but those of `by`, which vary most slowly: the same for each of these."""
        own = self.table.index.droplevel(list(self.by)) if self.by else self.table.index
        return list(dict.fromkeys(own))

    def _contrasts(
        self, names: list[str], matrix: Float[np.ndarray, "contrasts levels"], adjust: str, kind: str
    ) -> pd.DataFrame:
        """The contrasts among the means at each level of `by`, a family of its own."""
        tables, size = [], len(self._levels)
        for start in range(0, len(self.table), size):
            table = self.model.test_rows(matrix @ self.rows[start : start + size], names).rename_axis("contrast")
            tables.append(table.assign(p=adjusted_p(table, adjust, kind, size)))
        keys = [level[: len(self.by)] for level in self.table.index[::size]] if self.by else []
        found = pd.concat(tables, keys=keys, names=list(self.by)) if self.by else tables[0]
        compared = f"{len(names)} {kind} of {size} means"
        found.attrs["note"] = f"p not adjusted for {compared}" if adjust == "none" else f"p by {adjust} for {compared}"
        return found


def marginal_means(
    model: MultilevelModel,
    factors: str | Sequence[str],
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, object | Sequence] | None = None,
    level: float = 0.95,
) -> MarginalMeans:
    """Marginal means of the levels of some factors, on the scale of the response as the model has it.

    >>> means = marginal_means(fit_multilevel("angle ~ recipe * temp + (1 | recipe:replicate)", cake), "recipe")
    >>> means.table, means.pairs()

    Args:
        factors: columns of the fixed effects; of several, their combinations.
        by: further columns, within whose levels means are compared with one another.
        at: column → values (or one) that it is held at, in the place of its levels or mean: `at={"Days": [0, 9]}`.
        level: of the intervals.

    Raises:
        LookupError: a column that the fixed effects do not hold.
        ValueError: a level that the model does not know, no factor, or a level of intervals outside (0, 1).
    """
    named = [factors] if isinstance(factors, str) else list(factors)
    within = [by] if isinstance(by, str) else list(by)
    values = _grid_values(model.design.codebook.values, [*named, *within], at or {})
    if not named or len({*named, *within}) < len(named) + len(within):
        raise ValueError(f"factors={named}, by={within}: name at least one factor, and each only once.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1.")
    index, rows = _averaged(model, [*within, *named], values)
    table = model.test_rows(rows, list(map(str, range(len(rows))))).set_index(index)[["estimate", "se", "df"]]
    half = table["se"] * student.ppf((1 + level) / 2, table["df"])
    table = table.assign(low=table["estimate"] - half, high=table["estimate"] + half)
    return MarginalMeans(table, tuple(within), model, rows)


def _grid_values(
    known: Mapping[str, tuple], named: Sequence[str], at: Mapping[str, object | Sequence]
) -> dict[str, tuple]:
    """What every column of the fixed effects is held at."""
    for name in [*named, *at]:
        if name not in known:
            raise LookupError(f"{name!r} is no column of the fixed effects.{suggest(name, known)} {', '.join(known)}.")
    held = {name: tuple(dict.fromkeys([each] if np.isscalar(each) else each)) for name, each in at.items()}
    empty = [name for name, own in held.items() if not own]
    if empty:
        raise ValueError(f"at={{{empty[0]!r}: []}} leaves no value to hold {empty[0]!r} at.")
    values = {**known, **held}
    size = math.prod(map(len, values.values()))
    if size > MOST_ROWS:
        raise ValueError(f"The grid has {size:,} rows, of {MOST_ROWS:,} at most: hold factors at fewer values by `at`.")
    return values


def _averaged(model: MultilevelModel, names: list[str], values: Mapping[str, tuple]) -> tuple[pd.Index, Rows]:
    """The levels of some columns, and L: the rows of the grid at each of them, averaged."""
    others = [name for name in values if name not in names]
    order = [*names, *others]  # the averaged columns vary fastest
    grid = pd.DataFrame(list(product(*(values[name] for name in order))), columns=order)
    rows = model.design.codebook.fixed_columns(grid)
    counts = [len(values[name]) for name in names]
    averaged = rows.reshape(math.prod(counts), -1, rows.shape[1]).mean(axis=1)
    if len(names) == 1:
        return pd.Index(list(values[names[0]]), name=names[0]), averaged
    return pd.MultiIndex.from_product([values[name] for name in names], names=names), averaged
