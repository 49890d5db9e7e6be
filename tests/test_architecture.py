"""The house: rooms import downward only, docs/architecture.md tells the order, and every room says what it is for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import labutils as lab
from labutils.core import paths

PAGE = (paths.REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.M)
FILES = sorted(paths.PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every import of the package's own, wherever it stands, as a dotted name that begins with a room."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node, name.removeprefix("labutils.")) for name in names if name.startswith("labutils."))


def upward(source: str, room: str, order: list[str]) -> list[str]:
    """The imports of a file of `room` that name a room which stands after it."""
    named = [name.partition(".")[0] for _, name in imports(ast.parse(source))]
    return [name for name in named if name in order and order.index(name) > order.index(room)]


def room_of(path: Path) -> str:
    return path.relative_to(paths.PACKAGE).parts[0]


def test_the_page_names_every_room_once() -> None:
    folders = {path.parent.name for path in paths.PACKAGE.glob("*/__init__.py")}
    assert len(ROOMS) == len(set(ROOMS)) and set(ROOMS) == folders == {n for n in lab.__all__ if n in folders}
    picture = PAGE.split("```mermaid")[1].split("```")[0]
    rows = re.findall(r"^ {8}(\w+(?: ~~~ \w+)*)$", picture, flags=re.M)
    drawn = [name for row in rows for name in row.split(" ~~~ ")]
    assert drawn == ROOMS
    loose = {path.name for path in paths.PACKAGE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}


def test_no_import_runs_upward() -> None:
    rooms = [path for path in FILES if path.parent != paths.PACKAGE]
    found = {str(path): upward(path.read_text(encoding="utf-8"), room_of(path), ROOMS) for path in rooms}
    assert not {path: names for path, names in found.items() if names}
    assert upward("from labutils.sweeps.losses import sweep", "pruning", ROOMS) == ["sweeps"]
    assert upward("def late():\n    from labutils import costs", "core", ROOMS) == ["costs"]


def test_no_two_studies_import_each_other() -> None:
    studies = ROOMS[ROOMS.index("sweeps") : ROOMS.index("lab_models") + 1]
    for path in FILES:
        room = path.relative_to(paths.PACKAGE).parts[0]
        named = {name.partition(".")[0] for _, name in imports(ast.parse(path.read_text(encoding="utf-8")))}
        assert room not in studies or not named & set(studies) - {room}, path


def test_no_function_imports_the_package_to_escape_a_circle() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = [
            name
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for _, name in imports(function)
        ]
        assert not inside or path.name == "__main__.py", f"{path} imports {inside} inside a function"


def test_there_is_no_circle_among_modules() -> None:
    """Follow the imports of every module at import time; a module that comes back to itself would be a circle."""
    modules = {".".join(path.relative_to(paths.PACKAGE).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        named = {full for node in top for _, full in imports(ast.Module([node], []))}
        # `from labutils.room import name` imports the module of that name where there is one, else the room itself.
        found = {full if full in modules else full.rpartition(".")[0] for full in named}
        graph[name] = {module for module in found if module in modules and module != name}
    done: set[str] = set()

    def follow(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' → '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for other in sorted(graph[name]):
                follow(other, (*trail, name))
            done.add(name)

    for name in graph:
        follow(name, ())


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for_and_where_to_add_what(room: str) -> None:
    text = ast.get_docstring(ast.parse((paths.PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(text.splitlines()) >= 4 and "Imports " in text, f"labutils/{room}/__init__.py: too little is said"


def test_files_stay_small() -> None:
    beside = [path for folder in ("tests", "benchmarks") for path in (paths.REPOSITORY / folder).rglob("*.py")]
    long = {str(path) for path in [*FILES, *beside] if len(path.read_text(encoding="utf-8").splitlines()) > 300}
    assert not long


def test_no_two_test_files_share_a_name() -> None:
    """pytest imports test files by their bare names and stops at the second of a name."""
    names = [path.name for path in (paths.REPOSITORY / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


def test_every_word_of_the_glossary_has_one_meaning() -> None:
    words = re.findall(r"^\| ([a-z ]+) \| [^|]+ \|$", PAGE.split("## Words")[1], flags=re.M)[1:]
    assert 25 <= len(words) == len(set(words)) and words == sorted(words)


def test_the_page_sends_nobody_to_a_file_that_is_not_there() -> None:
    named = re.findall(r"`((?:labutils|findings|data|notebooks|docs)/[\w./]+)`", PAGE)
    assert named and all((paths.REPOSITORY / name).exists() for name in named)
