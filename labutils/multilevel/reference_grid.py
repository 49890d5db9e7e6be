"""Marginal means: what a model predicts for levels of some factors, averaged evenly over those of all others.

A reference grid holds every combination of levels of the categories, with numbers at their mean (numbers with two
values only, such as 0/1 columns, at both). The predictions of the fixed effects on the grid, averaged evenly, are
linear in the coefficients, L b, so that their t-tests are those of any contrast (Searle, Speed & Milliken 1980, The
American Statistician 34(4), "population marginal means"). Grid and defaults are those of R's emmeans (Lenth).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from labutils.core.options import suggest
from labutils.multilevel.codebook import listed
from labutils.multilevel.model import MultilevelModel
from labutils.multilevel.multiplicity import adjusted_p

Rows = Float[np.ndarray, "means fixed"]


@dataclass(frozen=True)
class MarginalMeans:
    """Marginal means and the contrasts among them.

    Attributes:
        table: index, the levels; columns estimate, se, df (Satterthwaite), low, high: the interval of each by itself.
        by: columns of the index within whose levels contrasts are taken.
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
        weights = {}
        for one, other in combinations(range(len(self._labels[0])), 2):
            weights[f"{self._labels[0][one]} - {self._labels[0][other]}"] = {one: 1.0, other: -1.0}
        if not weights:
            raise ValueError(f"There is one mean only, {self._labels[0][0]!r}: nothing to compare it with.")
        return self._contrasts(weights, adjust, "pairs")

    def contrasts(self, weights: Mapping[str, Mapping[object, float | int]], *, adjust: str = "none") -> pd.DataFrame:
        """Weighted sums of means.

        >>> marginal_means(model, "recipe").contrasts({"A against the rest": {"A": 1, "B": -0.5, "C": -0.5}})

        Args:
            weights: name of each contrast → level → weight; levels of several factors are tuples.
            adjust: as for `pairs`; Tukey's is for pairs alone.

        Raises:
            LookupError: a level that has no mean.
            ValueError: an unknown adjustment.
        """
        if not weights:
            raise ValueError("No contrast is given: name → level → weight.")
        places = {level: place for place, level in enumerate(self._levels[0])}
        for level in (level for named in weights.values() for level in named):
            if level not in places:
                raise LookupError(f"There is no mean of {level!r}: there are {listed(list(places))}.")
        numbered = {
            name: {places[level]: float(weight) for level, weight in each.items()} for name, each in weights.items()
        }
        return self._contrasts(numbered, adjust, "contrasts")

    def _contrasts(self, weights: Mapping[str, Mapping[int, float]], adjust: str, kind: str) -> pd.DataFrame:
        tables, keys = [], list(dict.fromkeys(self._by_keys))
        matrix = np.zeros((len(weights), len(self._labels[0])))
        for row, named in zip(matrix, weights.values(), strict=True):
            row[list(named)] = list(named.values())
        for key in keys:
            chosen = [own == key for own in self._by_keys]
            table = self.model.test_rows(matrix @ self.rows[chosen], list(weights)).rename_axis("contrast")
            table["p"] = adjusted_p(table, adjust, kind, len(self._labels[0]))
            tables.append(table)
        found = pd.concat(tables, keys=keys, names=list(self.by)) if self.by else tables[0]
        compared = f"{len(weights)} {kind} of {len(self._labels[0])} means"
        found.attrs["note"] = f"p not adjusted for {compared}" if adjust == "none" else f"p by {adjust} for {compared}"
        return found

    @property
    def _by_keys(self) -> list[tuple]:
        """The level of `by` of every mean."""
        return list(zip(*(self.table.index.get_level_values(name) for name in self.by), strict=True)) or [()] * len(
            self.table
        )

    @property
    def _levels(self) -> list[list]:
        """The levels but those of `by`, for each level of `by`."""
        own = self.table.index.droplevel(list(self.by)) if self.by else self.table.index
        keys = self._by_keys
        return [[level for level, k in zip(own, keys, strict=True) if k == key] for key in dict.fromkeys(keys)]

    @property
    def _labels(self) -> list[list[str]]:
        return [[_label(level) for level in levels] for levels in self._levels]


def marginal_means(
    model: MultilevelModel,
    factors: str | Sequence[str],
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Sequence] | None = None,
    level: float = 0.95,
) -> MarginalMeans:
    """Marginal means of the levels of some factors, on the scale of the response as the model has it.

    >>> means = marginal_means(fit_multilevel("angle ~ recipe * temp + (1 | recipe:replicate)", cake), "recipe")
    >>> means.table, means.pairs()

    Args:
        factors: columns of the fixed effects; of several, their combinations.
        by: further columns, within whose levels means are compared with one another.
        at: column → values it is held at, in the place of its levels or its mean: `at={"Days": [0, 9]}`.
        level: of the intervals.

    Raises:
        LookupError: a column that the fixed effects do not hold.
        ValueError: a level that the model does not know, no factor, or a level of intervals outside (0, 1).
    """
    named = [factors] if isinstance(factors, str) else list(factors)
    within = [by] if isinstance(by, str) else list(by)
    held = {name: tuple(values) for name, values in (at or {}).items()}
    known = model.design.codebook.values
    for name in [*named, *within, *held]:
        if name not in known:
            raise LookupError(f"{name!r} is no column of the fixed effects.{suggest(name, known)} {', '.join(known)}.")
    if not named or len({*named, *within}) < len(named) + len(within):
        raise ValueError(f"factors={named}, by={within}: name at least one factor, and each only once.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1.")
    values = {name: held.get(name, own) for name, own in known.items()}
    empty = [name for name, own in values.items() if not own]
    if empty:
        raise ValueError(f"at={{{empty[0]!r}: []}} leaves no value to hold {empty[0]!r} at.")
    index, rows = _averaged(model, [*within, *named], values)
    table = model.test_rows(rows, list(map(str, range(len(rows))))).set_index(index)[["estimate", "se", "df"]]
    half = table["se"] * student.ppf((1 + level) / 2, table["df"])
    table = table.assign(low=table["estimate"] - half, high=table["estimate"] + half)
    return MarginalMeans(table, tuple(within), model, rows)


def _averaged(model: MultilevelModel, names: list[str], values: Mapping[str, tuple]) -> tuple[pd.Index, Rows]:
    """The levels of some columns, and L: the rows of the grid at each of them, averaged."""
    others = [name for name in values if name not in names]
    order = [*names, *others]  # the averaged columns vary fastest
    grid = pd.DataFrame(list(product(*(values[name] for name in order))), columns=order)
    rows = model.design.codebook.fixed_columns(grid)
    counts = [len(values[name]) for name in names]
    averaged = rows.reshape(int(np.prod(counts)), -1, rows.shape[1]).mean(axis=1)
    if len(names) == 1:
        return pd.Index(list(values[names[0]]), name=names[0]), averaged
    return pd.MultiIndex.from_product([values[name] for name in names], names=names), averaged


def _label(level: object) -> str:
    return " ".join(map(str, level)) if isinstance(level, tuple) else str(level)
