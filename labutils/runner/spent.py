"""What a notebook's calls have used: also those that were killed before they could tell.

A kernel notes every few seconds how long it has run. The notes of calls that did not come to their end are added up in
the record of the one that does, where cells and parameters are the same, and are then removed.
"""

import json
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labutils.core.files import hash_json, write_atomically
from labutils.core.usage import processor_seconds

FOLDER = ".spent"  # in the run folder
EVERY_SECONDS = 20.0


def name_attempt(inputs: Mapping[str, Any]) -> str:
    """A name for a call that no other has; it begins alike where cells and parameters are the same."""
    return f"{hash_json([inputs['cells_sha256'], inputs['parameters']])[:12]}-{uuid.uuid4().hex}"


def in_all(record: Mapping[str, Any], key: str) -> float | None:
    """Seconds of a record, and of the calls before it that did not come to their end; None where it has none.

    >>> in_all({"wall_seconds": 60.0, "earlier": {"calls": 1, "wall_seconds": 30.0}}, "wall_seconds")
    90.0
    """
    own, earlier = record.get(key), record.get("earlier") or {}
    return None if own is None else own + earlier.get(key, 0.0)


class Notes:
    """The notes on one notebook of a run, a file per call."""

    def __init__(self, run: Path, stem: str):
        self.folder = run / FOLDER / stem

    def keep(self, attempt: str, every: float = EVERY_SECONDS) -> None:
        """Note from now on, until this process ends, what it has used.

        Notes(Path("results/lab"), "01_a").keep("1f0e")
        """
        started = time.monotonic()

        def note() -> None:
            while True:
                used = {"wall_seconds": time.monotonic() - started, "processor_seconds": processor_seconds()}
                write_atomically(self.folder / f"{attempt}.json", json.dumps(used))
                time.sleep(every)

        threading.Thread(target=note, daemon=True, name="labutils notes").start()

    def add_up(self, attempt: str) -> dict[str, float | int] | None:
        """How many calls like this one there were besides it, and their seconds; None where there was none.

        Notes(Path("results/lab"), "01_a").add_up("1f0e-2a")  # {"calls": 1, "wall_seconds": 61.2, …}
        """
        alike = self.folder.glob(f"{attempt.partition('-')[0]}-*.json")
        found = [json.loads(path.read_text()) for path in alike if path.stem != attempt]
        if not found:
            return None
        seconds = {key: round(sum(each[key] for each in found), 2) for key in ("wall_seconds", "processor_seconds")}
        return {"calls": len(found), **seconds}

    def remove(self) -> None:
        """Forget all calls."""
        shutil.rmtree(self.folder, ignore_errors=True)
