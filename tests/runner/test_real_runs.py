"""Pages of a run on a real model: what they say, that no text of the data is kept, and which runs are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from real_run_folders import PNG, QUOTED, contents, everything, markdown, prepare, sweep_rows, table, verdict, write_run

from labutils.runner import load_real_rows
from labutils.runner.notebooks import read_notebook
from labutils.runner.real_manifest import read_manifest
from labutils.runner.real_runs import MOST_BYTES


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


def test_pages_of_rows_with_no_verdict(lab: Path, keep: Callable) -> None:
    write_run(lab, verdicts=[], rows=pd.DataFrame({"item": [1]}))
    keep()
    page = (lab / "docs" / "real" / "01_a.md").read_text()
    assert "## Verdicts" not in page and "*Limits.* One model." in page
