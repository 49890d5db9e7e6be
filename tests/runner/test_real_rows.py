"""Rows of a real model: smaller, equal to the last digit, and enough for the contrasts of the verdicts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from real_run_folders import QUOTED, prepare, sweep_rows, write_run

import labutils as lab_
from labutils.runner import keep_pages, load_real_rows
from labutils.runner.real_rows import slim_rows


def none(texts: list[str]) -> bool:
    return False


@pytest.fixture
def real(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(lab)
    readme = prepare(lab)
    write_run(lab)
    keep_pages(lab / "run", "A model", notebooks=lab, readme=readme, real=lab / "real")
    return lab / "real"


def test_what_is_read_is_what_was_concluded_with(real: Path) -> None:
    pd.testing.assert_frame_equal(load_real_rows("01_a", real=real), sweep_rows(), check_exact=True)


def test_contrasts_of_the_stored_rows_are_those_of_the_run(real: Path) -> None:
    found = [
        lab_.contrast_interval(lab_.contrast(rows, {"wanda": ("magnitude/uniform", "wanda/uniform")}))
        for rows in (sweep_rows(), load_real_rows("01_a", real=real))
    ]
    assert (found[0].estimate, found[0].low, found[0].high) == (found[1].estimate, found[1].low, found[1].high)
    assert found[0].estimate > 0


def test_single_precision_only_where_nothing_is_lost(tmp_path: Path) -> None:
    rows = pd.DataFrame({"sparsity": [0.1, 0.4], "loss": [0.5, np.nan], "item": [0, 1], "ok": [True, False]})
    content, left_out = slim_rows(rows, is_quotation=none)
    (tmp_path / "rows.parquet").write_bytes(content)
    file = pq.ParquetFile(tmp_path / "rows.parquet")
    assert left_out == [] and file.num_row_groups == 1
    assert {field.name: str(field.type) for field in file.schema_arrow} == {
        "sparsity": "double",
        "loss": "float",
        "item": "int64",
        "ok": "bool",
    }


def test_rows_take_less_room() -> None:
    rows = pd.concat([sweep_rows().assign(part=part) for part in range(20)], ignore_index=True)
    assert len(slim_rows(rows.drop(columns="exact"), is_quotation=none)[0]) < 0.05 * rows.memory_usage(deep=True).sum()


def test_text_is_left_out_and_names_stay() -> None:
    rows = pd.DataFrame({"quote": [None, QUOTED], "long": ["x" * 300, "y"], "task": ["sst2", "trec"]})
    content, left_out = slim_rows(rows, is_quotation=lambda texts: QUOTED in texts)
    assert left_out == ["quote", "long"] and b"brown" not in content and b"sst2" in content


def test_what_is_not_stored_or_not_intact_is_refused(real: Path) -> None:
    with pytest.raises(LookupError, match=r"no rows of '09_x' on a real model are stored; stored are: 01_a"):
        load_real_rows("09_x", real=real)
    (real / "rows" / "01_a.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="is not the file that was recorded"):
        load_real_rows("01_a", real=real)
