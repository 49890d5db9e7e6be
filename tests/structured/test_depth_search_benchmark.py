"""The benchmark of the search over blocks, on a small model: the same choices, runs as they can be counted by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

from labutils.core import paths

SCRIPT = paths.REPOSITORY / "benchmarks" / "depth_search.py"


def test_the_searches_agree_and_their_runs_are_counted(tmp_path: Path) -> None:
    out, kept = tmp_path / "result.json", tmp_path / "kept.json"
    command = [sys.executable, str(SCRIPT), "--blocks", "2", "--sequences", "20", "--length", "16", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY), "OMP_NUM_THREADS": "1"}
    command += ["--batch", "4", "--kept", str(kept)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(out.read_text())
    assert result["same_choices"] and result["naive"]["removed"] == result["ours"]["removed"]
    # of six blocks four candidates, each with the five others; of five three, each with the four others
    assert result["naive"]["block_runs"] == 4 * 5 + 3 * 4 and len(json.loads(kept.read_text())) == 7
    # read to the end, the first step runs 4 candidates' later blocks (4 + 3 + 2 + 1) and 4 blocks before them
    assert 0 < result["ours"]["block_runs"] <= (10 + 4) + (6 + 3) + 1
    assert result["share_of_runs"] == result["ours"]["block_runs"] / 32
