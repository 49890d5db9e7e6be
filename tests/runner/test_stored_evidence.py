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


def test_rows_that_are_not_stored_are_named() -> None:
    with pytest.raises(LookupError, match="no rows of '77_none' are stored"):
        load_stored_rows("77_none")
