"""The benchmark of the search over blocks, on a small model: the same choices, runs as they can be counted by hand."""

import importlib.util
import json
import sys
from pathlib import Path

from labutils.core import paths

SCRIPT = paths.REPOSITORY / "benchmarks" / "depth_search.py"


def load_script(monkeypatch):
    """The benchmark as a module; it finds what it shares with others beside it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("depth_search", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_searches_agree_and_their_runs_are_counted(tmp_path: Path, monkeypatch) -> None:
    out, kept = tmp_path / "result.json", tmp_path / "kept.json"
    asked = ["--blocks", "2", "--sequences", "20", "--length", "16", "--batch", "4", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *asked, "--kept", str(kept)])
    script = load_script(monkeypatch)
    script.main()
    result = json.loads(out.read_text())
    assert result["same_choices"] and result["naive"]["removed"] == result["ours"]["removed"]
    # of six blocks four candidates, each with the five others; of five three, each with the four others
    assert result["naive"]["block_runs"] == 4 * 5 + 3 * 4 and not result["naive"]["resumed"]
    assert len(json.loads(kept.read_text())) == 4 + 3 + 1
    # read to the end, the first step runs 4 candidates' later blocks (4 + 3 + 2 + 1) and 4 blocks before them
    assert 0 < result["ours"]["block_runs"] <= (10 + 4) + (6 + 3) + 1
    assert result["share_of_runs"] == result["ours"]["block_runs"] / 32
    for owner, name in ((script.lab, "sequence_losses"), (script, "greedy_search")):  # nothing is read a second time
        monkeypatch.setattr(owner, name, None)
    script.main()
    again = json.loads(out.read_text())
    last = again["naive"]["seconds"]
    assert again["naive"] == {**result["naive"], "resumed": True, "seconds": last}
    assert again["ours"] == {**result["ours"], "resumed": True} and not result["ours"]["resumed"]
