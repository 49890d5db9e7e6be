"""Paths that a reader gives: as text or as `Path`, with `~` for the home folder, everywhere."""

from pathlib import Path

import pytest

import labutils as lab
from labutils.__main__ import main
from labutils.core.paths import expand, find_file, real_data
from labutils.data.words import read_concepts

TEXT = "".join(f"The committee met in room {number}.\n" for number in range(30))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_folder(home: Path) -> None:
    assert expand("~/a") == home / "a" == expand(Path("~/a")) and expand("~") == home
    assert expand("a~/b") == Path("a~/b")
    with pytest.raises(LookupError, match=r"~nobody-of-that-name/a.*Give the whole path"):
        expand("~nobody-of-that-name/a")


def test_files_and_the_folder_of_real_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "data").mkdir()
    (home / "data" / "a.txt").write_text(TEXT)
    for name in ("~/data/a.txt", Path("~/data/a.txt")):
        assert find_file(name) == (home / "data" / "a.txt").resolve()
    monkeypatch.setenv("LABUTILS_DATA", "~/data")
    assert real_data() == (home / "data").resolve() and find_file("a.txt").name == "a.txt"
    assert lab.load_texts("file:~/data/a.txt", n=1) == lab.load_texts(f"file:{home}/data/a.txt", n=1)


def test_words_and_ledgers(home: Path) -> None:
    (home / "mine.txt").write_text("river\nmill\n")
    assert read_concepts("~/mine.txt") == read_concepts(home / "mine.txt")
    with pytest.raises(LookupError, match=str(home)):
        lab.ledger("~/nothing")


def test_commands(home: Path, capsys: pytest.CaptureFixture) -> None:
    """A shell leaves the tilde of `--out=~/x` as it is."""
    assert main(["ledger", "~/run"]) == 2 and str(home / "run") in capsys.readouterr().err
    assert main(["run", "--notebooks=~/books"]) == 2 and str(home / "books") in capsys.readouterr().err
