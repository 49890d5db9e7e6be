"""What a notebook's calls have used: also those that were killed before they could tell.

A kernel notes every few seconds how long it has run. The notes of calls that did not come to their end are added up in
the record of the one that does, and are then removed.
"""

import json
import shutil
import threading
import time
from pathlib import Path

from labutils.core.files import write_atomically
from labutils.core.usage import processor_seconds

FOLDER = ".spent"  # in the run folder
EVERY_SECONDS = 20.0


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

    def add_up(self, *, without: str) -> dict[str, float | int] | None:
        """How many calls there were besides the one of that name, and their seconds; None where there was none.

        Notes(Path("results/lab"), "01_a").add_up(without="1f0e")  # {"calls": 1, "wall_seconds": 61.2, …}
        """
        found = [json.loads(path.read_text()) for path in self.folder.glob("*.json") if path.stem != without]
        if not found:
            return None
        seconds = {key: round(sum(each[key] for each in found), 2) for key in ("wall_seconds", "processor_seconds")}
        return {"calls": len(found), **seconds}

    def remove(self) -> None:
        """Forget all calls."""
        shutil.rmtree(self.folder, ignore_errors=True)
