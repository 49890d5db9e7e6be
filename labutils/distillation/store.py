"""Finished runs of a sweep, kept in a folder under the hash of everything they depend on."""

import ast
import io
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd

from labutils.core import paths
from labutils.core.files import hash_file, hash_json, write_atomically

PACKAGE = paths.PACKAGE
APART = "labutils.data.sources"  # lends the splitting of "a → b" alone, and would bring all of pruning along

COMPLETE = "complete.json"  # written last: where it is, the frames that it lists are


def run_key(**depends_on: object) -> str:
    """The name of a run: a hash of everything that its rows depend on."""
    return hash_json(depends_on)[:24]


def recall(folder: Path | None, key: str) -> dict[str, pd.DataFrame] | None:
    """The frames of a finished run, or None."""
    if folder is None or not (folder / key / COMPLETE).exists():
        return None
    names = json.loads((folder / key / COMPLETE).read_text())
    return {name: pd.read_parquet(folder / key / f"{name}.parquet") for name in names}


def keep(folder: Path | None, key: str, frames: dict[str, pd.DataFrame]) -> None:
    """Write a finished run's frames, and then that they are complete: a killed write leaves nothing to recall."""
    if folder is None:
        return
    for name, frame in frames.items():
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_atomically(folder / key / f"{name}.parquet", buffer.getvalue())
    write_atomically(folder / key / COMPLETE, json.dumps(list(frames)) + "\n")


@cache
def hash_code(module: str = "labutils.distillation.bench") -> str:
    """SHA-256 over the source of a module and of all modules of the package that it imports, directly or not.

    What trains and reads a student is among them, what draws or judges is not: edits there leave finished runs valid.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _find_source(name)
        if name not in (*found, APART) and path is not None:
            found[name] = hash_file(path)
            waiting += _imported(ast.parse(path.read_text(encoding="utf-8")))
    return hash_json(found)


def _find_source(module: str) -> Path | None:
    """The file of a module of the package; None for names that are no modules, and for the package's own index."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    options = [] if place == PACKAGE else [place.with_suffix(".py"), place / "__init__.py"]
    return next((path for path in options if path.is_file()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names that may be modules of the package, wherever in a source they are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE.name)
