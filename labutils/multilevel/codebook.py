"""How a model coded its data, so that new data get columns of the same meaning.

A category keeps the levels, and the base level, of the data that the model was fitted to; `center` and `scale` keep
their mean and standard deviation; a new row belongs to the group of the same labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from labutils.multilevel.coding import (
    OF_THE_DATA,
    TermFactor,
    category_column,
    column_levels,
    group_codes,
    numeric_values,
    read_column,
    refuse_missing,
    term_columns,
)
from labutils.multilevel.formula import Formula, Term
from labutils.multilevel.syntax import Node

MOST_NAMED = 10  # levels that a message names


@dataclass(frozen=True)
class Codebook:
    """A formula and the columns that it was applied to."""

    formula: Formula
    columns: Mapping[str, pd.Series] = field(repr=False)

    @classmethod
    def of(cls, formula: Formula, data: pd.DataFrame) -> "Codebook":
        return cls(formula, {name: read_column(data, name).copy() for name in formula.columns()})

    @cached_property
    def data(self) -> pd.DataFrame:
        """The columns as a frame, made when it is asked for: few models are."""
        return pd.DataFrame(dict(self.columns))

    @cached_property
    def moments(self) -> dict[Node, tuple[float, float]]:
        """Mean and standard deviation (n − 1) of what stands inside every `center` and `scale`."""
        terms = [*self.formula.fixed, *(term for random in self.formula.random for term in random.terms)]
        calls = {node for term in terms for factor in term for node in _nodes(factor) if node.text in OF_THE_DATA}
        inside = {call: numeric_values(call.parts[0], self.data) for call in calls if call.kind == "call"}
        return {call: (float(x.mean()), float(x.std(ddof=1))) for call, x in inside.items()}

    @cached_property
    def values(self) -> dict[str, tuple]:
        """What a reference grid holds of every column of the fixed effects.

        The levels of a category; the mean of a number, but both values where there are only two, as emmeans does.
        """
        factors = {factor for term in self.formula.fixed for factor in term}
        categories = {column for column in map(self._category, factors) if column}
        names = dict.fromkeys(name for term in self.formula.fixed for factor in term for name in factor.columns())
        return {name: self._values(name, name in categories) for name in names}

    def fixed_columns(self, data: pd.DataFrame) -> Float[np.ndarray, "rows terms"]:
        """The columns of the fixed effects for new data.

        Raises:
            LookupError: a column is not there.
            ValueError: values are missing or not finite, or a category has a level that the model does not know.
        """
        return self._columns(self.formula.fixed, data)

    def varying_columns(self, group: Sequence[str], data: pd.DataFrame) -> Float[np.ndarray, "rows terms"]:
        """The columns that vary over the grouping factor of these columns, for new data; raises as `fixed_columns`."""
        parts = [self._columns(each.terms, data) for each in self.formula.random if each.group == tuple(group)]
        return np.concatenate(parts, axis=1)

    def group_numbers(self, group: Sequence[str], data: pd.DataFrame) -> tuple[Int[np.ndarray, " rows"], list]:
        """The level of every new row, −1 where the model does not know it; and the levels of the fitted data.

        Raises:
            LookupError, ValueError: a column is not there, or values are missing.
        """
        refuse_missing(group, data)
        codes, levels = group_codes(group, self.data)
        known, asked = [], []
        for name in group:  # labels of several columns are compared one by one
            of_column = column_levels(self.data[name])
            known.append(_positions(of_column, self.data[name]))
            asked.append(_positions(of_column, read_column(data, name)))
        pairs = pd.MultiIndex.from_arrays(known).to_frame(index=False).groupby(codes).first()
        numbers = pd.MultiIndex.from_frame(pairs).get_indexer(pd.MultiIndex.from_arrays(asked))
        return numbers.astype(np.int64), levels

    def _columns(self, terms: Sequence[Term], data: pd.DataFrame) -> Float[np.ndarray, "rows terms"]:
        refuse_missing([name for term in terms for factor in term for name in factor.columns()], data)
        return term_columns(terms, data, self._read)[1]

    def _category(self, factor: Node) -> str | None:
        """The column that a factor makes a category of; None for numbers."""
        return category_column(factor, self.data)

    def _read(self, factor: Node, data: pd.DataFrame) -> TermFactor:
        """As `coding.read_factor`, for new data."""
        name = self._category(factor)
        if name is None:
            return TermFactor(str(factor), numeric_values(factor, data, self.moments)[:, None])
        levels, column = column_levels(self.data[name]), read_column(data, name)
        codes = _positions(levels, column)
        if (codes < 0).any():
            new = list(dict.fromkeys(column[codes < 0]))
            raise ValueError(
                f"The model knows no level {listed(new)} of {name!r}, so that it has no effect for it: it was fitted "
                f"with {listed(levels)}."
            )
        return TermFactor(str(factor), np.eye(len(levels))[codes], tuple(map(str, levels)))

    def _values(self, name: str, category: bool) -> tuple:
        if category:
            return tuple(column_levels(self.data[name]))
        numbers = self.data[name].to_numpy(dtype=float)
        low, high = float(numbers.min()), float(numbers.max())
        return (low, high) if ((numbers == low) | (numbers == high)).all() else (float(numbers.mean()),)


def _positions(levels: list, column: pd.Series) -> Int[np.ndarray, " rows"]:
    return pd.Index(levels, dtype=object).get_indexer(column.astype(object))


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts:
        yield from _nodes(part)


def listed(levels: list) -> str:
    """Some levels, for a message."""
    more = f" and {len(levels) - MOST_NAMED} more" if len(levels) > MOST_NAMED else ""
    return ", ".join(repr(level) for level in levels[:MOST_NAMED]) + more
