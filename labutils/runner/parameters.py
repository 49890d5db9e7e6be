"""Typed parameters of a notebook: what its cell tagged `parameters` declares, and what a caller may pass.

A declaration is one line, `name: type = value  # help (unit)`. papermill's own reader drops union types and only warns
of unknown names; here every value is checked against its declaration before anything runs.
"""

import ast
import io
import reprlib
import sys
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbformat import NotebookNode

from labutils.core.options import suggest
from labutils.core.yaml_text import parse_yaml

SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
TYPES = (*SCALARS, "list[int]", "list[float]", "list[str]")
NULLS = ("", "~", "null", "Null", "NULL")  # of YAML 1.2's core schema
LARGEST = int(sys.float_info.max)  # whole number that a float can hold


class Written(str):
    """A value as it stands on the command line: the type of its parameter says how it is read."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: `type` is one of `TYPES`, `optional` allows None besides."""

    name: str
    type: str
    optional: bool
    default: Any
    help: str

    @property
    def annotation(self) -> str:
        """The type as it stands in the notebook."""
        return f"{self.type} | None" if self.optional else self.type

    def convert(self, value: Any) -> Any:
        """Return `value` as this parameter's type: an int becomes a float where one is declared, a bool never a number.

        What is `Written` stays as it is for a text, "null" for an optional one apart, and is read as YAML for all else.

        Raises:
            ValueError: the value has another type.
        """
        if isinstance(value, Written):
            as_text = self.type == "str" and not (self.optional and value in NULLS)
            value = str(value) if as_text else parse_yaml(value)
        if value is None and self.optional:
            return None
        if self.type in SCALARS:
            converted = _convert_scalar(value, SCALARS[self.type])
        elif isinstance(value, list):
            entries = [_convert_scalar(entry, SCALARS[self.type[5:-1]]) for entry in value]
            converted = None if any(entry is None for entry in entries) else entries
        else:
            converted = None
        if converted is None:
            given = f"{reprlib.repr(value)} ({type(value).__name__})"
            raise ValueError(f"parameter {self.name!r} is declared {self.annotation} but was given {given}")
        return converted


def read_parameters(notebook: NotebookNode) -> dict[str, Parameter]:
    """Read the declarations in the cell tagged `parameters`; empty when the notebook has no such cell.

    Raises:
        ValueError: there are several such cells, or a line of it is no declaration.

        read_parameters(nbformat.read("01_a.ipynb", as_version=4))["sparsity"].default  # 0.5
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        return {}
    if len(cells) > 1:
        raise ValueError(f"{len(cells)} cells carry the tag 'parameters'; tag one")
    source = cells[0].source
    comments = _comments_by_line(source)
    declared = [_read_declaration(statement, source, comments) for statement in ast.parse(source).body]
    return {parameter.name: parameter for parameter in declared}


def check_values(values: Mapping[str, Any], declared: Mapping[str, Parameter], notebook: str) -> dict[str, Any]:
    """Return `values` converted to their declared types.

    Raises:
        LookupError: `notebook` declares no parameter of that name; the message names the nearest one.
        ValueError: a value has another type than its declaration.
    """
    checked = {}
    for name, value in values.items():
        if name not in declared:
            raise LookupError(f"{notebook}: unknown parameter {name!r}{name_known(name, declared)}")
        try:
            checked[name] = declared[name].convert(value)
        except ValueError as error:
            raise ValueError(f"{notebook}: {error}") from None
    return checked


def name_known(given: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, then all of them.

    >>> name_known("sclae", ["seed", "scale"])
    ". Did you mean 'scale'? Known: seed, scale."
    """
    names = list(known)
    return f".{suggest(given, names)} Known: {', '.join(names) or 'none'}."


def parse_assignment(text: str) -> tuple[str, Written]:
    """Split `name=value` as given on the command line; the value is read when its parameter is known.

    Raises:
        ValueError: there is no `=`, or no name before it.

    >>> parse_assignment("sparsities=[0.5, 0.6]")
    ('sparsities', '[0.5, 0.6]')
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise ValueError(f"a parameter is given as name=value, not {text!r}")
    return name.strip(), Written(value)


def _convert_scalar(value: Any, wanted: type) -> Any:
    """The value as `wanted`, or None when it is something else."""
    if isinstance(value, bool):
        return value if wanted is bool else None
    if wanted is float and isinstance(value, int):
        return float(value) if abs(value) <= LARGEST else None
    if isinstance(value, str) and not _is_text(value):
        return None
    return value if isinstance(value, wanted) else None


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it; what a shell passes on may be no text at all."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _comments_by_line(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _read_declaration(statement: ast.stmt, source: str, comments: Mapping[int, str]) -> Parameter:
    line = ast.get_source_segment(source, statement)
    complete = isinstance(statement, ast.AnnAssign) and statement.value is not None
    if not complete or not isinstance(statement.target, ast.Name):
        raise ValueError(f"the cell tagged 'parameters' holds lines 'name: type = value  # help', not {line!r}")
    annotation = ast.unparse(statement.annotation)
    options = [option.strip() for option in annotation.split("|")]
    types = [option for option in options if option != "None"]
    if len(types) != 1 or types[0] not in TYPES or len(options) - len(types) > 1:
        allowed = f"{', '.join(TYPES)}, or one of these '| None'"
        raise ValueError(f"type {annotation!r} in {line!r} is not allowed; use {allowed}")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise ValueError(f"the value in {line!r} must be a literal") from None
    name = statement.target.id
    declared = Parameter(name, types[0], "None" in options, default, comments.get(statement.end_lineno or 0, ""))
    return replace(declared, default=declared.convert(default))
