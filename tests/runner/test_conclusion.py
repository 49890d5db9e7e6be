"""`conclude`: three files, their hashes, and a table; numbers that JSON can say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.core.files import hash_file
from labutils.core.paths import study_folder
from labutils.core.usage import processor_seconds
from labutils.runner import conclude


def verdict(claim: str = "C01", **values: Any) -> Verdict:
    about = {"statement": "so", "outcome": "supported", "first_outcome": "supported", "scope": {"model": "m"}}
    return Verdict(claim=claim, **about | values)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path))
    monkeypatch.setenv("LABUTILS_NOTEBOOK", "01_a")
    return tmp_path / "01_a"


def test_files_and_hashes_agree(folder: Path) -> None:
    rows = pd.DataFrame({"item": [0, 1], "loss": [0.25, 0.5]})
    verdicts = [verdict("C01"), verdict("C02")]
    table = conclude(rows, verdicts, " Yes. ")
    result = json.loads((folder / "result.json").read_text())
    assert table["claim"].tolist() == ["C01", "C02"]
    assert result["answer"] == "Yes." and result["n_rows"] == 2 and result["verdicts"] == {"supported": 2}
    assert result["rows_sha256"] == hash_file(folder / "rows.parquet")
    assert result["ledger_sha256"] == hash_file(folder / "ledger.jsonl")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "rows.parquet"), rows)


def test_what_the_study_used_is_told(folder: Path) -> None:
    conclude(pd.DataFrame({"item": [0]}), [], "Yes.")
    result = json.loads((folder / "result.json").read_text())
    assert result["processor_seconds"] == pytest.approx(processor_seconds(), abs=2) and result["peak_megabytes"] > 10
    assert result["threads"] == torch.get_num_threads() and result["device"]


def test_numbers_keep_all_their_digits_and_nan_is_refused(folder: Path) -> None:
    scope = {"sparsity": np.float64(0.1) + 0.2, "n": np.int64(3), "exact": np.bool_(True)}
    conclude(pd.DataFrame({"x": [1]}), [verdict(scope=scope)], "Yes.")
    line = json.loads((folder / "ledger.jsonl").read_text())
    assert (line["scope_sparsity"], line["scope_n"], line["scope_exact"]) == (0.1 + 0.2, 3, True)
    assert line["estimate"] is None
    with pytest.raises(ValueError, match="JSON"):
        conclude(pd.DataFrame({"x": [1]}), [verdict(estimate=float("nan"))], "Yes.")


def test_a_study_without_verdicts_is_allowed(folder: Path) -> None:
    assert conclude(pd.DataFrame({"x": [1]}), [], "Not testable here.").empty
    assert (folder / "ledger.jsonl").read_text() == ""


@pytest.mark.parametrize("answer", ["", "  ", "two\nlines"])
def test_the_answer_is_one_line(folder: Path, answer: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        conclude(pd.DataFrame({"x": [1]}), [], answer)
    assert not folder.exists()


def refuse(*_: object) -> None:
    raise OSError("no space left")


@pytest.mark.parametrize("broken", ["a verdict holds NaN", "the answer has two lines", "the disk is full"])
def test_a_conclusion_that_fails_leaves_no_result_of_an_earlier_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    rows = pd.DataFrame({"x": [1]})
    conclude(rows, [verdict()], "Yes.")
    assert (folder / "result.json").exists()
    if broken == "the disk is full":
        monkeypatch.setattr("labutils.runner.conclusion.write_evidence", refuse)
    answer = "two\nlines" if "answer" in broken else "No."
    with pytest.raises((ValueError, OSError)):
        conclude(rows.assign(x=2), [verdict(estimate=float("nan") if "NaN" in broken else 1.0)], answer)
    assert not (folder / "result.json").exists()


def test_without_the_runner_results_go_to_their_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABUTILS_RUN_FOLDER", raising=False)
    monkeypatch.delenv("LABUTILS_NOTEBOOK", raising=False)
    assert study_folder() == paths.REPOSITORY / "results" / "interactive" / "notebook"
