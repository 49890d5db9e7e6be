"""Formulas and tables of all kinds: a fit, or a refusal in words."""

import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("hypothesis")
from fuzzing import fuzz, only_our_errors
from hypothesis import given
from hypothesis import strategies as st

from labutils.multilevel import fit_multilevel
from labutils.multilevel.formula import read_formula
from labutils.multilevel.syntax import parse

NAMES = [
    "x",
    "w",
    "c",
    "g",
    "h",
    "y",
    "`word length`",
    "`3`",
    "`a:b`",
    "`|`",
    "z.1",
    "größe",
    "q",
    "1",
    "0",
    "2.5",
    "1e3",
]
FUNCTIONS = ["I", "log", "sqrt", "scale", "center", "C", "exp", "nope", "`f`"]
OPERATORS = [" + ", " - ", "*", ":", "/", "^", " | ", " || ", "~", "**", "^2", " "]

atoms = st.sampled_from(NAMES)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map("".join),
        st.tuples(st.sampled_from(FUNCTIONS), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=8,
)
bars = st.tuples(expressions, st.sampled_from(["|", "||"]), st.sampled_from(["g", "h", "g/h", "g:h", "c", "x"])).map(
    lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
)
likely = st.tuples(st.sampled_from(["y", "log(y)", "x", "c"]), expressions, st.lists(bars, min_size=1, max_size=2)).map(
    lambda parts: f"{parts[0]} ~ {parts[1]} + {' + '.join(parts[2])}"
)
signs = st.text(alphabet="xygh1230.e+-*/:^|~()` \t\nCIlog`é²٣\"'\\", max_size=40)

N = 48


def columns() -> st.SearchStrategy:
    """A column of numbers, labels, or what a column of numbers may hold by mistake."""
    generator = np.random.default_rng(1)
    numbers = generator.normal(size=N)
    odd = [
        numbers, numbers * 1e9, 1.7e9 + 3600 * numbers, numbers * 1e-200, numbers * 1e150, np.zeros(N), np.ones(N),
        np.where(numbers > 1, np.nan, numbers), np.where(numbers > 1, np.inf, numbers), numbers > 0,
        np.arange(N), np.arange(N) // 2, np.array([None, "a", 1] * (N // 3), dtype=object),
        np.array(["a", "b", 3] * (N // 3), dtype=object), np.array([[1]] * N + [0], dtype=object)[:N],
        pd.date_range("2026-01-01", periods=N), pd.array([1, 2, pd.NA] * (N // 3), dtype="Int64"),
        pd.Categorical(["u", "v"] * (N // 2), categories=["v", "u", "none"]), np.array([10**400] * N, dtype=object),
        numbers.astype(np.float16), np.array(["1"] * N), numbers * 1j, np.repeat(generator.normal(size=N // 4), 4),
    ]  # fmt: skip
    return st.sampled_from(odd)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    g, h = np.repeat(np.arange(8), N // 8), generator.integers(0, 5, N)
    x = generator.normal(size=N)
    data = {
        "y": np.exp(0.3 * x + generator.normal(size=8)[g] + generator.normal(size=N)), "x": x,
        "w": generator.normal(size=8)[g], "c": np.array(["a", "b", "c"])[generator.integers(0, 3, N)], "g": g,
        "h": [f"h{i}" for i in h], "word length": generator.normal(size=N), 3: x**2, "a:b": np.arange(N) % 3,
        "|": generator.normal(size=N), "z.1": np.arange(N), "größe": generator.normal(size=N),
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from([*data, "q", 1, 0]), max_size=3)):
        data[name] = draw(columns())
    return pd.DataFrame(data)


@fuzz(300)
@given(st.one_of(signs, expressions, likely))
def test_any_text_is_a_formula_or_is_refused(text: str) -> None:
    with only_our_errors():
        parse(text)
    with only_our_errors():
        read_formula(text)


@fuzz(100)
@given(likely, tables())
def test_any_model_of_any_table_is_fitted_or_refused(formula: str, data: pd.DataFrame) -> None:
    before = data.copy(deep=True)
    with warnings.catch_warnings(), only_our_errors():
        warnings.simplefilter("error", RuntimeWarning)  # numbers that overflow or vanish on the way
        model = fit_multilevel(formula, data)
        assert np.isfinite(model.fixed[["estimate", "se"]].to_numpy()).all() and np.isfinite(model.log_likelihood)
        assert (model.random["variance"] >= 0).all() and model.residual_variance > 0
    pd.testing.assert_frame_equal(data, before)


@fuzz(150)
@given(st.text(min_size=1, max_size=12).filter(lambda name: "`" not in name))
def test_a_column_of_any_name_is_found_between_backquotes(name: str) -> None:
    tree = parse(f"y ~ `{name}` + (1 | g)")
    assert name in tree.columns()
