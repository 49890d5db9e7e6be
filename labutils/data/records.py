"""Units of text: the records of a file or data set, where each of them stands, and the documents in them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from labutils.core.text_files import read_text


@runtime_checkable
class Records(Protocol):
    """A list of dictionaries, or a `datasets.Dataset`, which behaves like one without holding it in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class FileRecords(Sequence):
    """The records of a text file.

    Attributes:
        name: of the file.
        rows: one dictionary per line that is not blank.
        lines: the number of each row's line, from 1.
    """

    name: str
    rows: list[dict]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]


def read_lines(path: Path) -> FileRecords:
    """One record per non-blank line; the text keeps its leading and trailing spaces, which some corpora carry.

        records = read_lines(Path("reviews.jsonl"))

    Raises:
        ValueError: a folder, another ending than .txt or .jsonl, a file that is not in UTF-8, or a line that is no JSON
            object; names the line.
    """
    if not path.is_file():
        raise ValueError(f"{path} is a folder; name one file, or use hub:<folder> for a data set in the hub's format")
    kind = path.suffix.lower()
    if kind not in (".txt", ".jsonl"):
        raise ValueError(
            f"{path.name}: files must be .txt (one unit per line) or .jsonl (one object per line); tables in .csv, "
            f".json or .parquet are read with hub:<folder>/{path.name}"
        )
    numbered = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    read = (lambda line, place: {"text": line}) if kind == ".txt" else _read_object
    rows = [read(line, f"{path.name}, line {number}") for number, line in numbered]
    return FileRecords(path.name, rows, [number for number, _ in numbered])


def place_of(records: Records, index: int, source: str) -> str:
    """Where a record stands, for a message: "reviews.jsonl, line 8", or "hub:owner/name, row 7 (counted from 0)"."""
    if isinstance(records, FileRecords):
        return f"{records.name}, line {records.lines[index]}"
    return f"{source}, row {index} (counted from 0)"


def texts_of(record: dict, place: str) -> list[str]:
    """The documents in one record: its `text`, or both sentences of a pair; without those that are blank.

    >>> texts_of({"sentence1": "Rain.", "sentence2": "Sun."}, "pairs.jsonl, line 1")
    ['Rain.', 'Sun.']

    Args:
        place: where the record stands, for the message.

    Raises:
        ValueError: the record has no such columns, or a value of them is null, no text, or no valid one.
    """
    has_pair = {"sentence1", "sentence2"} <= record.keys()
    if "text" not in record and not has_pair:
        found = ", ".join(map(str, record)) or "none"
        raise ValueError(f"{place}: text needs a column 'text', or 'sentence1' and 'sentence2'; found {found}")
    columns = ["sentence1", "sentence2"] if has_pair and not isinstance(record.get("text"), str) else ["text"]
    for column in columns:
        _check_text(record[column], f"{place}: {column!r}")
    return [record[column] for column in columns if record[column].strip()]


def _check_text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        kind = "null" if value is None else f"{value!r:.40}, of type {type(value).__name__}"
        raise ValueError(f"{what} is {kind}, where a text is needed: correct the row, or leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} holds half of a surrogate pair ({value[error.start]!r}, character {error.start}), which is no "
            "text: write the whole character, or leave it out"
        ) from error


def _read_object(line: str, place: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # also numbers of too many digits, and objects too deep
        raise ValueError(f"{place}: not a JSON object ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{place}: a JSON object is expected, not {type(record).__name__}")
    return record
