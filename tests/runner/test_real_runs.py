"""Pages of a run on a real model: what they say, that no text of the data is kept, and that an edit shows."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from real_run_folders import PNG, QUOTED, markdown, prepare, sweep_rows, table, verdict, write_run
from tiny_notebooks import write_profile

from labutils.__main__ import main
from labutils.runner import find_stale, keep_pages, load_real_rows, readme_table, run_studies, store_outputs
from labutils.runner.notebooks import read_notebook
from labutils.runner.real_manifest import find_altered, read_manifest, tell_in_readme
from labutils.runner.real_runs import MOST_BYTES
from labutils.runner.records import write_manifest


@pytest.fixture
def keep(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Keep the run's pages beside the tiny notebooks."""
    monkeypatch.chdir(lab)
    readme = prepare(lab)
    return lambda name="A model on notes", **given: keep_pages(
        lab / "run", name, notebooks=lab, readme=readme, real=lab / "docs" / "real", **given
    )


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_page_tells_answer_verdicts_sizes_and_figures_in_their_sections(lab: Path, keep: Callable) -> None:
    write_run(lab)
    assert keep() == ["01_a"]
    real = lab / "docs" / "real"
    page = (real / "01_a.md").read_text()
    assert page.startswith("# Is 01_a so?\n") and "**Answer.** On real, uniform gains +0.1 [0.0, 0.2] | (C01" in page
    assert "| **C01** Uniform is no worse. | **supported** | +0.10 [0.00, 0.20], 95% interval over 5 items" in page
    assert page.index("## Verdicts") < page.index("*Limits.* One model.") < page.index("## On what")
    for fact in ("| its weights | 135 in bfloat16 |", "| files read | notes.txt |", "| machine | cpu, threads: 2 |"):
        assert fact in page
    for fact in ("| wall hours | 2.00 |", "| processor hours | 3.00 |", "| peak memory | 3.2 GB |"):
        assert fact in page
    assert "| `words` | file:notes.txt, b |" in page and "torch 2.13.0" in page
    sweep = page[page.index("## The sweep") : page.index("## C01: uniform")]
    assert "How the loss grows." in sweep
    assert "![Figure 1. The sweep. How the loss grows.](figures/01_a-1.png)" in sweep
    assert (real / "figures" / "01_a-1.png").read_bytes().startswith(b"\x89PNG") and PNG not in page
    assert (
        "The difference.\n\n> C01 **supported**: +0.1 [0.0, 0.2] on &lt;b&gt;cats &amp; dogs&lt;/b&gt; [x]\\(http"
        in page
    )
    assert "What exactly" not in page  # nothing of that section is shown


def test_the_index_adds_up_what_all_notebooks_took(lab: Path, keep: Callable) -> None:
    write_run(lab, "01_a")
    write_run(lab, "02_b", answer="On real, no.", wall_seconds=1800.0)
    assert keep() == ["01_a", "02_b"]
    index = (lab / "docs" / "real" / "index.md").read_text()
    assert "| [02_b](02_b.md) | Is 02_b so? | On real, no. | 0.50 | 3.00 |" in index
    assert "| **all** |  |  | **2.50** | **6.00** |  | 1,440 |" in index


def test_calls_that_were_interrupted_are_in_the_hours(lab: Path, keep: Callable) -> None:
    earlier = {"calls": 2, "wall_seconds": 1800.0, "processor_seconds": 3600.0}
    write_run(lab, earlier=earlier)
    keep()
    page = (lab / "docs" / "real" / "01_a.md").read_text()
    assert "| wall hours | 2.50 |" in page and "| processor hours | 4.00 |" in page and "| in calls | 3 |" in page
    assert "| **2.50** | **4.00** |" in (lab / "docs" / "real" / "index.md").read_text()


def test_what_was_not_recorded_is_told(lab: Path, keep: Callable) -> None:
    write_run(lab, processor_seconds=None)
    keep()
    assert "| **all** |  |  | **2.00** | not recorded |" in (lab / "docs" / "real" / "index.md").read_text()


def test_verdicts_are_corrected_over_the_whole_run(lab: Path, keep: Callable) -> None:
    write_run(lab, "01_a")
    write_run(lab, "02_b", verdicts=[verdict(claim="C02"), verdict(claim="C03")])
    keep()
    page = (lab / "docs" / "real" / "01_a.md").read_text()
    assert "**inconclusive**" in page and "supported before Holm's correction over 3 tests, p = 0.09" in page


def test_no_text_of_the_data_is_kept(lab: Path, keep: Callable) -> None:
    rows = sweep_rows().assign(excerpt=QUOTED, word="fox")
    write_run(lab, rows=rows)
    keep()
    kept = everything(lab / "docs").lower()
    assert b"brown" not in kept and b"heatmap" not in kept and b"texts that changed" not in kept
    assert read_manifest(lab / "docs" / "real")["notebooks"]["01_a"]["columns_left_out"] == ["excerpt"]
    assert "word" in load_real_rows("01_a", real=lab / "docs" / "real")


@pytest.mark.parametrize("place", ["output", "answer", "note"])
def test_a_quotation_of_the_data_is_refused_and_nothing_changes(lab: Path, keep: Callable, place: str) -> None:
    given = {
        "output": {"outputs": {"sentence": [markdown("It read: The quick, brown fox jumps over the lazy dog.")]}},
        "answer": {"answer": f"It says that {QUOTED}."},
        "note": {"verdicts": [verdict(note=f"about {QUOTED}")]},
    }[place]
    write_run(lab, **given)
    before = contents(lab)
    with pytest.raises(
        ValueError, match="01_a would quote its data, “the quick brown fox jumps over the lazy”.*'texts'"
    ):
        keep()
    assert contents(lab) == before


def test_tables_stay_out_whatever_they_hold(lab: Path, keep: Callable) -> None:
    write_run(lab, outputs={"figure": [table("<td>something said by somebody</td>")]})
    keep()
    assert b"somebody" not in everything(lab / "docs")


def test_a_tag_of_either_state_of_the_notebook_hides(lab: Path, keep: Callable) -> None:
    """The run's own copy, made before the cell was tagged, does not bring its output back."""
    run = write_run(lab)
    executed = read_notebook(run / "01_a" / "01_a.ipynb")
    for cell in executed.cells:
        cell.metadata.pop("tags", None) if cell.source == "texts of the data" else None
    nbformat.write(executed, run / "01_a" / "01_a.ipynb")
    record = json.loads((run / "01_a" / "record.json").read_text())
    record["outputs"] = {}
    (run / "01_a" / "record.json").write_text(json.dumps(record))
    keep()
    assert b"heatmap" not in everything(lab / "docs")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profile": "full"}, "01_a: pages come from a successful run with the profile 'real'"),
        ({"status": "failed"}, "01_a: pages come from a successful run"),
    ],
)
def test_only_a_successful_real_run_is_kept(lab: Path, keep: Callable, given: dict, message: str) -> None:
    write_run(lab, **given)
    with pytest.raises(ValueError, match=re.escape(message)):
        keep()
    assert not (lab / "docs").exists()


def test_what_changed_since_the_run_is_refused(lab: Path, keep: Callable) -> None:
    with pytest.raises(LookupError, match="holds no run"):
        keep()
    run = write_run(lab)
    (lab / "notes.txt").write_text("other")
    with pytest.raises(ValueError, match=r"notes.txt is not what that run read"):
        keep()
    (lab / "notes.txt").unlink()
    with pytest.raises(LookupError, match="01_a read notes.txt, which is not found; set LABUTILS_DATA"):
        keep()
    prepare(lab)
    ledger = (run / "01_a" / "ledger.jsonl").read_bytes()
    (run / "01_a" / "ledger.jsonl").write_bytes(ledger + b"\n")
    with pytest.raises(ValueError, match="01_a: ledger.jsonl is missing or altered"):
        keep()
    (run / "01_a" / "ledger.jsonl").write_bytes(ledger)
    notebook = read_notebook(lab / "01_a.ipynb")
    notebook.cells[-1].source += "\n"
    nbformat.write(notebook, lab / "01_a.ipynb")
    with pytest.raises(ValueError, match="01_a: its cells changed since that run"):
        keep()
    assert not (lab / "docs").exists()


def test_rows_that_are_too_large_are_refused(lab: Path, keep: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(lab)
    monkeypatch.setattr("labutils.runner.real_runs.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"at most 0 MB are stored \(rows/01_a.parquet"):
        keep()
    assert MOST_BYTES == 5_000_000 and not (lab / "docs").exists()


def test_no_machine_shows(lab: Path, keep: Callable) -> None:
    write_run(lab, answer="On /home/me/models/small, yes.", outputs={"sentence": [markdown("From /opt/x/y.txt: 1/2")]})
    keep()
    page = (lab / "docs" / "real" / "01_a.md").read_text()
    assert "On small, yes." in page and "From y.txt: 1/2" in page
    for part in (b"/home/", b"/opt/", str(lab).encode()):
        assert part not in everything(lab / "docs")


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


def test_pages_of_rows_with_no_verdict(lab: Path, keep: Callable) -> None:
    write_run(lab, verdicts=[], rows=pd.DataFrame({"item": [1]}))
    keep()
    page = (lab / "docs" / "real" / "01_a.md").read_text()
    assert "## Verdicts" not in page and "*Limits.* One model." in page


def test_what_followed_an_earlier_definition_says_so() -> None:
    answer = {"answer": "No regret (C06 supported).", "finished": "2026-11-29T01:45:44+00:00"}
    told = tell_in_readme("03_optiprune", {"name": "A", "notebooks": {"03_optiprune": answer}})
    assert told.endswith("(C06 supported). Judged there by an earlier definition: C06, R10.")
    answer["finished"] = "2099-01-01T00:00:00+00:00"
    told = tell_in_readme("03_optiprune", {"name": "A", "notebooks": {"03_optiprune": answer}})
    assert told.endswith("(C06 supported).")
