"""Stored rows: the same tables come back, with their origin, and nothing else passes for them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from labutils.core import paths
from labutils.runner.stored_rows import describe_origin, load_rows, read_origin, store_rows

PLAN = {"tasks": ["a", "b"], "rates": [0.001, 0.01], "width": None}
TABLES = {
    "items": pd.DataFrame({"arm": ["kd", "ild"], "item": [0, 1], "loss": [1 / 3, 0.0]}),
    "runs": pd.DataFrame({"arm": ["kd"], "rate": [0.001]}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store_rows(TABLES, tmp_path / "rows", plan=PLAN, model_sha256="abc")
    return tmp_path / "rows"


def test_tables_come_back_with_their_types(folder: Path) -> None:
    found = load_rows(folder, PLAN, model_sha256="abc")
    assert load_rows(folder).keys() == found.keys()  # whatever is stored
    pd.testing.assert_frame_equal(found["runs"], TABLES["runs"], check_dtype=False)
    pd.testing.assert_frame_equal(found["items"], TABLES["items"], check_dtype=False, rtol=1e-6)
    assert (
        found["items"]["loss"].dtype == "float64" and found["runs"]["rate"].item() == 0.001
    )  # not in single precision


def test_the_origin_says_what_when_and_where(folder: Path) -> None:
    origin = read_origin(folder)
    assert origin["plan"] == PLAN and origin["rows"] == {"items": 2, "runs": 1} and origin["model_sha256"] == "abc"
    assert {"python", "torch", "transformers"} <= set(origin["versions"]) and "cores" in origin["machine"]
    sentence = describe_origin(folder)
    assert origin["date"] in sentence and origin["versions"]["torch"] in sentence and origin["machine"] in sentence


def test_rows_of_another_study_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"rates=\[0.001, 0.01\], not \[0.1\] \(1 differ"):
        load_rows(folder, PLAN | {"rates": [0.1]}, model_sha256="abc")
    with pytest.raises(ValueError, match="model_sha256='abc', not 'def'"):
        load_rows(folder, PLAN, model_sha256="def")
    with pytest.raises(ValueError, match="width=None, not None .2 differ"):
        load_rows(folder, {name: value for name, value in PLAN.items() if name != "width"} | {"extra": 1})


def test_altered_and_missing_rows_are_refused(folder: Path) -> None:
    TABLES["items"].assign(loss=0.0).to_parquet(folder / "items.parquet")
    with pytest.raises(ValueError, match="items.parquet in .* is not the file"):
        load_rows(folder, PLAN)
    with pytest.raises(LookupError, match="stored=None"):
        load_rows(folder / "nowhere", PLAN)


def test_a_kill_while_storing_leaves_no_origin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, content: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labutils.runner.stored_rows.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        store_rows(TABLES, folder, plan=PLAN)
    with pytest.raises(LookupError):
        read_origin(folder)


def test_what_comes_with_the_collection_is_found_by_name(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(paths, "DATA", folder.parent)
    assert read_origin("data:rows") == json.loads((folder / "origin.json").read_text())
