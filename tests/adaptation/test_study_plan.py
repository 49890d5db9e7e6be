"""A plan, the rows it leads to, and what is stored of them; the command for it all; the rows of the collection."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from small_models import causal_base, pairs, save, texts

from labutils.adaptation.__main__ import main
from labutils.adaptation.jobs import StudySetting
from labutils.adaptation.plan import StudyPlan, load_runs, origin_table
from labutils.adaptation.training import load_base
from labutils.core.paths import NOTEBOOKS
from labutils.core.provenance import hash_weights
from labutils.runner.planning import plan_studies
from labutils.runner.stored_rows import read_origin

COLLECTION = "data:adaptation_runs"


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> StudyPlan:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "abstracts.txt").write_text("\n".join(_abstracts(40)))
    (folder / "domain.txt").write_text("\n".join(texts(60, seed=7)))
    pairs(15).to_json(folder / "pairs.jsonl", orient="records", lines=True)
    return StudyPlan(
        model=save(causal_base(), folder / "tiny"), sources=[f"file:{folder / 'abstracts.txt'}"],
        heldout=f"file:{folder / 'domain.txt'}", task=f"file:{folder / 'pairs.jsonl'}#all",
        adaptations=["full rate=1e-2 steps=2"], finetunings=["head epochs=1", "head epochs=2"],
        n_samples=2, n_words=200, setting=StudySetting(n_folds=3, n_base=1, seq_len=16, n_heldout=4),
    )  # fmt: skip


def _abstracts(n: int) -> list[str]:
    """Texts that the tiny model knows some words of, each with 36 English ones in sentences of 4 to 11."""
    found = []
    for number, known in enumerate(texts(n, seed=3)):
        size = 4 + number % 8
        words = [("dog", "treatment", "hypertension")[(number * place) % 3] for place in range(36)]
        sentences = [f"The {' '.join(words[start : start + size])} {known}." for start in range(0, 36, size)]
        found.append(" ".join(sentences))
    return found


@pytest.fixture(scope="module")
def stored(plan, tmp_path_factory):
    target = tmp_path_factory.mktemp("stored") / "study"
    rows = plan.carry_out()
    plan.save(rows, target)
    return rows, target


def test_a_plan_is_read_from_parameters_that_hold_more():
    given = {"model": "lab-llama", "sources": ["lab:biomedical"], "task": "t", "heldout": "h", "n_samples": 3}
    given |= {"adaptations": ["full"], "finetunings": ["head"], "stored": None, "n_jobs": 2, "__name__": "x"}
    plan = StudyPlan.of(given)
    assert (plan.n_samples, plan.setting) == (3, StudySetting())
    with pytest.raises(LookupError, match="the adaptation study needs more parameters: heldout"):
        StudyPlan.of({name: value for name, value in given.items() if name != "heldout"})


def test_rows_come_back_as_they_were_stored(stored, plan):
    rows, target = stored
    found = plan.load(target)
    pd.testing.assert_frame_equal(found.runs, rows.runs)
    exact = ["sample", "adaptation", "finetuning", "replicate", "item", "fold", "gold"]
    pd.testing.assert_frame_equal(found.predictions[exact], rows.predictions[exact], check_dtype=False)
    assert found.predictions["predicted"].to_numpy() == pytest.approx(
        rows.predictions["predicted"].to_numpy(), rel=1e-6
    )
    pd.testing.assert_frame_equal(load_runs(target / "runs.parquet"), rows.runs)
    table = origin_table(target / "runs.parquet").set_index("item")["value"]
    about = read_origin(target)
    of_folder = origin_table(target).set_index("item")["value"]
    assert table["sha256"] == about["files"]["runs.parquet"] == of_folder["sha256"]
    assert about["rows"]["runs"] == len(rows.runs) == 2 * 2 + 2
    assert about["model_sha256"] == hash_weights(load_base(plan.model).model)
    assert {"date", "machine", "versions", "plan", "processor_seconds"} <= set(about) and "cores" in about["machine"]


def test_rows_of_the_same_run_are_found(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path))
    with pytest.raises(LookupError, match="06_study has left no rows in this run"):
        load_runs("run:06_study")
    (tmp_path / "06_study").mkdir()
    stored[0].runs.to_parquet(tmp_path / "06_study" / "rows.parquet")
    pd.testing.assert_frame_equal(load_runs("run:06_study"), stored[0].runs)


def test_rows_of_another_plan_or_altered_files_are_refused(stored, plan):
    _, target = stored
    with pytest.raises(ValueError, match=r"n_words=200, not 300 \(1 differ in all\)"):
        replace(plan, n_words=300).load(target)
    replace(plan, adaptations=["full rate=0.01 batch=8 steps=2"]).load(target)  # the same in other words
    path = target / "predictions.parquet"
    content = path.read_bytes()
    path.write_bytes(content + b" ")
    with pytest.raises(ValueError, match="not the file that origin.json describes"):
        plan.load(target)
    path.write_bytes(content)
    with pytest.raises(LookupError, match="nothing is stored in data:nothing"):
        plan.load("data:nothing")


def test_the_command_does_a_plan_and_goes_on_from_kept_runs(plan, stored, tmp_path, capsys):
    (tmp_path / "plan.json").write_text(json.dumps({"plan": plan.described() | {"model": plan.model}}))
    words = ["--plan", str(tmp_path / "plan.json"), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "study")]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "6 runs in" in first and "6 runs; no forecast, since" in first
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "runs").iterdir()}
    assert len(times) == 6 and main(words) == 0
    assert "at most 6 runs × " in capsys.readouterr().out  # at the pace of the rows that the first call left
    assert {path: path.stat().st_mtime_ns for path in times} == times
    exact = ["sample", "finetuning", "pearson", "finetuning_seed"]
    found = plan.load(tmp_path / "study")
    pd.testing.assert_frame_equal(found.runs[exact], stored[0].runs[exact])


def test_the_command_shows_the_plan_of_a_profile_and_says_what_is_wrong(capsys):
    assert main(["--profile", "smoke", "-p", "n_samples=7", "--show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["n_samples"] == 7 and shown["model"] == "lab-llama-general"
    assert main(["-p", "n_smaples=7", "--show"]) == 2 and "Did you mean 'n_samples'" in capsys.readouterr().err


def test_the_collections_rows_are_those_of_the_notebook_and_of_its_model():
    """Stored rows go stale when the notebook asks for another study, or when the lab model is trained anew."""
    (study,), _ = plan_studies([StudyPlan.notebook], profile="full", overrides={}, folder=NOTEBOOKS)
    plan = StudyPlan.of(study.parameters)
    rows = plan.load(COLLECTION)
    expected = (plan.n_samples * len(plan.adaptations) + plan.setting.n_base) * len(plan.finetunings)
    assert len(rows.runs) == expected >= 384
    assert read_origin(COLLECTION)["model_sha256"] == hash_weights(load_base(plan.model).model)
