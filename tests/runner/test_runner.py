"""The runner: nothing counts that did not conclude, nothing complete is repeated, nothing is corrupted."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_notebooks import (
    READ_LEDGERS,
    command_line,
    executed,
    read_manifest,
    wait_until,
    write_profile,
    write_study,
)

from labutils.__main__ import main
from labutils.core import paths
from labutils.runner import run_studies, runner

DIE_ONCE = """\
first = not (lab / "died").exists()
(lab / "died").touch()
if first: os.kill(os.getpid(), signal.SIGKILL)"""

WAIT_ONCE = """\
first = not (lab / "waiting").exists()
(lab / "waiting").write_text(str(os.getpid()))
if first: time.sleep(120)"""

WAIT_FOR_GO = """\
while not (lab / "go").exists(): time.sleep(0.05)"""

DRAW = """\
import sys
import matplotlib.pyplot as plt
plt.plot([1, 2])
print("halfway", file=sys.stderr)"""


def test_a_run_is_announced_once_it_is_checked_and_before_anything_runs(lab: Path, capsys) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})
    told = []

    def announce(studies, run):
        told.append(([study.stem for study in studies], run, (lab / "run").exists()))
        return ["about a minute"]

    asked = {"out": lab / "run", "notebooks": lab, "announce": announce}
    with pytest.raises(LookupError):
        run_studies(parameters={"sead": 1}, **asked)
    assert not told
    run_studies(**asked)
    shown = capsys.readouterr().err
    assert told == [(["01_a"], (lab / "run").resolve(), False)]
    assert shown.index("about a minute") < shown.index("[01_a 1/")


@pytest.mark.usefixtures("frozen_inputs")
def test_a_run_leaves_everything_a_reader_needs(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(lab, "01_a", DRAW)
    write_study(lab, "02_b")
    write_profile(lab, "lab", **{"01_a": {"scale": 2, "seed": 3}})
    record = run_studies(out=lab / "run", parameters={"loud": True}, notebooks=lab)["01_a"]
    assert record["status"] == "succeeded" and record["answer"] == "Yes, 3.5 | [0, 1]"
    assert record["inputs"]["parameters"] == {"seed": 3, "scale": 2.0, "words": ["a", "b"], "loud": True}
    assert record["wall_seconds"] > 0 < record["processor_seconds"] and record["peak_megabytes"] > 10
    folder = lab / "run" / "01_a"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    outputs = {"01_a.ipynb", "01_a.html", "figures/01_a-1.png", "rows.parquet", "ledger.jsonl"}
    assert names == outputs | {"result.json", "record.json", "evidence/evidence.json"}
    assert set(read_manifest(lab / "run")["01_a"]["outputs"]) == outputs
    assert pd.read_parquet(folder / "rows.parquet")["loss"].tolist() == pytest.approx([0.1, 0.6])
    assert (folder / "figures" / "01_a-1.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "01_a.html").read_text()
    assert "Is 01_a so?" in page and "<script" not in page and 'src="http' not in page
    manifest = (lab / "run" / "manifest.json").read_text()
    assert json.loads(manifest)["notebooks"]["01_a"]["seeds"] == {"seed": 3}
    assert str(Path.home()) not in manifest and str(lab) not in manifest
    check_lines(capsys.readouterr().err.splitlines())
    page = (lab / "run" / "index.html").read_text()
    assert "1 of 1 notebooks succeeded" in page and "Yes, 3.5 | [0, 1]" in page and 'href="01_a/01_a.html"' in page


def check_lines(lines: list[str]) -> None:
    """Without a terminal: a line per cell with its place and time, and what the cell itself reports."""
    assert lines[0] == "02_b is skipped: profile 'lab' does not list it"
    assert lines[1].startswith("[01_a 1/4 00:") and lines[1].endswith("] seed: int = 0  # seed of everything random")
    assert any(line.startswith("[01_a 3/4 00:") and line.endswith("halfway") for line in lines)
    assert lines[-1].endswith("] Yes, 3.5 | [0, 1]")


@pytest.mark.usefixtures("frozen_inputs")
def test_a_killed_kernel_is_reported_and_resume_repeats_nothing_complete(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(lab, "01_a")
    write_study(lab, "02_b", "x = 1", DIE_ONCE)
    write_study(lab, "99_last", READ_LEDGERS, after_all=True)
    write_profile(lab, "lab", **{stem: {"seed": 2} for stem in ("01_a", "02_b", "99_last")})
    run = lab / "run"
    command = ["run", "--notebooks", str(lab), "--out", str(run), "--jobs", "2", "--resume"]

    assert main(command) == 1
    errors = capsys.readouterr().err
    assert 'FAILED in cell 4 (first = not (lab / "died").exists()): the kernel died' in errors
    records = read_manifest(run)
    assert [record["status"] for record in records.values()] == ["succeeded", "failed", "succeeded"]
    assert records["02_b"]["failure"]["cell"] == 4
    assert (lab / "read").read_text() == "01_a"

    (lab / "log").unlink()
    assert main(command) == 0
    assert executed(lab) == ["02_b", "99_last"]
    assert (lab / "read").read_text() == "01_a 02_b"

    run_studies(out=lab / "undisturbed", jobs=2, notebooks=lab)
    assert (run / "ledger.jsonl").read_bytes() == (lab / "undisturbed" / "ledger.jsonl").read_bytes()
    assert len((run / "ledger.jsonl").read_text().splitlines()) == 2


@pytest.mark.usefixtures("frozen_inputs")
def test_failures_are_told_apart_and_do_not_keep_others_from_running(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(lab, "01_raises", "value = 1", "# why\nraise ValueError('no such block')", "value = 2")
    write_study(lab, "02_silent", conclude=False)
    write_study(lab, "03_slow", "time.sleep(60)")
    write_study(lab, "04_fine")
    write_profile(lab, "lab", **{stem: {} for stem in ("01_raises", "02_silent", "03_slow", "04_fine")})
    records = run_studies(out=lab / "run", jobs=2, notebooks=lab, cell_timeout=8)
    failures = {stem: record["failure"] for stem, record in records.items() if record["status"] == "failed"}
    assert failures["01_raises"]["cell"] == 4 and failures["01_raises"]["first_line"] == "# why"
    assert failures["01_raises"]["message"].startswith("ValueError: no such block\n")
    assert "conclude(rows, verdicts, answer)" in failures["02_silent"]["message"]
    assert failures["03_slow"]["cell"] == 3 and "8 seconds" in failures["03_slow"]["message"]
    assert set(failures) == {"01_raises", "02_silent", "03_slow"}
    assert len((lab / "run" / "ledger.jsonl").read_text().splitlines()) == 1
    assert "FAILED in cell 4 (# why): ValueError: no such block" in capsys.readouterr().err


def test_a_killed_runner_takes_its_kernels_along_and_can_be_resumed(lab: Path) -> None:
    write_study(lab, "01_a")
    write_study(lab, "02_b", WAIT_ONCE)
    write_profile(lab, "lab", **{"01_a": {}, "02_b": {}})
    command = ("run", "--notebooks", lab, "--out", lab / "run", "--resume")
    process = command_line(lab, *command)
    wait_until(lambda: (lab / "waiting").exists() and (lab / "waiting").read_text() != "")
    process.kill()
    process.communicate()
    kernel = int((lab / "waiting").read_text())
    wait_until(lambda: not is_running(kernel), 20)
    assert executed(lab) == ["01_a", "02_b"]
    assert list(read_manifest(lab / "run")) == ["01_a"]

    process = command_line(lab, *command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert executed(lab) == ["01_a", "02_b", "02_b"]
    records = read_manifest(lab / "run")
    assert [record["status"] for record in records.values()] == ["succeeded", "succeeded"]
    killed = records["02_b"]["earlier"]  # what the call that was killed has used is not forgotten
    assert records["01_a"]["earlier"] is None and killed["calls"] == 1
    assert killed["processor_seconds"] > 0
    assert not list((lab / "run" / ".spent").rglob("*.json"))


def test_what_was_used_is_not_forgotten_where_the_record_cannot_be_written(lab: Path, monkeypatch) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})

    def full(*given: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(runner, "write_record", full)
        with pytest.raises(OSError, match="no space"):
            run_studies(out=lab / "run", notebooks=lab)
    run_studies(out=lab / "run", notebooks=lab, resume=True)
    assert read_manifest(lab / "run")["01_a"]["earlier"]["calls"] == 1


def is_running(pid: int) -> bool:
    """True while the process exists; one that ended and was not yet collected by its parent does not count."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_two_runs_into_one_folder_share_their_results(lab: Path) -> None:
    write_study(lab, "01_a", WAIT_FOR_GO)
    write_study(lab, "99_last", READ_LEDGERS, after_all=True)
    write_profile(lab, "lab", **{"01_a": {}, "99_last": {}})
    command = ("run", "--notebooks", lab, "--out", lab / "run", "--jobs", "2")
    first = command_line(lab, *command)
    wait_until(lambda: executed(lab) == ["01_a"])
    second = command_line(lab, *command)
    line = second.stderr.readline()
    (lab / "go").touch()
    assert line == "01_a is being run by another process; waiting for its result\n"
    for process in (first, second):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert executed(lab)[:2] == ["01_a", "99_last"] and executed(lab).count("01_a") == 1
    assert [record["status"] for record in read_manifest(lab / "run").values()] == ["succeeded", "succeeded"]
    assert len((lab / "run" / "ledger.jsonl").read_text().splitlines()) == 1
    assert not list((lab / "run").rglob(".*.json*"))


def test_resume_repeats_nothing_until_a_source_is_edited(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})
    package = lab / "copy" / "labutils"
    shutil.copytree(paths.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "PACKAGE", package)

    def run() -> list[str]:
        run_studies(out=lab / "run", notebooks=lab, resume=True)
        return executed(lab)

    assert run() == ["01_a"] and run() == ["01_a"]
    with (package / "lab_models" / "specs.py").open("a") as source:
        source.write("# edited\n")
    assert run() == ["01_a"] * 2 and run() == ["01_a"] * 2
