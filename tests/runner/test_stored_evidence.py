"""Rows and evidence of the stored notebooks: kept from a run, small, and enough to come to the same verdicts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labutils.claims.evidence import write_evidence
from labutils.claims.ledger import ledger
from labutils.claims.registry import judge
from labutils.runner import stored_evidence
from labutils.runner.stored_evidence import keep_rows, load_stored_rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for stem in ("02_strategy", "06_adaptation"):
        cells = [{"item": item, "draw": draw, "sparsity": 0.5} for item in range(9) for draw in range(3)]
        rows = pd.DataFrame(cells).assign(value=generator.normal(0.3, 0.1, 27))
        (tmp_path / "run" / stem).mkdir(parents=True)
        rows.to_parquet(tmp_path / "run" / stem / "rows.parquet")
        verdict = judge("C05", rows, dense_loss=1.0, scope={"model": "tiny"})
        write_evidence(tmp_path / "run" / stem / "evidence", [verdict])
    return tmp_path / "run"


def test_rows_and_verdicts_come_back(run: Path, tmp_path: Path) -> None:
    assert keep_rows(run, ["02_strategy", "06_adaptation"], data=tmp_path / "data") == ["02_strategy"]
    assert len(load_stored_rows("02_strategy", data=tmp_path / "data")) == 27
    (again,) = ledger(tmp_path / "data" / "evidence", from_rows=True).to_dict("records")
    assert (again["claim"], again["outcome"], again["run"]) == ("C05", "supported", "02_strategy")


def test_what_an_earlier_run_left_is_gone(run: Path, tmp_path: Path) -> None:
    left = tmp_path / "data" / "evidence" / "02_strategy" / "7-C99.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"old")
    keep_rows(run, ["02_strategy"], data=tmp_path / "data")
    assert not left.exists()


def test_too_much_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_evidence, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="at most"):
        keep_rows(run, ["02_strategy"], data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_other_notebooks_keep_already_counts(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept again in place of itself a notebook takes no more; beside another it does."""
    data = tmp_path / "data"
    keep_rows(run, ["02_strategy"], data=data)
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    monkeypatch.setattr(stored_evidence, "MOST_BYTES", size)
    keep_rows(run, ["02_strategy"], data=data)
    (run / "02_strategy").rename(run / "03_other")
    with pytest.raises(ValueError, match="at most"):
        keep_rows(run, ["03_other"], data=data)
    assert not (data / "evidence" / "03_other").exists() and not (data / "rows" / "03_other.parquet").exists()


def test_only_what_is_listed_is_copied(run: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "0-C99.parquet", "deep/more.txt"):
        path = run / "02_strategy" / "evidence" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    keep_rows(run, ["02_strategy"], data=tmp_path / "data")
    kept = sorted(path.name for path in (tmp_path / "data" / "evidence" / "02_strategy").iterdir())
    assert kept == ["0-C05.parquet", "evidence.json"]


@pytest.mark.parametrize("lost", ["evidence/evidence.json", "evidence/0-C05.parquet", "rows.parquet"])
def test_a_notebook_without_its_evidence_is_refused(run: Path, tmp_path: Path, lost: str) -> None:
    """Else what an earlier run kept would stand beside the new outputs."""
    (run / "02_strategy" / lost).unlink()
    with pytest.raises(LookupError, match="run it again|run the study again"):
        keep_rows(run, ["02_strategy"], data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_rows_that_are_not_stored_are_named() -> None:
    with pytest.raises(LookupError, match="no rows of '77_none' are stored"):
        load_stored_rows("77_none")
