"""Stored outputs: they come from a full run, carry what made them, and are noticed when they no longer fit."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from tiny_notebooks import write_profile, write_study

from labutils.runner import (
    find_stale,
    readme_table,
    run_studies,
    stale_notebooks,
    store_outputs,
    stored_evidence,
    stored_outputs,
)
from labutils.runner.notebooks import read_notebook
from labutils.runner.stored_outputs import MARKERS

OUTPUTS = """\
import sys
import matplotlib.pyplot as plt
plt.plot([1, 2])
print("kept")
print("progress", file=sys.stderr)"""


@pytest.fixture
def readme(lab: Path) -> Path:
    path = lab / "README.md"
    path.write_text(f"before\n\n{MARKERS[0]}\n{MARKERS[1]}\n\nafter\n")
    return path


def change(lab: Path, number: int, **values: Any) -> None:
    """Edit one cell of the notebook."""
    notebook = read_notebook(lab / "01_a.ipynb")
    notebook.cells[number].update(values)
    nbformat.write(notebook, lab / "01_a.ipynb")


@pytest.mark.usefixtures("frozen_inputs")
def test_outputs_go_into_the_notebook_and_the_readme_and_edits_show(lab: Path, readme: Path) -> None:
    write_study(lab, "01_a", OUTPUTS)
    write_profile(lab, "full", **{"01_a": {"seed": 4}})
    assert stale_notebooks(notebooks=lab) == {"01_a": "has no stored outputs"}
    run_studies(profile="full", out=lab / "run", notebooks=lab)
    assert store_outputs(lab / "run", notebooks=lab, readme=readme) == ["01_a"]
    assert find_stale(notebooks=lab, readme=readme) == []
    check_notebook(read_notebook(lab / "01_a.ipynb"))
    assert r"| [01_a](notebooks/01_a.ipynb) | Is 01_a so? | Yes, 4.5 \| [0, 1] |" in readme.read_text()
    assert readme.read_text().startswith("before\n") and readme.read_text().endswith("\nafter\n")

    readme.write_text(readme.read_text().replace("4.5", "4.6"))
    assert find_stale(notebooks=lab, readme=readme) == ["README.md: its table of notebooks differs from their answers"]
    stored = (lab / "01_a.ipynb").read_text()
    change(lab, 1, source="**Answer.** Something else.")
    assert stale_notebooks(notebooks=lab)["01_a"].startswith("its answer was edited by hand")
    (lab / "01_a.ipynb").write_text(stored)
    change(lab, 0, source="# Is 01_a so?\n\nThe same, told better.")
    assert stale_notebooks(notebooks=lab) == {}
    assert store_outputs(lab / "run", notebooks=lab, readme=readme) == ["01_a"]
    assert "told better" in (lab / "01_a.ipynb").read_text()
    (lab / "01_a.ipynb").write_text(stored)
    change(lab, 4, source=OUTPUTS + "\n")
    assert "code or parameters changed" in stale_notebooks(notebooks=lab)["01_a"]
    with pytest.raises(ValueError, match="01_a: its code or parameters changed since that run"):
        store_outputs(lab / "run", notebooks=lab, readme=readme)
    (lab / "01_a.ipynb").write_text(stored)
    write_profile(lab, "full", **{"01_a": {"seed": 5}})
    assert "code or parameters changed" in stale_notebooks(notebooks=lab)["01_a"]


def check_notebook(notebook: nbformat.NotebookNode) -> None:
    about = notebook.metadata["labutils"]
    assert about["profile"] == "full" and about["answer"] == "Yes, 4.5 | [0, 1]"
    assert notebook.cells[1].source.startswith("**Answer.** Yes, 4.5 | [0, 1]\n\nOutputs stored on ")
    assert "profile `full`" in notebook.cells[1].source
    assert notebook.cells[2].source.startswith("seed: int = 0 ")
    assert not any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    kinds = [(output.output_type, output.get("name")) for output in code[2].outputs]
    assert ("stream", "stdout") in kinds and ("stream", "stderr") not in kinds
    assert any("image/png" in output.get("data", {}) for output in code[2].outputs)
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


def test_only_a_full_run_is_stored(lab: Path, readme: Path) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "full", **{"01_a": {}})
    (lab / "run" / "01_a").mkdir(parents=True)
    with pytest.raises(LookupError, match="holds no run"):
        store_outputs(lab / "run", notebooks=lab, readme=readme)
    (lab / "run" / "01_a" / "record.json").write_text('{"notebook": "01_a", "status": "succeeded", "profile": "lab"}')
    with pytest.raises(ValueError, match="profile 'full'"):
        store_outputs(lab / "run", notebooks=lab, readme=readme)


def content(*places: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for place in places for path in (place, *place.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("frozen_inputs")
def test_a_failure_on_the_way_leaves_everything_as_it_was(
    lab: Path, readme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever cannot be written or read: rows too large, evidence lost, a full disk, a README without markers."""
    write_study(lab, "01_a")
    write_profile(lab, "full", **{"01_a": {}})
    run_studies(profile="full", out=lab / "run", notebooks=lab)
    (lab / "docs").mkdir()
    places = (lab / "01_a.ipynb", readme, lab / "docs", lab.parent / "data")
    before = content(*places)

    def check(error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            store_outputs(lab / "run", notebooks=lab, readme=readme)
        assert content(*places) == before

    with monkeypatch.context() as patch:
        patch.setattr(stored_evidence, "MOST_BYTES", 10)
        check(ValueError, "at most")
    with monkeypatch.context() as patch:
        patch.setattr(stored_outputs, "write_readme", _refuse)
        check(OSError, "no space left")
    with monkeypatch.context() as patch:
        patch.setattr(stored_evidence, "write_atomically", _refuse)
        check(OSError, "no space left")
    kept = lab / "run" / "01_a" / "evidence" / "evidence.json"
    kept.rename(lab / "hidden")
    check(LookupError, "01_a: the run kept no rows of its verdicts")
    (lab / "hidden").rename(kept)
    store_outputs(lab / "run", notebooks=lab, readme=readme)
    assert content(*places) != before and find_stale(notebooks=lab, readme=readme) == []


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no space left")


def test_the_table_says_what_is_not_yet_stored(lab: Path) -> None:
    write_study(lab, "01_a")
    assert readme_table(notebooks=lab).splitlines()[-1] == (
        "| [01_a](notebooks/01_a.ipynb) | Is 01_a so? | not yet stored |"
    )


def test_a_readme_without_markers_is_refused(lab: Path) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "full", **{"01_a": {}})
    (lab / "README.md").write_text("no table here")
    with pytest.raises(ValueError, match="must hold the markers"):
        find_stale(notebooks=lab, readme=lab / "README.md")


def test_the_text_in_place_of_an_image_is_stored_with_it() -> None:
    alt = {"image/png": {"alt": "Figure: what it costs.", "width": 300}}
    shown = nbformat.v4.new_output("display_data", data={"image/png": "aa"}, metadata=alt)
    silent = nbformat.v4.new_output("display_data", data={"image/png": "aa"}, metadata={"image/png": {"width": 3}})
    kept = stored_outputs._clean_outputs([shown, silent], 1)
    assert [one.metadata for one in kept] == [{"image/png": {"alt": "Figure: what it costs."}}, {}]
