"""What a notebook has found so far, kept after every cell: rows and verdicts survive a cell that fails.

A notebook that comes to its end has written all of it by `conclude`, and what was kept is removed.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from labutils.claims.ledger import FILE as LEDGER
from labutils.claims.ledger import write_ledger
from labutils.claims.verdicts import Verdict
from labutils.core.files import write_atomically
from labutils.core.parquet import frame_to_parquet

FOLDER = "kept"  # in the notebook's folder


class WorkKeeper:
    """Writes the tables and verdicts that a notebook's names are bound to: `<name>.parquet` and `ledger.jsonl`."""

    def __init__(self, names: Mapping[str, Any], folder: Path) -> None:
        self._names, self._folder = names, folder
        self._frames: dict[str, pd.DataFrame] = {}
        self._verdicts: list[Verdict] = []

    def keep(self, *_: object) -> None:
        """Write what is new since the last cell; a table that no file can hold is named on standard error."""
        own = {name: value for name, value in self._names.items() if not name.startswith("_") and name != "Out"}
        for name, value in own.items():
            if isinstance(value, pd.DataFrame) and self._frames.get(name) is not value:
                self._frames[name] = value
                self._write_frame(name, value)
        verdicts = list({id(verdict): verdict for verdict in _find_verdicts(own.values())}.values())
        if verdicts != self._verdicts:
            self._verdicts = verdicts
            write_ledger(self._folder / LEDGER, verdicts)

    def _write_frame(self, name: str, frame: pd.DataFrame) -> None:
        try:
            write_atomically(self._folder / f"{name}.parquet", frame_to_parquet(frame))
        except ValueError as error:
            print(f"labutils: the table {name!r} cannot be kept: {error}", file=sys.stderr)


def _find_verdicts(values: Iterable[Any]) -> Iterator[Verdict]:
    """The verdicts among values, and in lists and mappings of such."""
    for value in values:
        if isinstance(value, Verdict):
            yield value
        elif isinstance(value, Mapping):
            yield from (entry for entry in value.values() if isinstance(entry, Verdict))
        elif isinstance(value, list | tuple):
            yield from (entry for entry in value if isinstance(entry, Verdict))
