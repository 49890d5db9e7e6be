"""From the terms of a formula to columns of numbers: functions of columns, and treatment coding of categories."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from labutils.core.options import suggest
from labutils.multilevel.formula import INTERCEPT, Term, term_name
from labutils.multilevel.syntax import Node

Numbers = Float[np.ndarray, " rows"]
Moments = Mapping[Node, tuple[float, float]]
CONSTANT_TOLERANCE = 1e-12  # spread relative to the largest value, below which a predictor counts as constant

FUNCTIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "I": lambda x: x,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "center": lambda x: x - x.mean(),
    "scale": lambda x: (x - x.mean()) / x.std(ddof=1),
}
MANY = 1000  # rows of text from which pandas divides them into levels faster than numpy
CATEGORY = "C"
OF_THE_DATA = ("center", "scale")  # their values depend on the other rows too
_ARITHMETIC: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power,
}  # fmt: skip
_NUMERIC = ("integer", "floating", "mixed-integer-float", "decimal")
_CATEGORICAL = ("string", "categorical", "boolean")
_SINCE_FIRST = " Take seconds since the first: (times - times.min()).dt.total_seconds()."
_AS_NUMBERS = {"datetime64": _SINCE_FIRST, "datetime": _SINCE_FIRST, "timedelta64": " Take .dt.total_seconds()."}


@dataclass(frozen=True)
class TermFactor:
    """One factor of a term. A number has one column of `values`; a category one 0/1 column per level, the first too."""

    name: str
    values: Float[np.ndarray, "rows columns"]
    levels: tuple[str, ...] = ()

    def coded(self, full: bool) -> "TermFactor":
        """Treatment coding: without the column of the first level, unless `full`."""
        return self if full or not self.levels else TermFactor(self.name, self.values[:, 1:], self.levels[1:])

    def labels(self) -> list[str]:
        return [f"{self.name}{level}" for level in self.levels] or [self.name]


def read_column(data: pd.DataFrame, name: str) -> pd.Series:
    """One column of the data, by its name, or by how its name is written where that is no text: "7" is the column 7.

    Raises:
        LookupError: there is no such column; the message names the nearest.
        ValueError: the name is that of several columns.
    """
    if data.columns.is_unique and name in data.columns:
        return data[name]
    written = [str(label) for label in data.columns]
    places = [i for i, label in enumerate(data.columns) if isinstance(label, str) and label == name]
    places = places or [i for i, label in enumerate(written) if label == name]
    if not places:
        raise LookupError(f"The data have no column {name!r}.{suggest(name, written)} They have {', '.join(written)}.")
    if len(places) > 1:
        raise ValueError(f"{len(places)} columns are called {name!r}: give each a name of its own.")
    return data.iloc[:, places[0]]


def refuse_missing(names: Sequence[str], data: pd.DataFrame) -> None:
    """No value of these columns may be missing.

    Raises:
        LookupError: there is no such column.
        ValueError: the data are no frame or have no rows, or values are missing.
    """
    if not isinstance(data, pd.DataFrame):
        raise ValueError(f"The data must be a pandas DataFrame, not {type(data).__name__}: pd.DataFrame(data).")
    columns = {name: read_column(data, name) for name in names}
    if data.empty:
        raise ValueError("The data have no rows.")
    missing = {name: int(column.isna().sum()) for name, column in columns.items() if column.array.isna().any()}
    if missing:
        counts = ", ".join(f"{name!r} in {count} rows" for name, count in missing.items())
        raise ValueError(f"Values are missing: {counts}. Leave those rows out: data.dropna(subset={list(missing)}).")


def read_factor(node: Node, data: pd.DataFrame) -> TermFactor:
    """The values of a column, or of a function of columns.

    Raises:
        ValueError: constant, infinite, of a type without coding, or not to be computed.
        LookupError: an unknown column or function.
    """
    if category_column(node, data) is not None:
        return _category(str(node), node.parts[0] if node.parts else node, data)
    values = numeric_values(node, data)
    if np.ptp(values) <= CONSTANT_TOLERANCE * np.abs(values).max():
        raise ValueError(
            f"The predictor {str(node)!r} is constant ({values[0]:g} in all {len(values)} rows, but for what may be "
            "rounding), so its effect cannot be told from the intercept: leave it out, or subtract its mean before it "
            "is stored."
            if np.ptp(values)
            else f"The predictor {str(node)!r} is constant ({values[0]:g} in all {len(values)} rows), so its effect "
            "cannot be told from the intercept: leave it out."
        )
    return TermFactor(str(node), values[:, None])


def category_column(node: Node, data: pd.DataFrame) -> str | None:
    """The column that a factor makes a category of: text, booleans, or C(x); None where it is a number.

    Raises:
        ValueError: C(...) of something that is no column.
    """
    if node.kind == "call" and node.text == CATEGORY:
        if node.parts[0].kind != "name":
            raise ValueError(f"{str(node)!r}: {CATEGORY}(...) takes a column.")
        return node.parts[0].text
    if node.kind != "name" or pd.api.types.infer_dtype(read_column(data, node.text)) not in _CATEGORICAL:
        return None
    return node.text


def numeric_values(node: Node, data: pd.DataFrame, moments: Moments | None = None) -> Numbers:
    """A numeric column, or the value of a call such as log(x) or I(x^2 + 1), in float64.

    Args:
        moments: mean and standard deviation for every `center` and `scale`; without it, those of the data.
    """
    with np.errstate(all="ignore"):
        values = _evaluate(node, data, moments)
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values))
        raise ValueError(f"{str(node)!r} is not finite in {len(rows)} rows, first in row {rows[0]} (counted from 0).")
    return values


def term_columns(
    terms: Sequence[Term], data: pd.DataFrame, read: Callable[[Node, pd.DataFrame], TermFactor] = read_factor
) -> tuple[tuple[str, ...], Float[np.ndarray, "rows columns"]]:
    """The columns of all terms side by side, and their names as in R: "(Intercept)", "x", "colourred", "x:colourred".

    A category is coded against its first level in every term whose margin, the term without it, is in the model too;
    otherwise all its levels get a column, as do those of the first category in a model without intercept (Chambers &
    Hastie 1992, Statistical Models in S, section 2.4.1).
    """
    factors = {factor: read(factor, data) for term in terms for factor in term}
    margins = {frozenset(term) for term in terms} | {frozenset()}
    categories = [(term, factor) for term in terms for factor in term if factors[factor].levels]
    in_place_of_intercept = None if INTERCEPT in terms else next(iter(categories), None)
    names: list[str] = []
    columns: list[np.ndarray] = []
    for term in terms:
        labels, values = [""], np.ones((len(data), 1))
        for factor in term:
            without = frozenset(term) - {factor}
            coded = factors[factor].coded(full=without not in margins or (term, factor) == in_place_of_intercept)
            # the first factor of an interaction varies fastest
            labels = [f"{label}:{other}" if label else other for other in coded.labels() for label in labels]
            values = (coded.values[:, :, None] * values[:, None, :]).reshape(len(values), -1)
        names += labels if term else [term_name(term)]
        columns += list(values.T)
    # Column by column in memory, since all that follows goes through whole columns.
    return tuple(names), np.array(columns).T if columns else np.empty((len(data), 0))


def group_codes(names: Sequence[str], data: pd.DataFrame) -> tuple[Int[np.ndarray, " rows"], list]:
    """Number of each row's level, and the levels: labels of one column, or "a:b" for combinations of several."""
    columns = [read_column(data, name) for name in names]
    if len(columns) == 1:
        codes, levels = _levels(columns[0])
        return codes.astype(np.int64), levels.tolist()
    # Combined labels can coincide ("a:b" with "c" and "a" with "b:c"), so the combinations are told apart by codes.
    codes, labels = np.zeros(len(data), dtype=np.int64), [[]]
    for column in columns:
        inner, levels = _levels(column)
        combined, codes = np.unique(codes * len(levels) + inner, return_inverse=True)
        before, last = np.divmod(combined, len(levels))
        texts = _texts(levels)
        labels = [[*labels[i], texts[j]] for i, j in zip(before.tolist(), last.tolist(), strict=True)]
    return codes.astype(np.int64), [":".join(label) for label in labels]


def _texts(levels: pd.Index | np.ndarray) -> list[str]:
    """Levels as text, in the way of a column's `astype(str)`."""
    values = levels.tolist()
    return values if all(isinstance(value, str) for value in values) else pd.Series(levels).astype(str).tolist()


def _levels(column: pd.Series) -> tuple[np.ndarray, pd.Index | np.ndarray]:
    """Number of each row's level, and the levels in order."""
    if isinstance(column.dtype, pd.StringDtype) and len(column) < MANY:
        levels, codes = np.unique(column.to_numpy(dtype=object), return_inverse=True)
        return codes, levels
    try:
        return pd.factorize(column, sort=True)
    except TypeError as error:
        raise ValueError(
            f"The column {str(column.name)!r} cannot be divided into levels ({error}): make text of its values, "
            "astype(str)."
        ) from error


def column_levels(column: pd.Series) -> list:
    """The levels of a column in order."""
    return list(_levels(column)[1])


def _category(name: str, node: Node, data: pd.DataFrame) -> TermFactor:
    column = read_column(data, node.text)
    codes, levels = _levels(column)
    if len(levels) < 2:
        raise ValueError(
            f"The predictor {name!r} is constant ({levels[0]!r} in all {len(column)} rows), so its effect cannot be "
            "told from the intercept: leave it out."
        )
    if len(levels) == len(column):
        raise ValueError(f"The predictor {name!r} is a category with another level in every row: leave it out.")
    return TermFactor(name, np.eye(len(levels))[codes], tuple(map(str, levels)))


def _evaluate(node: Node, data: pd.DataFrame, moments: Moments | None) -> Numbers:
    if node.kind == "name":
        column = read_column(data, node.text)
        kind = pd.api.types.infer_dtype(column)
        if kind not in _NUMERIC:
            hint = _AS_NUMBERS.get(kind, "")
            raise ValueError(f"The column {node.text!r} must hold numbers here, but its values are {kind}.{hint}")
        try:
            return column.to_numpy(dtype=float)
        except OverflowError as error:
            raise ValueError(f"The column {node.text!r} holds a number too large for float64: {error}.") from error
    if node.kind == "call" and node.text == CATEGORY:
        raise ValueError(f"{node} is a category, which stands alone: no function or arithmetic takes it.")
    if node.kind == "number":
        return np.full(len(data), float(node.text))
    arguments = [_evaluate(part, data, moments) for part in node.parts]
    if node.kind == "call":
        if node.text not in FUNCTIONS:
            known = [*FUNCTIONS, CATEGORY]
            hint = suggest(node.text, known)
            raise LookupError(f"The function {node.text!r} is not known.{hint} Known: {', '.join(known)}.")
        if moments is not None and node in moments:
            mean, sd = moments[node]
            return (arguments[0] - mean) / (sd if node.text == "scale" else 1.0)
        return FUNCTIONS[node.text](arguments[0])
    if node.text not in _ARITHMETIC:
        raise ValueError(f"({node}) is no arithmetic: inside a function + - * / ^ can be used.")
    if len(arguments) == 1:
        return -arguments[0] if node.text == "-" else arguments[0]
    return _ARITHMETIC[node.text](*arguments)
