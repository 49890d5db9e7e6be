"""Folders of runs with the profile `real`, written without a kernel, for the tests of pages on a real model."""

import base64
import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from tiny_notebooks import write_profile, write_study

from labutils.claims.ledger import write_ledger
from labutils.claims.verdicts import Verdict
from labutils.runner.notebooks import own_cells, read_notebook
from labutils.runner.planning import plan_studies
from labutils.runner.records import new_record, study_inputs, write_record
from labutils.runner.stored_outputs import MARKERS

SHARED = {"labutils_sha256": "0", "data_sha256": "0", "versions": {"python": "3.12.1", "torch": "2.13.0"}}
QUOTED = "the quick brown fox jumps over the lazy dog and sleeps"
PNG = base64.b64encode(b"\x89PNG\r\n a curve").decode()
SECRET = base64.b64encode(b"\x89PNG\r\n a heatmap of sentences").decode()
PROVENANCE = "<tr> <td id='a' >{}</td> <td id='b' >{}</td></tr>"
MEASURED = {"wall_seconds": 7200.0, "processor_seconds": 10800.0, "peak_megabytes": 3210.0, "threads": 2}


def markdown(text: str) -> Any:
    return new_output("execute_result", data={"text/markdown": text, "text/plain": "<Markdown>"})


def picture(image: str = PNG) -> Any:
    return new_output("display_data", data={"image/png": image, "text/plain": "<Figure>"})


def table(text: str) -> Any:
    return new_output("execute_result", data={"text/html": text, "text/plain": "<Styler>"})


def write_notebook(lab: Path, stem: str) -> None:
    """A notebook with sections, a table of provenance, figures, sentences, and cells that show texts of the data."""
    path = write_study(lab, stem)
    notebook = nbformat.read(path, as_version=4)
    body = [
        new_markdown_cell("## What exactly is measured on"),
        new_code_cell("provenance"),
        new_markdown_cell("## The sweep\n\nHow the loss grows. More words."),
        new_code_cell("figure"),
        new_markdown_cell("## C01: uniform\n\nThe difference."),
        new_code_cell("nothing shown"),
        new_code_cell("sentence"),
        new_markdown_cell("The texts that changed most."),
        new_code_cell("texts of the data"),
        new_markdown_cell("## Verdicts\n\n*Limits.* One model."),
    ]
    body[8].metadata["tags"] = ["texts"]
    notebook.cells[-1:-1] = body
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, path)


def default_outputs() -> dict[str, list[Any]]:
    told = {"threads": "4", "parameters": "135", "dtype": "bfloat16", "weights sha256": "0"}
    return {
        "provenance": [table("".join(PROVENANCE.format(*pair) for pair in told.items()))],
        "figure": [picture()],
        "sentence": [markdown("C01 **supported**: +0.1 [0.0, 0.2] on <b>cats & dogs</b> [x](http://a.b)")],
        "texts of the data": [table(QUOTED), picture(SECRET), markdown(QUOTED)],
    }


def verdict(**values: Any) -> Verdict:
    about = {"outcome": "supported", "first_outcome": "supported", "statement": "Uniform is no worse."}
    about |= {"scope": {"model": "real", "corpus": "notes.txt"}, "estimate": 0.1, "low": 0.0, "high": 0.2}
    return Verdict(**{"claim": "C01", "p_value": 0.03, "n_items": 5, "n_draws": 2} | about | values)


def sweep_rows() -> pd.DataFrame:
    """Rows as a sweep gives them: two arms and the dense model, on items and draws."""
    rng, rows = np.random.default_rng(0), []
    for arm, shift in {"magnitude/uniform": 0.3, "wanda/uniform": 0.1}.items():
        for sparsity in (0.1, 0.4):
            for draw in range(3):
                losses = rng.normal(2 + shift * sparsity, 0.1, 60).astype("float32").astype("float64")
                method, allocation = arm.split("/")
                about = {"arm": arm, "method": method, "allocation": allocation, "pattern": "unstructured"}
                about |= {"sparsity": sparsity, "draw": draw, "model": "real", "unit": "nats per token"}
                about |= {"calibration": "file:notes.txt", "evaluation": "file:notes.txt"}
                rows += [about | {"item": item, "loss": loss} for item, loss in enumerate(losses)]
    return pd.DataFrame(rows).assign(exact=rng.normal(size=len(rows)))


def write_run(
    lab: Path,
    stem: str = "01_a",
    *,
    outputs: dict[str, list[Any]] | None = None,
    rows: pd.DataFrame | None = None,
    verdicts: list[Verdict] | None = None,
    answer: str = "On real, uniform gains +0.1 [0.0, 0.2] | (C01 supported).",
    profile: str = "real",
    status: str = "succeeded",
    **outcome: Any,
) -> Path:
    """Add a notebook's folder to the run, as the runner would have left it; the notebook is written where missing."""
    run, folder = lab / "run", lab / "run" / stem
    if not (lab / f"{stem}.ipynb").exists():
        write_notebook(lab, stem)
    write_profile(lab, profile, **{stem: {"words": ["file:notes.txt", "b"]}})
    ((study,), _) = plan_studies([stem], profile=profile, overrides={}, folder=lab)
    executed = read_notebook(lab / f"{stem}.ipynb")
    shown = default_outputs() | (outputs or {})
    for cell in own_cells(executed):
        if cell.cell_type == "code":
            cell.outputs = nbformat.from_dict(shown.get(cell.source, []))
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, folder / f"{stem}.ipynb")
    (sweep_rows() if rows is None else rows).to_parquet(folder / "rows.parquet", index=False)
    write_ledger(folder / "ledger.jsonl", [verdict()] if verdicts is None else verdicts)
    (folder / "result.json").write_text(json.dumps({"answer": answer}))
    told = {"status": status, "answer": answer, "n_rows": 720, "verdicts": {"supported": 1}, "device": "cpu"}
    told |= {"finished": "2026-01-02T03:04:05+00:00", **MEASURED, **outcome}
    write_record(run, new_record(study, study_inputs(study, SHARED, run), told))
    return run


def prepare(lab: Path) -> Path:
    """The texts that the runs name, a README with its markers, and a profile `full`; returns the README."""
    (lab / "notes.txt").write_text(f"First line.\nAnd here {QUOTED.upper()}, it is said.\n")
    readme = lab / "README.md"
    readme.write_text(f"before\n\n{MARKERS[0]}\n{MARKERS[1]}\n")
    return readme


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
