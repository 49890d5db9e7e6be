"""Which sources a module's results depend on, and their hash."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from labutils.core import paths
from labutils.core.files import hash_file, hash_json


@cache
def hash_code(*modules: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over the sources of modules of `labutils` and of all that they import from it, directly or not.

    What stands in other modules may change without a change of the hash: figures, statistics, a runner.

    >>> hash_code("labutils.pruning.pipeline", without=("labutils.pruning.forecast",))

    Args:
        without: modules and packages that are imported but decide no result; what they import is not followed.

    Raises:
        LookupError: there is no such module.
    """
    return hash_json({name: hash_file(path) for name, path in find_code(*modules, without=without).items()})


def find_code(*modules: str, without: tuple[str, ...] = ()) -> dict[str, Path]:
    """The modules that `hash_code` reads, in the order of their names, with their files.

    >>> list(find_code("labutils.core.code"))  # ["labutils.core", "labutils.core.code", …]
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and not any(name == other or name.startswith(f"{other}.") for other in without):
            found[name] = _source(name)
            waiting += [module for module in _imported(found[name]) if module != paths.PACKAGE.name]
    return dict(sorted(found.items()))


def _source(module: str) -> Path:
    if not (path := _find_source(module)):
        raise LookupError(f"labutils has no module {module!r}")
    return path


def _find_source(module: str) -> Path | None:
    base = paths.PACKAGE.parent.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """The modules of the package that a source imports: of `from package import name` also `name`, where it is one."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        own = [name for name in names if name.split(".")[0] == paths.PACKAGE.name]
        yield from (name for name in own if _find_source(name))
