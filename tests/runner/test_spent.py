"""Notes of what a notebook's calls have used."""

import json
import subprocess
import sys
import time
from pathlib import Path

from labutils.core import paths
from labutils.runner.spent import Notes, name_attempt

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
    assert notes.add_up("a-first") is None
    call(tmp_path, "a-first")
    first = notes.add_up("a-last")
    assert first["calls"] == 1 and first["wall_seconds"] > 0 and notes.add_up("a-first") is None
    call(tmp_path, "a-second")
    both = notes.add_up("a-last")
    assert both["calls"] == 2 and both["processor_seconds"] > first["processor_seconds"] > 0.5
    assert Notes(tmp_path, "02_b").add_up("a-last") is None
    assert notes.add_up("b-last") is None  # of other cells or parameters
    notes.remove()
    notes.remove()
    assert notes.add_up("a-last") is None


def test_names_of_calls_begin_alike_where_cells_and_parameters_do() -> None:
    inputs = {"cells_sha256": "1", "parameters": {"seed": 0}, "labutils_sha256": "2"}
    first, second = name_attempt(inputs), name_attempt(inputs | {"labutils_sha256": "3"})
    other = name_attempt(inputs | {"parameters": {"seed": 1}})
    assert first != second and first.partition("-")[0] == second.partition("-")[0] != other.partition("-")[0]
