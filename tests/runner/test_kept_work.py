"""What a notebook found before it failed: kept after every cell, named in the record, gone where it succeeded."""

import json
import signal
from pathlib import Path

import pandas as pd
import pytest
from tiny_notebooks import command_line, read_manifest, wait_until, write_profile, write_study

from labutils.claims.ledger import ledger
from labutils.core.parquet import frame_to_parquet
from labutils.runner import run_studies
from labutils.runner.kept_work import WorkKeeper

FIND = """\
import pandas as pd
import labutils as lab
rows = pd.DataFrame({"item": [1, 2], "allocation": ["uniform", [0.5, 0.5]]})
found = [lab.not_testable("C01", "one", scope={"model": "m"})]"""
FIND_MORE = """\
c02 = lab.not_testable("C02", "two", scope={"model": "m"})
more = rows.assign(item=7)
raise ValueError("too late")"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
WAIT_ONCE = """\
waiting = Path(os.environ["STUDY_FOLDER"]) / "waiting"
first = not waiting.exists()
waiting.write_text("x")
if first: time.sleep(120)"""


@pytest.mark.usefixtures("frozen_inputs")
def test_rows_and_verdicts_survive_a_failing_cell_and_a_killed_kernel(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(lab, "01_raises", FIND, FIND_MORE)
    write_study(lab, "02_dies", FIND, DIE)
    write_study(lab, "03_fine", FIND)
    write_profile(lab, "lab", **{stem: {} for stem in ("01_raises", "02_dies", "03_fine")})
    records = run_studies(out=lab / "run", jobs=2, notebooks=lab)
    raised, died = records["01_raises"], records["02_dies"]
    assert raised["failure"]["kept"] == ["kept/ledger.jsonl", "kept/more.parquet", "kept/rows.parquet"]
    assert died["failure"]["kept"] == ["kept/ledger.jsonl", "kept/rows.parquet"]
    assert set(raised["failure"]["kept"]) <= set(read_manifest(lab / "run")["01_raises"]["outputs"])
    kept = lab / "run" / "01_raises" / "kept"
    assert pd.read_parquet(kept / "rows.parquet")["allocation"].tolist() == ["uniform", "[0.5, 0.5]"]
    assert ledger(kept / "ledger.jsonl")["claim"].tolist() == ["C01", "C02"]
    assert records["03_fine"]["status"] == "succeeded" and not (lab / "run" / "03_fine" / "kept").exists()
    assert len((lab / "run" / "ledger.jsonl").read_text().splitlines()) == 1
    assert "too late" in (told := capsys.readouterr().err) and "kept so far: kept/ledger.jsonl, kept/more" in told


def test_an_interrupted_run_is_recorded_and_goes_on(lab: Path) -> None:
    write_study(lab, "01_a", "import pandas as pd\nrows = pd.DataFrame({'item': [1]})", WAIT_ONCE)
    write_study(lab, "02_b")
    write_profile(lab, "lab", **{"01_a": {}, "02_b": {}})
    command = ("run", "--notebooks", lab, "--out", lab / "run", "--resume")
    process = command_line(lab, *command)
    wait_until(lambda: (lab / "waiting").exists())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert "interrupted in cell 4" in errors and "--resume goes on from here" in errors
    record = read_manifest(lab / "run")["01_a"]
    assert record["status"] == "interrupted" and record["failure"]["message"] == "stopped by an interruption"
    assert record["failure"]["kept"] == ["kept/rows.parquet"]
    assert list(read_manifest(lab / "run")) == ["01_a"] and (lab / "run" / "ledger.jsonl").read_text() == ""
    process = command_line(lab, *command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "01_a is computed again: its last run was interrupted" in errors, errors


def test_a_table_is_written_when_it_is_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {
        "rows": pd.DataFrame({"x": [1]}),
        "_hidden": pd.DataFrame({"x": [1]}),
        "odd": pd.DataFrame({"x": [[1, "a"]]}),
    }
    keeper = WorkKeeper(names, tmp_path)
    keeper.keep()
    written = (tmp_path / "rows.parquet").stat().st_mtime_ns
    keeper.keep()
    assert (tmp_path / "rows.parquet").stat().st_mtime_ns == written and not (tmp_path / "_hidden.parquet").exists()
    names["rows"] = pd.DataFrame({"x": [2]})
    keeper.keep()
    assert pd.read_parquet(tmp_path / "rows.parquet")["x"].tolist() == [2]
    assert not (tmp_path / "odd.parquet").exists() and "the table 'odd' cannot be kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (["uniform", [0.5, 0.25]], ["uniform", "[0.5, 0.25]"]),
        ([None, "a", (1, 2)], [None, "a", "[1, 2]"]),
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([1, "a"], ["1", "a"]),
        ([pd.Series([0.5]), "a"], ["[0.5]", "a"]),
        ([{"a": 1}, 2], ['{"a": 1}', "2"]),
        (["a", None], ["a", None]),
    ],
)
def test_columns_of_several_kinds_become_text(tmp_path: Path, values: list, stored: list) -> None:
    frame = pd.DataFrame({"item": range(len(values)), "value": pd.Series(values, dtype=object)})
    (tmp_path / "rows.parquet").write_bytes(frame_to_parquet(frame))
    found = pd.read_parquet(tmp_path / "rows.parquet")["value"]
    assert [None if value is None or value != value else value for value in found] == stored
    assert frame["value"].tolist()[0] is values[0] or json.dumps(values[0]) == json.dumps(frame["value"].tolist()[0])


def test_a_list_column_stays_one() -> None:
    frame = pd.DataFrame({"tokens": [[1, 2], None]})
    assert frame_to_parquet(frame) == frame_to_parquet(frame.copy())
    with pytest.raises(ValueError, match="fit no Parquet file: .*odd"):
        frame_to_parquet(pd.DataFrame({"odd": [[1, "a"]]}))
