"""Tiny notebooks for the tests of the runner: each logs that it ran and concludes with one verdict."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labutils.core import paths

PARAMETERS = """\
seed: int = 0  # seed of everything random
scale: float | None = None  # factor on the loss (nats)
words: list[str] = ["a", "b"]  # what to count
loud: bool = False  # print more"""

LOG_RUN = """\
import os, signal, time
from pathlib import Path
lab = Path(os.environ["STUDY_FOLDER"])
with (lab / "log").open("a") as log: log.write(os.environ["LABUTILS_NOTEBOOK"] + "\\n")"""

CONCLUDE = """\
import pandas as pd
from labutils import conclude
from labutils.claims.verdicts import Verdict
verdict = Verdict(
    claim=f"C{int(STEM[:2]) % 50 or 50:02}",  # a claim is concluded by one notebook of a run only
    statement="", outcome="supported", first_outcome="supported", scope={"notebook": STEM},
    estimate=seed + 0.5, low=0.0, high=1.0,
)
rows = pd.DataFrame({"item": [1, 2], "loss": [0.1, 0.2 * seed]})
conclude(rows, [verdict], f"Yes, {seed + 0.5} | [0, 1]")"""

READ_LEDGERS = """\
others = sorted(Path(os.environ["LABUTILS_RUN_FOLDER"]).glob("*/ledger.jsonl"))
found = [path.parent.name for path in others]
(lab / "read").write_text(" ".join(found))"""


def tagged(cell: Any, tag: str) -> Any:
    cell.metadata["tags"] = [tag]
    return cell


def write_study(
    folder: Path, stem: str, *middle: str, after_all: bool = False, conclude: bool = True, parameters: str = PARAMETERS
) -> Path:
    """Write a notebook of the form that the collection uses, with cells of your own in the middle."""
    cells = [
        new_markdown_cell(f"# Is {stem} so?"),
        tagged(new_markdown_cell("not yet answered"), "answer"),
        tagged(new_code_cell(parameters), "parameters"),
        new_code_cell(LOG_RUN),
        *(new_code_cell(source) for source in middle),
    ]
    if conclude:
        cells.append(new_code_cell(CONCLUDE.replace("STEM", repr(stem))))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = new_notebook(cells=cells)
    if after_all:
        notebook.metadata["labutils"] = {"after": "all"}
    path = folder / f"{stem}.ipynb"
    nbformat.write(notebook, path)
    return path


def write_profile(folder: Path, profile: str, **values: dict[str, Any]) -> None:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / f"{profile}.yaml").write_text(json.dumps(values))


def command_line(lab: Path, *arguments: str | Path) -> subprocess.Popen:
    """Start `python -m labutils …` with its output captured, on a copy of the sources that nobody edits meanwhile."""
    copy = lab / "sources"
    if not copy.exists():
        shutil.copytree(paths.REPOSITORY / "labutils", copy / "labutils", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "labutils", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    return subprocess.Popen(
        command, env=environment, cwd=lab, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def executed(lab: Path) -> list[str]:
    """The notebooks that ran, in order."""
    path = lab / "log"
    return path.read_text().split() if path.exists() else []


def read_manifest(run: Path) -> dict[str, dict[str, Any]]:
    return json.loads((run / "manifest.json").read_text())["notebooks"]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)


def meet(place: str) -> int:
    """Wait until two processes are here at a time, then return the own one's id."""
    Path(f"{place}-{os.getpid()}").touch()
    wait_until(lambda: len(list(Path(place).parent.glob(f"{Path(place).name}-*"))) > 1)
    return os.getpid()


def wait_for(folder: str) -> int:
    """Tell that this has begun, wait for the file `go`, then return the own process's id."""
    (Path(folder) / "begun").touch()
    wait_until((Path(folder) / "go").exists)
    return os.getpid()
