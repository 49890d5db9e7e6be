"""The hash of the sources that a module's results depend on."""

import pytest

from labutils.core import code, paths
from labutils.sweeps import kept_prunings


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "tool")
    sources = {
        "__init__.py": "",
        "a.py": "from tool.room import b\nimport os\n",
        "room/__init__.py": "",
        "room/b.py": "import tool.room.c as c\n",
        "room/c.py": "from tool.a import name\n",  # a circle comes to an end
        "other.py": "",
    }
    for name, source in sources.items():
        path = tmp_path / "tool" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)
    code.hash_code.cache_clear()
    yield tmp_path / "tool"
    code.hash_code.cache_clear()


@pytest.mark.parametrize(("edited", "changes"), [("room/c.py", True), ("room/__init__.py", True), ("other.py", False)])
def test_what_is_imported_counts_and_nothing_else(package, edited: str, changes: bool) -> None:
    before = code.hash_code("tool.a")
    (package / edited).write_text("value = 1\n")
    code.hash_code.cache_clear()
    assert (code.hash_code("tool.a") != before) == changes


def test_an_unknown_module_is_refused(package) -> None:
    with pytest.raises(LookupError, match="tool.b"):
        code.hash_code("tool.b")


def test_what_decides_no_result_is_left_out_with_what_it_imports(package) -> None:
    assert list(code.find_code("tool.a", without=("tool.room.b",))) == ["tool.a", "tool.room"]
    assert list(code.find_code("tool.a", without=("tool.room",))) == ["tool.a"]


def test_rows_of_prunings_depend_on_every_method_but_not_on_how_they_are_judged_or_told() -> None:
    found = code.find_code(*kept_prunings.CODE, without=kept_prunings.TOLD)
    assert {"labutils.pruning.selection", "labutils.pruning.reconstruction", "labutils.evaluation.readout"} <= set(
        found
    )
    rooms = {name.split(".")[1] for name in found}
    assert rooms.isdisjoint({"stats", "claims", "plots", "attribution", "multilevel"})
    assert not any(name.startswith("labutils.pruning.forecast") for name in found)
    assert "labutils.core.parquet" not in found  # how a table is written says nothing of its rows
