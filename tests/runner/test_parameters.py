"""Typed parameters: what a declaration may say, and what a value must be."""

from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny_notebooks import PARAMETERS, tagged

from labutils.runner.parameters import Parameter, check_values, parse_assignment, parse_yaml, read_parameters


def declare(source: str) -> dict[str, Parameter]:
    return read_parameters(new_notebook(cells=[tagged(new_code_cell(source), "parameters")]))


def test_declarations_are_read() -> None:
    declared = declare("# what to run\n" + PARAMETERS)
    assert list(declared) == ["seed", "scale", "words", "loud"]
    assert declared["scale"] == Parameter("scale", "float", True, None, "factor on the loss (nats)")
    assert declared["words"].default == ["a", "b"] and declared["words"].annotation == "list[str]"
    assert read_parameters(new_notebook(cells=[new_code_cell(PARAMETERS)])) == {}


def test_a_declaration_may_take_several_lines_and_hold_an_equals_sign() -> None:
    declared = declare('sizes: list[float] = [\n    0.1,\n    1,\n]  # shares (1)\nname: str = "a=b # c"')
    assert declared["sizes"].default == [0.1, 1.0] and declared["sizes"].help == "shares (1)"
    assert declared["name"].default == "a=b # c" and declared["name"].help == ""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "name: type = value"),
        ("x: int", "name: type = value"),
        ("import os", "name: type = value"),
        ("x: dict = {}", "type 'dict'"),
        ("x: int | str = 1", "type 'int | str'"),
        ("x: int = len('a')", "must be a literal"),
        ("x: int = 1.5", "declared int but was given 1.5"),
        ("x: bool = None", "declared bool but was given None"),
    ],
)
def test_other_lines_are_refused(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        declare(source)


@pytest.mark.parametrize(
    ("annotation", "value", "converted"),
    [
        ("int", 3, 3),
        ("float", 3, 3.0),
        ("float", 0.5, 0.5),
        ("bool", False, False),
        ("str", "", ""),
        ("int | None", None, None),
        ("list[float]", [1, 0.5], [1.0, 0.5]),
        ("list[int]", [], []),
        ("list[str] | None", None, None),
    ],
)
def test_values_of_the_declared_type_pass(annotation: str, value: Any, converted: Any) -> None:
    base, _, optional = annotation.partition(" | ")
    result = Parameter("x", base, bool(optional), None, "").convert(value)
    assert result == converted and type(result) is type(converted)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", True),
        ("float", True),
        ("float", "0.5"),
        ("int", 1.0),
        ("bool", 0),
        ("str", 1),
        ("int", None),
        ("list[int]", 1),
        ("list[int]", [1, True]),
        ("list[float]", [1.0, None]),
        ("list[str]", "abc"),
    ],
)
def test_values_of_another_type_are_refused(annotation: str, value: Any) -> None:
    with pytest.raises(ValueError, match="parameter 'x' is declared"):
        Parameter("x", annotation, False, None, "").convert(value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(LookupError, match="01_a: unknown parameter 'sclae'. Did you mean 'scale'"):
        check_values({"sclae": 1.0}, declare(PARAMETERS), "01_a")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2", -2),
        ("010", 10),
        ("[-010, 0100]", [-10, 100]),
        (".5", 0.5),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("null", None),
        ("", None),
        ("[0.1, 2]", [0.1, 2]),
        ("lab:encyclopedic", "lab:encyclopedic"),
    ],
)
def test_values_are_read_as_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(text) == value and type(parse_yaml(text)) is type(value)


def test_assignments() -> None:
    assert parse_assignment("model=file:a=b") == ("model", "file:a=b")
    for text in ("model", "=1", "a b=1"):
        with pytest.raises(ValueError):
            parse_assignment(text)


@pytest.mark.parametrize(
    ("annotation", "optional", "written", "value"),
    [
        ("str", False, "text=/data/run #2/model", "/data/run #2/model"),
        ("str", False, "text=null", "null"),
        ("str", True, "text=null", None),
        ("str", True, "text='a'", "'a'"),
        ("int", False, "text=010", 10),
        ("list[str]", False, 'text=["file:a b.txt", no]', ["file:a b.txt", "no"]),
        ("float", False, "text=1e-3", 0.001),
    ],
)
def test_a_text_takes_what_stands_behind_the_sign(annotation: str, optional: bool, written: str, value: Any) -> None:
    name, given = parse_assignment(written)
    converted = Parameter(name, annotation, optional, None, "").convert(given)
    assert converted == value and type(converted) is type(value)


def test_what_is_no_yaml_is_said_where_yaml_is_read() -> None:
    with pytest.raises(ValueError, match="not valid YAML"):
        Parameter("x", "list[int]", False, None, "").convert(parse_assignment("x=[1")[1])
