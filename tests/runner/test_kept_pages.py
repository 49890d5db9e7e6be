"""Kept pages of real runs: replaced and added to, shown in heads and README, and an edit of anything shows."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from real_run_folders import contents, verdict, write_run
from tiny_notebooks import write_profile

from labutils.__main__ import main
from labutils.runner import find_stale, readme_table, run_studies, store_outputs
from labutils.runner.notebooks import read_notebook
from labutils.runner.real_manifest import find_altered, read_manifest, tell_in_readme
from labutils.runner.records import write_manifest


def test_a_later_run_takes_the_place_of_an_earlier_one(lab: Path, keep: Callable) -> None:
    write_run(lab, "01_a")
    write_run(lab, "02_b")
    keep()
    ledger = lab / "run" / "ledger.jsonl"
    of_both = ledger.read_text()
    drop(lab, "02_b")
    ledger.write_text(of_both)
    with pytest.raises(ValueError, match="is not what the notebooks found"):
        keep("Another name")
    write_manifest(lab / "run")
    assert keep("Another name") == ["01_a"]
    real = lab / "docs" / "real"
    assert not list(real.rglob("02_b*")) and find_altered(real) == []
    assert (real / "index.md").read_text().startswith("# Another name\n")


def drop(lab: Path, stem: str) -> None:
    """Take a notebook out of the run."""
    for path in (lab / "run" / stem).iterdir():
        path.unlink()
    write_manifest(lab / "run")


def test_a_run_is_added_to_what_is_kept(lab: Path, keep: Callable) -> None:
    """Pages of other notebooks stay; the correction is over all; to run in two parts or in one makes no difference."""
    two = [verdict(claim="C02"), verdict(claim="C03")]
    write_run(lab, "01_a")
    write_run(lab, "02_b", verdicts=two)
    keep()
    real = lab / "docs" / "real"
    at_once = contents(real)
    drop(lab, "02_b")
    keep()
    assert "**supported**" in (real / "01_a.md").read_text() and not (real / "02_b.md").exists()
    drop(lab, "01_a")
    write_run(lab, "02_b", verdicts=two)
    assert keep(add=True) == ["02_b"]
    assert contents(real) == at_once and find_altered(real) == []
    page = (real / "01_a.md").read_text()
    assert "**inconclusive**" in page and "supported before Holm's correction over 3 tests" in page
    write_run(lab, "02_b", verdicts=[], answer="Nothing.")
    keep(add=True)
    assert "**supported**" in (real / "01_a.md").read_text() and "## Verdicts" not in (real / "02_b.md").read_text()


def test_a_run_is_added_to_its_own_name_and_to_intact_pages_alone(lab: Path, keep: Callable) -> None:
    write_run(lab, "01_a")
    with pytest.raises(ValueError, match="real/ holds nothing, not 'A model on notes'"):
        keep(add=True)
    assert not (lab / "docs").exists()
    keep()
    real = lab / "docs" / "real"
    before = contents(real)
    with pytest.raises(ValueError, match="real/ holds 'A model on notes', not 'Another'"):
        keep("Another", add=True)
    assert contents(real) == before
    (real / "01_a.md").write_text("more")
    with pytest.raises(ValueError, match="nothing can be added: real/01_a.md was edited by hand"):
        keep(add=True)
    assert (real / "01_a.md").read_text() == "more"


@pytest.mark.parametrize("name", ["01_a.md", "index.md", "figures/01_a-1.png", "rows/01_a.parquet", "manifest.json"])
def test_an_edit_of_any_file_shows(lab: Path, keep: Callable, name: str) -> None:
    write_run(lab)
    keep()
    real = lab / "docs" / "real"
    assert find_altered(real) == []
    text = (real / name).read_bytes()
    (real / name).write_bytes(text.replace(b'"name": "A', b'"name": "B') if name == "manifest.json" else text + b" ")
    assert find_altered(real) == [f"real/{name} was edited by hand"]
    (real / name).write_bytes(text)
    (real / "more.md").write_text("more")
    assert find_altered(real) == ["real/more.md is not part of the recorded run"]
    (real / "more.md").unlink()
    if name != "manifest.json":
        (real / name).unlink()
        assert find_altered(real) == [f"real/{name} is missing"]


def test_without_a_recorded_run_nothing_is_stale(lab: Path) -> None:
    assert find_altered(lab / "docs" / "real") == [] and read_manifest(lab / "docs" / "real") == {}


@pytest.mark.usefixtures("frozen_inputs")
def test_heads_and_readme_tell_both_answers_and_stay_true(lab: Path, keep: Callable) -> None:
    run = write_run(lab)
    notebook = read_notebook(lab / "01_a.ipynb")
    for cell in notebook.cells:  # the full run executes its cells
        cell.source = {"provenance": "1", "figure": "2", "sentence": "3"}.get(cell.source, cell.source)
        cell.source = "4" if cell.source in ("nothing shown", "texts of the data") else cell.source
    nbformat.write(notebook, lab / "01_a.ipynb")
    write_profile(lab, "full", **{"01_a": {"seed": 4}})
    places = {"notebooks": lab, "readme": lab / "README.md", "real": lab / "docs" / "real"}
    run_studies(profile="full", out=lab / "full", notebooks=lab)
    store_outputs(lab / "full", **places)
    assert find_stale(**places) == [] and "A model" not in (lab / "README.md").read_text()

    write_run(lab)  # of the cells as they are now
    keep()
    head = read_notebook(lab / "01_a.ipynb").cells[1].source.split("\n\n")
    assert head[0] == "**Answer.** Yes, 4.5 | [0, 1]"
    assert head[1].startswith("**On A model on notes.** On real, uniform gains +0.1 [0.0, 0.2] | (C01 supported). ")
    assert head[1].endswith("[its page](../docs/real/01_a.md).") and "profile `full`" in head[2]
    row = readme_table(notebooks=lab, real=places["real"]).splitlines()[-1]
    assert r"Yes, 4.5 \| [0, 1]<br>**[A model on notes](docs/real/01_a.md):** On real, uniform" in row
    assert find_stale(**places) == []
    store_outputs(lab / "full", **places)
    assert find_stale(**places) == [] and read_notebook(lab / "01_a.ipynb").cells[1].source.split("\n\n") == head

    check_that_edits_show(lab, places)
    assert run.exists()


def check_that_edits_show(lab: Path, places: dict) -> None:
    stored = (lab / "01_a.ipynb").read_text()
    (lab / "01_a.ipynb").write_text(stored.replace("On real, uniform gains +0.1", "On real, uniform gains +0.2"))
    assert find_stale(**places) == ["01_a: its answer was edited by hand, or is not what was recorded on a real model"]
    (lab / "01_a.ipynb").write_text(stored)
    manifest = (places["real"] / "manifest.json").read_text()
    (places["real"] / "manifest.json").write_text(manifest.replace("gains +0.1", "gains +0.3"))
    assert len(find_stale(**places)) == 3  # the head, the README, the manifest itself
    (places["real"] / "manifest.json").write_text(manifest)
    notebook = nbformat.reads(stored, as_version=4)
    notebook.cells[-2].source += " Two."
    nbformat.write(notebook, lab / "01_a.ipynb")
    run_studies(profile="full", out=lab / "full", notebooks=lab)
    store_outputs(lab / "full", **places)
    assert "made by an earlier state of these cells" in read_notebook(lab / "01_a.ipynb").cells[1].source
    assert "with an earlier state of their cells: 01_a." in places["readme"].read_text()
    assert find_stale(**places) == []


def test_one_command_keeps_pages_and_column(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    kept = []
    monkeypatch.setattr(
        "labutils.runner.real_runs.keep_pages", lambda run, name, add: kept.append((name, add)) or ["01_a"]
    )
    monkeypatch.setattr(
        "labutils.claims.also_seen_on.record_elsewhere",
        lambda run, name, add: kept.append(("column", add)) or Path(f"{name}.jsonl"),
    )
    assert main(["record", "results/real", "a/b", "--pages"]) == 2 and kept == []
    assert "cannot name a run" in capsys.readouterr().err
    assert main(["record", "results/nowhere", "A model", "--pages"]) == 2 and kept == []
    monkeypatch.setattr("labutils.claims.also_seen_on.find_recordable", lambda run, name, add: None)
    assert main(["record", "results/real", "A model"]) == 0 and kept == [("column", False)]
    assert main(["record", "results/real", "A model", "--pages", "--add"]) == 0
    assert kept[1:] == [("A model", True), ("column", True)]  # what refuses a run comes first
    assert "pages in docs/real: 01_a" in capsys.readouterr().out


def test_what_followed_an_earlier_definition_says_so() -> None:
    answer = {"answer": "No regret (C06 supported).", "finished": "2026-11-29T01:45:44+00:00"}
    told = tell_in_readme("03_optiprune", {"name": "A", "notebooks": {"03_optiprune": answer}})
    assert told.endswith("(C06 supported). Judged there by an earlier definition: C06, R10.")
    answer["finished"] = "2099-01-01T00:00:00+00:00"
    told = tell_in_readme("03_optiprune", {"name": "A", "notebooks": {"03_optiprune": answer}})
    assert told.endswith("(C06 supported).")
