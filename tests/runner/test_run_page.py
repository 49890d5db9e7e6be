"""The page of a run: everything that ended is on it, escaped, with links that lead into the run folder."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from labutils.claims.ledger import write_ledger
from labutils.claims.verdicts import Verdict
from labutils.runner.run_page import PAGE, keep_run_page, write_run_page

OUTPUTS = {"rows.parquet": "", "01_a.ipynb": "", "01_a.html": ""}
DONE = {"status": "succeeded", "answer": "It gains <0.1>", "wall_seconds": 61.0, "outputs": OUTPUTS}
FAILED = {
    "status": "failed", "wall_seconds": 7300.0, "outputs": {},
    "failure": {"cell": 3, "first_line": "<b>", "message": "ValueError: <none>", "kept": []},
}  # fmt: skip


def verdict(**about: object) -> Verdict:
    given = {"claim": "C04", "statement": "A & B", "outcome": "supported", "first_outcome": "supported"}
    given |= {"scope": {"model": "m"}, "estimate": 0.2, "low": 0.1, "high": 0.3, "unit": "nats", "p_value": 0.001}
    return Verdict(**(given | about))


def record(run: Path, stem: str, about: dict) -> None:
    (run / stem).mkdir(parents=True)
    (run / stem / "record.json").write_text(json.dumps(about))


def test_answers_failures_and_times_are_told_and_escaped() -> None:
    page = write_run_page("a <run>", {"01_a": DONE, "02_b": FAILED}, pd.DataFrame())
    assert "1 of 2 notebooks succeeded" in page and "Run a &lt;run&gt;" in page and "It gains &lt;0.1&gt;" in page
    assert "cell 3 (&lt;b&gt;)" in page and "ValueError: &lt;none&gt;" in page
    assert "61 s" in page and "2.0 h" in page and 'href="01_a/rows.parquet"' in page and "02_b/rows" not in page
    assert "Verdicts" not in page and not re.search(r"(src|href)=.https?:", page) and "<script" not in page


def test_verdicts_are_those_after_correction(tmp_path: Path) -> None:
    record(tmp_path / "run", "01_a", DONE)
    write_ledger(tmp_path / "run" / "ledger.jsonl", [verdict(), verdict(claim="C05", p_value=0.04)])
    keep_run_page(tmp_path / "run")
    page = (tmp_path / "run" / PAGE).read_text()
    assert "A &amp; B" in page and "+0.20 nats [0.10, 0.30]" in page and "2 claims judged" in page
    assert 'href="02_pruning_strategy/02_pruning_strategy.html"' in page


def test_a_ledger_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    record(tmp_path, "01_a", DONE)
    write_ledger(tmp_path / "ledger.jsonl", [verdict(), verdict()])
    keep_run_page(tmp_path)
    assert "2 verdicts on C04" in (tmp_path / PAGE).read_text()


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_without_a_record_there_is_no_page(tmp_path: Path, name: str) -> None:
    if name == "empty":
        (tmp_path / name).mkdir()
    keep_run_page(tmp_path / name)
    assert not (tmp_path / name / PAGE).exists()
