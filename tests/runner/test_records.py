"""Records: what counts as complete, and what is noticed to have changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_notebooks import write_profile, write_study

from labutils.core import paths
from labutils.core.files import hash_tree, without_paths, write_atomically
from labutils.runner.planning import Study, plan_studies
from labutils.runner.records import find_changes, new_record, read_records, study_inputs, write_record

SHARED = {"labutils_sha256": "0", "data_sha256": "0", "versions": {"torch": "2.13.0"}}


def plan(lab: Path, *middle: str, after_all: bool = False, **parameters: Any) -> Study:
    write_study(lab, "01_a", *middle, after_all=after_all)
    write_profile(lab, "lab", **{"01_a": {}})
    ((study,), _) = plan_studies((), profile="lab", overrides=parameters, folder=lab)
    return study


def record(run: Path, study: Study, status: str = "succeeded") -> dict[str, Any]:
    inputs = study_inputs(study, SHARED, run)
    for name in ("result.json", "ledger.jsonl", "figures/01_a-1.png"):
        write_atomically(run / study.stem / name, "{}\n")
    write_record(run, new_record(study, inputs, {"status": status}))
    return inputs


def test_equal_inputs_and_intact_outputs_need_no_second_run(lab: Path) -> None:
    run = lab / "run"
    assert find_changes(run, "01_a", study_inputs(plan(lab), SHARED, run)) == ["no finished run"]
    inputs = record(run, plan(lab, scale=1))
    assert find_changes(run, "01_a", inputs) == []
    assert find_changes(run, "01_a", study_inputs(plan(lab, scale=1.0), SHARED, run)) == []


def test_every_input_counts(lab: Path) -> None:
    run = lab / "run"
    record(run, plan(lab))
    changes = {
        "cells_sha256 changed": study_inputs(plan(lab, "x = 1"), SHARED, run),
        "parameters changed": study_inputs(plan(lab, seed=1), SHARED, run),
        "labutils_sha256 changed": study_inputs(plan(lab), SHARED | {"labutils_sha256": "1"}, run),
        "data_sha256 changed": study_inputs(plan(lab), SHARED | {"data_sha256": "1"}, run),
        "versions changed": study_inputs(plan(lab), SHARED | {"versions": {"torch": "2.14.0"}}, run),
    }
    for change, inputs in changes.items():
        assert find_changes(run, "01_a", inputs) == [change]


def test_files_named_by_parameters_count(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    (lab / "text.txt").write_text("one")
    run = lab / "run"
    words = ["file:text.txt", "lab:narrative", "hub:some/thing"]
    inputs = record(run, plan(lab, words=words))
    assert list(inputs["named"]) == ["text.txt"]
    (lab / "text.txt").write_text("two")
    assert find_changes(run, "01_a", study_inputs(plan(lab, words=words), SHARED, run)) == ["named changed"]


@pytest.mark.parametrize("named", ["file:a.txt + task:file:b.txt#all", "file:a.txt → file:b.txt", "file:b.txt"])
def test_files_named_within_a_mixture_or_a_pair_count(lab: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.chdir(lab)
    for name in ("a.txt", "b.txt"):
        (lab / name).write_text("one")
    before = study_inputs(plan(lab, words=[named]), SHARED, lab / "run")["named"]
    assert list(before) == [name for name in ("a.txt", "b.txt") if name in named]
    (lab / "b.txt").write_text("two")
    assert study_inputs(plan(lab, words=[named]), SHARED, lab / "run")["named"] != before


@pytest.mark.parametrize("name", ["ledger.jsonl", "figures/01_a-1.png"])
def test_damaged_outputs_are_noticed(lab: Path, name: str) -> None:
    run = lab / "run"
    inputs = record(run, plan(lab))
    (run / "01_a" / name).write_text("{}")
    assert find_changes(run, "01_a", inputs) == [f"{name} is missing or altered"]
    (run / "01_a" / name).unlink()
    assert find_changes(run, "01_a", inputs) == [f"{name} is missing or altered"]


def test_a_failed_run_is_not_complete_and_adds_no_verdicts(lab: Path) -> None:
    run = lab / "run"
    inputs = record(run, plan(lab), status="failed")
    assert find_changes(run, "01_a", inputs) == ["its last run failed"]
    assert (run / "ledger.jsonl").read_text() == ""
    record(run, plan(lab))
    assert (run / "ledger.jsonl").read_text() == "{}\n"


def test_the_generated_answer_is_no_input(lab: Path) -> None:
    run = lab / "run"
    record(run, plan(lab))
    study = plan(lab)
    study.notebook.cells[1].source = "**Answer.** 42"
    assert find_changes(run, "01_a", study_inputs(study, SHARED, run)) == []


def test_a_study_that_reads_ledgers_depends_on_them(lab: Path) -> None:
    run = lab / "run"
    write_atomically(run / "00_z" / "record.json", json.dumps({"status": "succeeded", "after_all": False}))
    write_atomically(run / "00_z" / "ledger.jsonl", "one\n")
    inputs = record(run, plan(lab, after_all=True))
    assert list(read_records(run)) == ["00_z", "01_a"]
    write_atomically(run / "00_z" / "ledger.jsonl", "two\n")
    assert find_changes(run, "01_a", study_inputs(plan(lab, after_all=True), SHARED, run)) == ["ledgers changed"]
    assert inputs["ledgers"].keys() == {"00_z"}


def test_trees_are_told_apart_by_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = hash_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = hash_tree(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "c").write_text("1")
    assert len({first, second}) == 2 and hash_tree(tmp_path) == second


def test_records_do_not_tell_where_this_machine_keeps_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABUTILS_DATA", str(tmp_path / "real"))
    assert without_paths(f"{tmp_path}/real/x.txt") == "$LABUTILS_DATA/x.txt"
    assert without_paths(f"{paths.REPOSITORY}/data/models") == "./data/models"


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def refuse(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("labutils.core.files.os.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
