"""Trees of formulas: precedence, spelling, errors that mark their place."""

import pytest

from labutils.multilevel.syntax import Node, parse


def shape(node: Node) -> str:
    """The tree with all its parentheses."""
    if not node.parts:
        return node.text
    if node.kind == "call":
        return f"{node.text}[{shape(node.parts[0])}]"
    return "(" + node.text.join(["", shape(node.parts[0])] if len(node.parts) == 1 else map(shape, node.parts)) + ")"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ a + b*c", "(y~(a+(b*c)))"),
        ("a + b - c", "((a+b)-c)"),
        ("a:b*c:d", "((a:b)*(c:d))"),
        ("a^2^3", "(a^(2^3))"),
        ("-a^2", "(-(a^2))"),
        ("-a:b", "((-a):b)"),
        ("a/b/c", "((a/b)/c)"),
        ("y ~ (1 + x | g) + z", "(y~(((1+x)|g)+z))"),
        ("x || g", "(x||g)"),
        ("I(x**2) + log(x + 1)", "(I[(x^2)]+log[(x+1)])"),
        ("`a column`:x_1.b", "(a column:x_1.b)"),
        ("1e-3 + .5", "(1e-3+.5)"),
        ("größe + β", "(größe+β)"),
    ],
)
def test_operators_bind_as_in_r(text: str, expected: str) -> None:
    assert shape(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("I( x ** 2 )", "I(x^2)"),
        ("I(x*2+1)", "I(x * 2 + 1)"),
        ("I(a/(b-c))", "I(a/(b - c))"),
        ("I((a-b)-c)", "I(a - b - c)"),
        ("I(a-(b-c))", "I(a - (b - c))"),
        ("I(-a)", "I(-a)"),
        ("I((a^b)^c)", "I((a^b)^c)"),
    ],
)
def test_terms_are_called_as_in_r(text: str, spelled: str) -> None:
    assert str(parse(text)) == spelled
    assert parse(spelled) == parse(text)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("y ~ x +", "expected a column", 7),
        ("y ~ (1 | g", "expected '\\)'", 10),
        ("y ~ x ) + z", "expected an operator", 6),
        ("y ~ x z", "expected an operator", 6),
        ("y ~ x & z", "a formula has names", 6),
        ("~ x", "the response is missing", 0),
        ("y ~ 2x", "expected an operator", 5),
        ("", "expected a column", 0),
        ("y ~ * x", "expected a column", 4),
    ],
)
def test_errors_mark_the_place(text: str, message: str, place: int) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse(text)
    assert str(error.value).splitlines()[-1].index("^") == place + 2


def test_columns_are_listed_once() -> None:
    assert parse("y ~ I(x^2 + z) + x:w + (1 | g)").columns() == ["y", "x", "z", "w", "g"]
