"""Rows of text that are no text, and names of files with signs in them."""

import json
from pathlib import Path

import pytest
from helpers import write_jsonl

from labutils.data.corpora import load_texts
from labutils.data.sources import short_source

SIGNS = ["a#1", "a?", "a b", "~a", "a%20b", "a[1]", "a*", "ä→"]


def rows(number: int, changed: dict, base: str = "text") -> list[dict]:
    """Twelve rows of text, one of them changed."""
    return [{base: f"text {i}"} if i != number else changed for i in range(12)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": None}, "line 8: 'text' is null"),
        ({"text": 3.5}, r"line 8: 'text' is 3\.5, of type float"),
        ({"text": ["a", "b"]}, "line 8: 'text' is .'a', 'b'., of type list"),
        ({"body": "x", "title": "y"}, "line 8: text needs a column 'text'.*found body, title"),
        ({}, "line 8: .*found none"),
        ({"sentence1": "a", "sentence2": None}, "line 8: 'sentence2' is null"),
        ({"sentence1": "a"}, "line 8: text needs .*found sentence1"),
        ({"text": "\ud83d"}, "line 8: 'text' holds half of a surrogate pair"),
    ],
)
def test_a_row_without_text_is_named_whichever_rows_are_drawn(row: dict, message: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", rows(6, row))
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + path.read_text())  # blank lines count, so that an editor shows the line that is named
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=message):
            load_texts(source, split=split, n=1)


def test_blank_texts_are_skipped_as_blank_lines_are(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", rows(3, {"text": " "}))
    assert len(load_texts(f"{source}#all")) == 11
    pairs = write_jsonl(tmp_path / "b.jsonl", [{"sentence1": "one", "sentence2": ""}] * 2)
    assert load_texts(f"{pairs}#all") == ["one", "one"]
    with pytest.raises(ValueError, match="holds no text in 'train': all its units are blank"):
        load_texts(write_jsonl(tmp_path / "c.jsonl", [{"text": ""}] * 5))


@pytest.mark.parametrize("line", ["[" * 100_000, '{"n": ' + "1" * 5000 + "}", "nul", '{"text": "a"', "\x00{}"])
def test_a_line_that_cannot_be_read_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + line)
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: "):
        load_texts(f"file:{tmp_path / 'a.jsonl'}")


@pytest.mark.parametrize("name", SIGNS)
def test_signs_in_names_of_files(name: str, tmp_path: Path) -> None:
    """Files beside it whose names a pattern would match are left alone."""
    for other in ("a", "a1", "ab", name):
        (tmp_path / f"{other}.txt").write_text("\n".join(f"{other} {i}" for i in range(10)))
    for part, n in (("", 8), ("#all", 10)):
        texts = load_texts(f"file:{tmp_path / name}.txt{part}")
        assert len(texts) == n and all(text.startswith(f"{name} ") for text in texts)
        assert short_source(f"file:{tmp_path / name}.txt{part}") == f"{name}.txt"


def test_endings_of_windows_and_names_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "A.TXT").write_text("one\ntwo")
    assert sorted(load_texts(f"file:{tmp_path / 'A.TXT'}#all")) == ["one", "two"]
    with pytest.raises(LookupError, match="cannot be looked for"):
        load_texts(f"file:{'x' * 300}.txt")
    with pytest.raises(ValueError, match=r"'#2.txt' is not known; there is no file '.*b#2.txt'; files take '#all'"):
        load_texts(f"file:{tmp_path}/b#2.txt")


# Files of a folder in the hub's format


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.mark.parametrize("name", SIGNS)
def test_signs_in_names_of_hub_files_and_folders(name: str, folder: Path) -> None:
    for place, file in ((folder / "plain", name), (folder / name, "t")):
        for other in ("a1", "b"):
            for beside in (place / f"{other}.csv", place.parent / other / f"{file}.csv"):
                beside.parent.mkdir(exist_ok=True, parents=True)
                beside.write_text("text\nanother\n")
        (place / f"{file}.csv").write_text("text\n" + "".join(f"{i} {name}\n" for i in range(10)))
        texts = load_texts(f"hub:{place}/{file}.csv")
        assert len(texts) == 8 and all(text.endswith(f" {name}") for text in texts)


def test_a_folder_named_like_a_pattern_is_refused(folder: Path) -> None:
    (folder / "a*").mkdir()
    (folder / "a*" / "t.csv").write_text("text\nx\n")
    with pytest.raises(LookupError, match="stand for other folders too"):
        load_texts(f"hub:{folder}/a*")


@pytest.mark.parametrize(
    ("name", "data", "kind", "message"),
    [
        ("a.csv", "text\na\n1,2,3\n", LookupError, r"a\.csv.*Expected 1 fields in line 3"),
        ("a.csv", "", LookupError, "No columns to parse"),
        ("a.csv", "text\nx\nGröße\n".encode("latin-1"), ValueError, r"a\.csv, line 3: the byte 0xf6"),
        ("a.parquet", "no parquet", LookupError, "Parquet magic bytes"),
        ("a.jsonl", '{"text": [', LookupError, "could not be loaded: JSON parse error"),
        (
            "a.csv",
            "body,title\n" + "x,y\n" * 9,
            ValueError,
            r"row \d .counted from 0.: text needs .* found body, title",
        ),
        ("a.csv", "text\n" + "7\n" * 9, ValueError, r"row \d .*'text' is 7, of type int"),
        ("a.csv", "text,n\n" + "x,1\n" * 3 + ",1\n" + "x,1\n" * 9, ValueError, r"row 3 .*'text' is null"),
        (
            "a.jsonl",
            "\n".join(json.dumps({"text": None if i == 2 else "a"}) for i in range(9)),
            ValueError,
            "row 2 .*nul",
        ),
    ],
)
def test_files_of_the_hub_that_hold_no_text(
    name: str, data: str | bytes, kind: type[Exception], message: str, folder: Path
) -> None:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(kind, match=message):
        load_texts(f"hub:{folder / name}")
