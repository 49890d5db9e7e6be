"""What fails half-way leaves files and folders as they were."""

from pathlib import Path

import pytest

from labutils.core.files import unchanged_on_failure


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file below with its bytes, every folder with None."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in found}


@pytest.mark.parametrize("error", [ValueError("full"), KeyboardInterrupt()])
def test_changed_new_and_removed_files_are_put_back(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "kept" / "deep").mkdir(parents=True)
    for name in ("one", "kept/two", "kept/deep/three", "elsewhere"):
        (tmp_path / name).write_text(name)
    before = content(tmp_path)
    with (
        pytest.raises(type(error)),
        unchanged_on_failure(tmp_path / "one", tmp_path / "kept", tmp_path / "new" / "four"),
    ):
        (tmp_path / "one").write_text("changed")
        (tmp_path / "kept" / "two").unlink()
        (tmp_path / "kept" / "five" / "six").mkdir(parents=True)
        (tmp_path / "kept" / "five" / "six" / "seven").write_text("new")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "four").write_text("new")
        raise error
    assert content(tmp_path) == before


def test_without_a_failure_all_stays_as_written(tmp_path: Path) -> None:
    with unchanged_on_failure(tmp_path / "one"):
        (tmp_path / "one").write_text("new")
    assert (tmp_path / "one").read_text() == "new"
