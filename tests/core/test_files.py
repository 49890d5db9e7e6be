"""The fingerprint of the package covers every room, wherever the modules that compute it stand."""

import shutil
from pathlib import Path

import pytest

from labutils.core import paths
from labutils.core.files import hash_package

ROOMS = sorted(path.parent.name for path in paths.PACKAGE.glob("*/__init__.py"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources."""
    copy = tmp_path_factory.mktemp("copy") / "labutils"
    return shutil.copytree(paths.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))


def test_the_package_is_the_whole_of_it() -> None:
    assert paths.PACKAGE.name == "labutils" and (paths.PACKAGE / "__main__.py").exists()
    assert {"core", "runner", "pruning", "lab_models"} <= set(ROOMS)


@pytest.mark.parametrize("room", [*ROOMS, "."])
def test_an_edit_in_any_room_changes_the_fingerprint(room: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is = hash_package()
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert hash_package() == as_it_is
    (package / room / "added.py").write_text("")
    assert hash_package() != as_it_is
    (package / room / "added.py").unlink()
    (package / room / "notes.txt").write_text("no source")
    assert hash_package() == as_it_is
