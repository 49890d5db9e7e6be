"""Formulas to terms, by the rules of R."""

import pytest

from labutils.multilevel.formula import Term, read_formula, term_name


def names(terms: tuple[Term, ...]) -> list[str]:
    return [term_name(term) for term in terms]


def fixed(right: str) -> list[str]:
    return names(read_formula(f"y ~ {right} + (1 | g)").fixed)


def random(bar: str) -> list[tuple[list[str], str]]:
    return [(names(term.terms), ":".join(term.group)) for term in read_formula(f"y ~ 1 + {bar}").random]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("1", ["(Intercept)"]),
        ("x", ["(Intercept)", "x"]),
        ("0 + x", ["x"]),
        ("x - 1", ["x"]),
        ("x + 0 + 1", ["(Intercept)", "x"]),
        ("a:b + c", ["(Intercept)", "c", "a:b"]),
        ("a*b", ["(Intercept)", "a", "b", "a:b"]),
        ("a*b*c", ["(Intercept)", "a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"]),
        ("a*b*c - a:b:c", ["(Intercept)", "a", "b", "c", "a:b", "a:c", "b:c"]),
        ("(a + b + c)^2", ["(Intercept)", "a", "b", "c", "a:b", "a:c", "b:c"]),
        ("a/b", ["(Intercept)", "a", "a:b"]),
        ("(a + b)/c", ["(Intercept)", "a", "b", "a:b:c"]),
        ("a*b - a", ["(Intercept)", "b", "a:b"]),
        ("a + a + a:a", ["(Intercept)", "a"]),
        ("a:b + b:a", ["(Intercept)", "a:b"]),
        ("x + b:x", ["(Intercept)", "x", "x:b"]),
        ("I(x^2) + log(x):a", ["(Intercept)", "I(x^2)", "log(x):a"]),
        ("(a + (b - 1))", ["a", "b"]),
    ],
)
def test_fixed_terms(right: str, expected: list[str]) -> None:
    assert fixed(right) == expected


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ("(1 | g)", [(["(Intercept)"], "g")]),
        ("(x | g)", [(["(Intercept)", "x"], "g")]),
        ("(1 + x | g)", [(["(Intercept)", "x"], "g")]),
        ("(0 + x | g)", [(["x"], "g")]),
        ("(x - 1 | g)", [(["x"], "g")]),
        ("(x || g)", [(["(Intercept)"], "g"), (["x"], "g")]),
        ("(0 + x + z || g)", [(["x"], "g"), (["z"], "g")]),
        ("(1 | a) + (0 + x | a)", [(["(Intercept)"], "a"), (["x"], "a")]),
        ("(1 | a/b)", [(["(Intercept)"], "a"), (["(Intercept)"], "a:b")]),
        ("(1 | a/b/c)", [(["(Intercept)"], "a"), (["(Intercept)"], "a:b"), (["(Intercept)"], "a:b:c")]),
        ("(1 | a:b)", [(["(Intercept)"], "a:b")]),
        ("(a*b | g)", [(["(Intercept)", "a", "b", "a:b"], "g")]),
    ],
)
def test_random_terms(bar: str, expected: list[tuple[list[str], str]]) -> None:
    assert random(bar) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y + x", "no '~'"),
        ("y ~ x", r"no random term.*\(1 \| group\)"),
        ("y ~ x + 1 | g + (1 | h)", "must stand alone"),
        ("y ~ a*(1 | g) + (1 | g)", "must stand alone"),
        ("y ~ x - (1 | g)", "no random term"),
        ("y ~ 2 + (1 | g)", "number 2 is no term"),
        ("y ~ x^z + (1 | g)", "whole number"),
        ("y ~ (0 | g)", "lets nothing vary"),
        ("y ~ (1 | a + b)", "grouping factor"),
        ("y ~ (1 | log(a))", "grouping factor"),
        ("y ~ (1 | 1)", "grouping factor"),
        ("a + b ~ (1 | g)", "response must be one column"),
        ("3 ~ (1 | g)", "response must be one column"),
    ],
)
def test_what_is_no_model_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_formula(text)


def test_columns_of_the_whole_formula() -> None:
    assert read_formula("log(y) ~ x:z + (1 + w | a/b)").columns() == ["y", "x", "z", "w", "a", "b"]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ 2 + (1 | g)", r"number 2 is no term.*`2` for a column"),
        ("0 ~ x + (1 | g)", "response must be one column.*`0`"),
        ("y ~ x + (1 | 2)", "`2` for a column"),
        ("y ~ word length + (1 | g)", "a space in it stands in backquotes"),
        ("y ~ " + "(" * 5000 + "x", "more than 100 parts are nested"),
        ("y ~ " + "-" * 5000 + "x + (1 | g)", "more than 100 parts are nested"),
        ("y ~ x" + "^2" * 5000 + " + (1 | g)", "more than 100 parts are nested"),
        ("y ~ " + "*".join(f"x{i}" for i in range(40)) + " + (1 | g)", "more than 1,000 terms"),
        ("y ~ (" + "+".join(f"x{i}" for i in range(40)) + ")^9 + (1 | g)", "more than 1,000 terms"),
        ("y ~ " + "+".join(f"x{i}" for i in range(3000)) + " + (1 | g)", "more than 1,000 terms"),
        ("y ~ x - (1 | g) + (1 | h)", "must stand alone"),
    ],
)
def test_what_is_no_formula_says_so_at_once(formula: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_formula(formula)


def test_long_sums_high_powers_and_odd_names() -> None:
    assert len(fixed("+".join(f"x{i}" for i in range(900)))) == 901
    assert fixed("(a + b)^" + "9" * 5000) == ["(Intercept)", "a", "b", "a:b"] == fixed("(a + b)^02")
    assert fixed("`|` + `~`:`1`") == ["(Intercept)", "|", "~:1"]
    assert random("(`||` | `a|b`)") == [(["(Intercept)", "||"], "a|b")]
