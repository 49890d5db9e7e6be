"""Columns of terms: treatment coding, interactions, functions, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from labutils.multilevel.coding import group_codes, numeric_values, term_columns
from labutils.multilevel.formula import read_formula
from labutils.multilevel.syntax import parse

FRAME = pd.DataFrame(
    {
        "x": [1.0, 2.0, 4.0, 8.0, 3.0, 5.0],
        "colour": ["red", "blue", "red", "green", "blue", "green"],
        "size": pd.Categorical(["s", "l", "s", "l", "l", "s"], categories=["s", "m", "l"]),
        "old": [True, False, False, True, True, False],
        "year": [2001, 2002, 2001, 2003, 2002, 2003],
        "when": pd.date_range("2020-01-01", periods=6),
        "text number": [1, 2, 3, 4, 5, 7],
    }
)


def columns(right: str) -> dict[str, list[float]]:
    names, values = term_columns(read_formula(f"y ~ {right} + (1 | g)").fixed, FRAME)
    return dict(zip(names, values.T.tolist(), strict=True))


def is_(column: str, *levels: object) -> np.ndarray:
    return FRAME[column].isin(levels).to_numpy(dtype=float)


def test_categories_get_treatment_coding_against_the_first_level() -> None:
    found = columns("colour")
    assert list(found) == ["(Intercept)", "colourgreen", "colourred"]
    assert found["colourgreen"] == is_("colour", "green").tolist()
    assert found["colourred"] == is_("colour", "red").tolist()


def test_order_of_categories_booleans_and_c() -> None:
    assert list(columns("size")) == ["(Intercept)", "sizel"]  # the category m does not occur
    assert columns("size")["sizel"] == is_("size", "l").tolist()
    assert columns("old")["oldTrue"] == is_("old", True).tolist()
    assert list(columns("C(year)")) == ["(Intercept)", "C(year)2002", "C(year)2003"]
    assert columns("year")["year"] == FRAME["year"].tolist()


def test_interactions_multiply_columns_and_the_first_factor_varies_fastest() -> None:
    found = columns("colour*old + x:colour + x")
    assert list(found) == [
        "(Intercept)", "colourgreen", "colourred", "oldTrue", "x", "colourgreen:oldTrue", "colourred:oldTrue",
        "colourgreen:x", "colourred:x",
    ]  # fmt: skip
    assert found["colourred:oldTrue"] == (is_("colour", "red") * is_("old", True)).tolist()
    assert found["colourgreen:x"] == (is_("colour", "green") * FRAME["x"]).tolist()
    assert list(columns("0 + colour:size"))[:4] == [
        "colourblue:sizes", "colourgreen:sizes", "colourred:sizes", "colourblue:sizel",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("0 + colour", ["colourblue", "colourgreen", "colourred"]),
        ("x:colour", ["(Intercept)", "x:colourblue", "x:colourgreen", "x:colourred"]),
        ("x + x:colour", ["(Intercept)", "x", "x:colourgreen", "x:colourred"]),
        ("old + colour:old", ["(Intercept)", "oldTrue", "oldFalse:colourgreen", "oldTrue:colourgreen",
                              "oldFalse:colourred", "oldTrue:colourred"]),
        ("0 + x + colour", ["x", "colourblue", "colourgreen", "colourred"]),
        ("0 + old + colour", ["oldFalse", "oldTrue", "colourgreen", "colourred"]),
    ],
)  # fmt: skip
def test_all_levels_get_a_column_where_the_margin_is_not_in_the_model(right: str, expected: list[str]) -> None:
    """The names are those that model.matrix gives in R."""
    assert list(columns(right)) == expected


def test_functions_and_arithmetic() -> None:
    x = FRAME["x"].to_numpy()
    found = columns("log(x) + I(x^2 - 1/x) + I(-x*2) + scale(x) + center(x) + `text number` + sqrt(x + year)")
    assert found["log(x)"] == pytest.approx(np.log(x))
    assert found["I(x^2 - 1/x)"] == pytest.approx(x**2 - 1 / x)
    assert found["I(-x * 2)"] == pytest.approx(-2 * x)
    assert found["scale(x)"] == pytest.approx((x - x.mean()) / x.std(ddof=1))
    assert found["center(x)"] == pytest.approx(x - x.mean())
    assert found["text number"] == FRAME["text number"].tolist()
    assert found["sqrt(x + year)"] == pytest.approx(np.sqrt(x + FRAME["year"]))


@pytest.mark.parametrize(
    ("right", "kind", "message"),
    [
        ("colr", LookupError, "no column 'colr'.*Did you mean 'colour'"),
        ("lag(x)", LookupError, "'lag' is not known.*Did you mean 'log'"),
        ("log(colour)", ValueError, "must hold numbers here, but its values are string"),
        ("when", ValueError, "must hold numbers here, but its values are datetime"),
        ("log(x - 1)", ValueError, r"'log\(x - 1\)' is not finite in 1 rows, first in row 0"),
        ("I(x:x)", ValueError, "is no arithmetic"),
        ("C(x + 1)", ValueError, "takes a column"),
        ("I(x - x)", ValueError, "is constant"),
        ("C(`text number`)", ValueError, "another level in every row"),
    ],
)
def test_what_cannot_be_coded_is_refused(right: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        columns(right)


def test_columns_with_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="2 columns are called 'x'"):
        numeric_values(parse("x"), pd.concat([FRAME[["x"]], FRAME[["x"]]], axis=1))


def test_nullable_and_object_numbers_are_numbers() -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2, 4], dtype="Int64"), "b": pd.Series([1, 2.5, 3], dtype=object)})
    assert numeric_values(parse("a"), frame).tolist() == [1, 2, 4]
    assert numeric_values(parse("b"), frame).tolist() == [1, 2.5, 3]


def test_groups_are_numbered_in_order_and_combinations_never_mixed_up() -> None:
    codes, levels = group_codes(["year"], FRAME)
    assert (codes.tolist(), levels) == ([0, 1, 0, 2, 1, 2], [2001, 2002, 2003])
    frame = pd.DataFrame({"a": ["a:b", "a", "a", "a:b"], "b": ["c", "b:c", "z", "c"]})
    codes, levels = group_codes(["a", "b"], frame)
    assert codes.tolist() == [2, 0, 1, 2]
    assert levels == ["a:b:c", "a:z", "a:b:c"]
