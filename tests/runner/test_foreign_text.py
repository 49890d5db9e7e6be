"""Quotations are found whatever their case and signs, in lines, objects and folders; shorter strings are none."""

import json
from pathlib import Path

import pytest

from labutils.runner.foreign_text import find_quotation

TEXT = "Call me Ishmael. Some years ago—never mind how long precisely—having little or no money in my purse"


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    (tmp_path / "whale.txt").write_text(f"one\n{TEXT}\ntwo three")
    (tmp_path / "folder").mkdir()
    record = {"a": ["eins zwei drei vier fünf sechs sieben acht neun"], "b": {"c": 'say "x"\nfive six'}, "n": 1}
    (tmp_path / "folder" / "pairs.jsonl").write_text(json.dumps(record) + "\n\n")
    (tmp_path / "folder" / "weights.bin").write_bytes(b"\xff\x00")
    return [tmp_path / "whale.txt", tmp_path / "folder"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("he said: some YEARS ago, never mind how long precisely!", "some years ago never mind how long precisely"),
        ("some years ago never\n> mind how **long** precisely", "some years ago never mind how long precisely"),
        ("zwei drei vier fünf sechs sieben acht neun zehn", "zwei drei vier fünf sechs sieben acht neun"),
        ("some years ago, never mind how long", None),
        ("years precisely some ago never mind how long precisely", None),
        ("", None),
    ],
)
def test_eight_words_in_a_row(sources: list[Path], written: str, found: str | None) -> None:
    assert find_quotation(["nothing", written], sources) == found


def test_words_of_different_entries_are_no_quotation(sources: list[Path]) -> None:
    assert find_quotation(["drei vier fünf sechs sieben acht neun say"], sources) is None
