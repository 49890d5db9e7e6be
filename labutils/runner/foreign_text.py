"""Running text of the data in what is about to be stored: texts that are not ours are named and counted, never kept."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labutils.core.text_files import read_text

WORDS = 8  # in a row; shorter strings, such as names of data sets and single words, are no text
TEXT_FILES = (".txt", ".jsonl")  # what texts and tasks of a reader are read from


def find_quotation(written: Iterable[str], sources: Iterable[Path]) -> str | None:
    """The first eight or more words in a row that `written` shares with the files, or None.

    Case, signs and the width of spaces do not count.

    Args:
        written: what is about to be stored.
        sources: files `.txt` and `.jsonl`, and folders of such; others hold no texts.

        find_quotation(["It said: call me Ishmael some years ago never mind how long"], [Path("whale.txt")])
    """
    wanted = {run for text in written for run in _runs(_words(text))}
    if not wanted:
        return None
    first_words = {run[0] for run in wanted}
    for path in (path for source in sources for path in text_files(source)):
        for words in map(_words, _strings_of(path)):
            for run in _runs(words, first_words):
                if run in wanted:
                    return " ".join(run)
    return None


def text_files(source: Path) -> list[Path]:
    """The files of texts that a path names: itself, or those below a folder."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    return [path for path in files if path.suffix in TEXT_FILES and path.is_file()]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(words: list[str], first_words: set[str] | None = None) -> Iterator[tuple[str, ...]]:
    for place in range(len(words) - WORDS + 1):
        if first_words is None or words[place] in first_words:
            yield tuple(words[place : place + WORDS])


def _strings_of(path: Path) -> Iterator[str]:
    text = read_text(path)
    if path.suffix == ".txt":
        yield text
        return
    for line in text.splitlines():
        if line.strip():
            yield from _strings_in(json.loads(line))


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _strings_in(entry)
