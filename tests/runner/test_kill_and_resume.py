"""Runs that are killed with SIGKILL go on by `--resume` as if nothing had happened: a few of the benchmark's trials."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labutils.core import paths

SCRIPT = paths.REPOSITORY / "benchmarks" / "kill_and_resume.py"


@pytest.mark.skipif(sys.platform != "linux", reason="the trial looks at processes in /proc")
def test_killed_runs_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, str(SCRIPT), "--trials", "2", "--seed", "12", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(out.read_text())
    assert result["identical"] == result["trials"] == 2 and result["killed"].get("nothing", 0) == 0


def test_the_stored_trial_was_long_enough_and_lost_nothing() -> None:
    stored = json.loads((paths.REPOSITORY / "benchmarks" / "results" / "kill_and_resume.json").read_text())
    assert stored["trials"] >= 100 and stored["identical"] == stored["trials"] and stored["failed"] == []
    assert stored["while_writing"] >= 30
