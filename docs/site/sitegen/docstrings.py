"""Docstrings of the package as Sphinx reads them: the calls that stand in them become blocks of code."""

import ast
import re

SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:", "Note:")
CODE = re.compile(r"`[^`]*`|\*\*|\||\*(?=\w)")  # code in backticks, or a sign that would be markup
BLOCK = ".. code-block:: python"


def tidy(lines: list[str]) -> list[str]:
    """A docstring whose indented calls are blocks of code at its end.

    In this package a docstring shows a call in one of two ways: after `>>>`, or indented by four spaces. To Sphinx the
    second is a quotation, or, behind a section such as "Raises:", one more entry of it.

    >>> tidy(["Does it.", "", "    do(it)"])
    ['Does it.', '', '.. code-block:: python', '', '    do(it)', '']
    """
    kept, code = [], []
    for block in _blocks(lines):
        own = _dedent(block)
        if all(line.startswith("    ") for line in block) and block[0].strip() not in SECTIONS and is_call(own):
            code += [f"    {line}" for line in own]
        else:
            kept += [*block, ""]
    kept = _as_prose(kept)
    return [*kept, BLOCK, "", *code, ""] if code else kept


def is_call(lines: list[str]) -> bool:
    """Whether lines are Python that calls something.

    >>> is_call(["prune(model)"]), is_call(["rows: of a sweep"])
    (True, False)
    """
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(tree))


def _blocks(lines: list[str]) -> list[list[str]]:
    """Lines that stand together, without the empty ones between; an example in >>> stays whole."""
    blocks, block = [], []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            blocks.append(block)
            block = []
    return [*blocks, block] if block else blocks


def _dedent(block: list[str]) -> list[str]:
    indent = min(len(line) - len(line.lstrip()) for line in block)
    return [line[indent:] for line in block]


def _as_prose(lines: list[str]) -> list[str]:
    """Lines in which stars and bars that are no markup stand for themselves; code and examples stay as they are."""
    return [line if line.lstrip().startswith(">>>") else CODE.sub(_escape, line) for line in lines]


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith("`") else "\\" + match[0]
