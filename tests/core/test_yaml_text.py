"""YAML 1.2's core schema, one reader for all files, and messages that name file and line."""

import math
from typing import Any

import pytest

from labutils.core.yaml_text import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-0100", -100), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000"), ("0b1", "0b1"),
        (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf), ("inf", "inf"), ("1e-3", 0.001), ("1.", 1.0),
        ("no", "no"), ("on", "on"), ("y", "y"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("true", True),
        ("null", None), ("~", None), ("", None), ("nan", "nan"), ("<<: 1", {"<<": 1}), ("!!str 12", "12"),
        ("{a: &x [1, 2], b: *x}", {"a": [1, 2], "b": [1, 2]}),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    assert parse_yaml(text) == value and type(parse_yaml(text)) is type(value)
    assert math.isnan(parse_yaml(".nan")) and math.isnan(parse_yaml(".NaN"))


def test_in_lists_of_words_all_but_numbers_are_words() -> None:
    text = "no: [no, on, null, true, ~]\nnull: [x]\nnumbers: [1, .5]"
    assert parse_yaml(text, words=True) == {"no": ["no", "on", "null", "true", "~"], "null": ["x"], "numbers": [1, 0.5]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: [", "own.yaml, line 2, column 5"),
        ("a: 1\n\na: 2", "own.yaml, line 3, column 1: the key 'a' stands here a second time"),
        ("a: !!int x", "own.yaml, line 1, column 4: 'x' is not a whole number"),
        ("!!timestamp x", "own.yaml, line 1, column 1: could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("a: \x07", "own.yaml: unacceptable character"),
        ("[" * 3000, "line 1, column 51: more than 50 lists or mappings stand inside each other"),
        ("- " * 3000, "line 1, column 101: more than 50 lists or mappings stand inside each other"),
        ("9" * 1001, "at most 1000 are read"),
        ("? [1]\n: 2", "unhashable key"),
    ],
)
def test_slips_name_file_and_line(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_yaml(text, name="own.yaml")
    assert says in str(refused.value) and "\n" not in str(refused.value)
