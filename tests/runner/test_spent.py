"""Notes of what a notebook's calls have used."""

import json
import subprocess
import sys
import time
from pathlib import Path

from labutils.core import paths
from labutils.runner.spent import Notes

CALL = """
import sys, time
from pathlib import Path
from labutils.runner.spent import Notes
Notes(Path(sys.argv[1]), "01_a").keep(sys.argv[2], every=0.05)
end = time.monotonic() + 60
while time.monotonic() < end: sum(range(1000))
"""


def call(run: Path, attempt: str) -> None:
    """A process that keeps notes and is killed when there are some of it."""
    process = subprocess.Popen([sys.executable, "-c", CALL, str(run), attempt], cwd=paths.REPOSITORY)
    try:
        for _ in range(600):
            note = run / ".spent" / "01_a" / f"{attempt}.json"
            if note.exists() and json.loads(note.read_text())["processor_seconds"] > 0.5:
                return
            time.sleep(0.05)
        raise AssertionError("no notes were written")
    finally:
        process.kill()
        process.wait()


def test_calls_that_were_killed_are_added_up(tmp_path: Path) -> None:
    notes = Notes(tmp_path, "01_a")
    assert notes.add_up(without="first") is None
    call(tmp_path, "first")
    first = notes.add_up(without="last")
    assert first["calls"] == 1 and first["wall_seconds"] > 0 and notes.add_up(without="first") is None
    call(tmp_path, "second")
    both = notes.add_up(without="last")
    assert both["calls"] == 2 and both["processor_seconds"] > first["processor_seconds"] > 0.5
    assert Notes(tmp_path, "02_b").add_up(without="last") is None
    notes.remove()
    notes.remove()
    assert notes.add_up(without="last") is None
