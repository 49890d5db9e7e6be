"""What a notebook itself declares of its arms, so that a forecast need not repeat it: assignments of its cells, run."""

import ast
import builtins
from collections.abc import Iterator, Sequence
from typing import Any

from labutils.core import paths
from labutils.foresight.work import Parameters
from labutils.runner.notebooks import read_notebook


def read_declared(stem: str, names: Sequence[str], parameters: Parameters) -> dict[str, Any]:
    """Values of variables of a notebook that follow from its parameters alone.

    >>> read_declared("13_smaller_for_real", ["families"], study.parameters)["families"]["depth"]

    Run are the assignments of these names in code cells, in their order, and of those that they read; nothing else of
    the notebook. A parameter that a cell sets is read as that cell sets it.

    Raises:
        LookupError: there is no such assignment, or it needs more than parameters.
    """
    cells = read_notebook(paths.NOTEBOOKS / f"{stem}.ipynb").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    sources = [cell.source for cell in code if "parameters" not in cell.metadata.get("tags", [])]
    assignments = [statement for source in sources for statement in _assignments(source)]
    needed, found = _with_what_they_read(set(names), assignments), dict(parameters)
    for statement in assignments:
        if not _bound(statement) & needed:
            continue
        try:
            exec(compile(ast.Module([statement], []), f"{stem}.ipynb", "exec"), found)
        except NameError as error:
            raise LookupError(
                f"{stem} no longer declares {', '.join(names)} by its parameters alone: {error}"
            ) from None
    if missing := [name for name in names if name not in found]:
        raise LookupError(f"{stem} declares no {missing[0]}")
    return {name: found[name] for name in names}


def _assignments(source: str) -> Iterator[ast.stmt]:
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign | ast.AugAssign):
            yield statement


def _bound(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _with_what_they_read(names: set[str], assignments: Sequence[ast.stmt]) -> set[str]:
    """Names, and all that the assignments of these read and that is assigned too."""
    while True:
        more = set(names)
        for statement in assignments:
            if _bound(statement) & names:
                more |= _read(statement.value)
        assigned = set().union(*map(_bound, assignments)) if assignments else set()
        if (more := names | (more & assigned) - set(dir(builtins))) == names:
            return names
        names = more


def _read(value: ast.expr) -> set[str]:
    """Names that an expression reads, but for those that run through its comprehensions."""
    own = {node.id for node in ast.walk(value) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {node.id for node in ast.walk(value) if isinstance(node, ast.Name)} - own
