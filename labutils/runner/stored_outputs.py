"""Stored outputs: from a run of the profile `full` into notebooks and README, and whether they are still true.

A stored notebook carries the hash of the code and parameters that made its outputs: an edit of them without a new run
shows. Prose, on which no output hangs, may be put better without one.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from labutils.core import paths
from labutils.core.files import hash_json, unchanged_on_failure, write_atomically
from labutils.runner.notebooks import (
    find_figures,
    find_notebooks,
    has_tag,
    hash_code,
    own_cells,
    read_notebook,
    read_title,
    write_notebook,
)
from labutils.runner.planning import plan_studies
from labutils.runner.real_manifest import (
    FOLDER,
    find_altered,
    made_earlier,
    read_manifest,
    safe,
    tell_in_notebook,
    tell_in_readme,
)
from labutils.runner.records import portable, read_records
from labutils.runner.short_answers import in_short
from labutils.runner.stored_evidence import plan_rows, write_rows

PROFILE = "full"
MARKERS = ("<!-- notebooks -->", "<!-- /notebooks -->")
PICTURE = ("03_optiprune", "docs/overview.png")  # the README shows this notebook's first figure


def store_outputs(
    run: str | Path, *, notebooks: Path = paths.NOTEBOOKS, readme: Path | None = None, real: Path = FOLDER
) -> list[str]:
    """Copy a run's outputs and answers into the notebooks, rebuild the README's table, and return the stems stored.

    The rows go into the data folder beside the notebooks (`plan_rows`). All is read and checked before anything is
    written, and a failure on the way leaves everything as it was.

    >>> store_outputs("results/full")

    Args:
        run: folder of a run with the profile `full`.
        notebooks: folder of the notebooks.
        readme: the README; that of the repository when None.
        real: folder of the pages on a real model, whose answers stand below the run's own.

    Raises:
        LookupError: the folder holds no run, a notebook is unknown, or its rows or evidence are missing.
        ValueError: a notebook failed, ran with another profile or with other cells than it has now, or lacks a markdown
            cell tagged `answer`; the README's figure or markers are missing, or the rows are too large.
    """
    run = paths.expand(run)
    records = read_records(run)
    if not records:
        raise LookupError(f"{run} holds no run: no record of a notebook was found in it")
    hashes = present_hashes(notebooks)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    stored = {stem: _store_one(run, record, notebooks, hashes, today) for stem, record in records.items()}
    data, readme = notebooks.parent / paths.DATA.name, readme or paths.REPOSITORY / "README.md"
    picture = readme.parent / PICTURE[1]
    rows, figure = plan_rows(run, stored, data=data), _find_picture(stored)
    with unchanged_on_failure(*(notebooks / f"{stem}.ipynb" for stem in find_notebooks(notebooks)), readme, picture):
        for stem, notebook in stored.items():
            write_atomically(notebooks / f"{stem}.ipynb", write_notebook(notebook))
        write_heads(notebooks=notebooks, real=real)
        write_readme(notebooks=notebooks, readme=readme, real=real)
        if figure is not None:
            write_atomically(picture, figure)
        write_rows(rows, data=data)  # last: it puts back what it changed itself
    return list(stored)


def write_heads(*, notebooks: Path = paths.NOTEBOOKS, real: Path = FOLDER) -> None:
    """Write the head of every notebook that has stored outputs: its answer, and that on a real model."""
    manifest = read_manifest(real)
    for stem, path in find_notebooks(notebooks).items():
        notebook = read_notebook(path)
        if "answer" in notebook.metadata.get("labutils", {}):
            _find_answer(notebook, stem).source = _write_answer(stem, notebook, manifest)
            write_atomically(path, write_notebook(notebook))


def stale_notebooks(*, notebooks: Path = paths.NOTEBOOKS, real: Path = FOLDER) -> dict[str, str]:
    """The notebooks whose stored outputs are missing or were made by other code or parameters, with the reason.

    >>> stale_notebooks()  # {"00_tour": "code or parameters changed …"}
    """
    hashes, manifest = present_hashes(notebooks), read_manifest(real)
    stale = {}
    for stem, path in find_notebooks(notebooks).items():
        notebook = read_notebook(path)
        about = notebook.metadata.get("labutils", {})
        if "code_sha256" not in about:
            stale[stem] = "has no stored outputs"
        elif about["code_sha256"] != hashes.get(stem):
            stale[stem] = f"code or parameters changed since its outputs were stored on {about['stored']}"
        elif _find_answer(notebook, stem).source != _write_answer(stem, notebook, manifest):
            stale[stem] = "its answer was edited by hand, or is not what was recorded on a real model"
    return stale


def readme_table(*, notebooks: Path = paths.NOTEBOOKS, real: Path = FOLDER) -> str:
    """The README's table of notebooks: name, question, answer in short, from stored notebooks and real pages.

    >>> print(readme_table())
    """
    lines = ["| notebook | question | answer |", "|---|---|---|"]
    manifest, earlier = read_manifest(real), []
    for stem, path in find_notebooks(notebooks).items():
        notebook = read_notebook(path)
        answer = notebook.metadata.get("labutils", {}).get("answer", "not yet stored")
        answer = "<br>".join(filter(None, [in_short(answer), tell_in_readme(stem, manifest)]))
        question, answer = (text.replace("|", "\\|") for text in (read_title(notebook), answer))
        lines.append(f"| [{stem}](notebooks/{path.name}) | {question} | {answer} |")
        earlier += [stem] if made_earlier(stem, notebook, manifest) else []
    if earlier:
        lines += ["", f"Run on {safe(manifest['name'])} with an earlier state of their cells: {', '.join(earlier)}."]
    return "\n".join(lines)


def write_readme(*, notebooks: Path = paths.NOTEBOOKS, readme: Path | None = None, real: Path = FOLDER) -> None:
    """Put the table of notebooks between its markers in the README.

    Raises:
        ValueError: the README lacks the markers.
    """
    path = readme or paths.REPOSITORY / "README.md"
    before, _, after = _split_readme(path)
    table = readme_table(notebooks=notebooks, real=real)
    write_atomically(path, f"{before}{MARKERS[0]}\n{table}\n{MARKERS[1]}{after}")


def find_stale(*, notebooks: Path = paths.NOTEBOOKS, readme: Path | None = None, real: Path = FOLDER) -> list[str]:
    """Everything stored that is out of date, one line each: notebooks, the README's table, pages on a real model.

    >>> find_stale()  # [] when notebooks and README are up to date
    """
    problems = [f"{stem}: {reason}" for stem, reason in stale_notebooks(notebooks=notebooks, real=real).items()]
    path = readme or paths.REPOSITORY / "README.md"
    if _split_readme(path)[1].strip() != readme_table(notebooks=notebooks, real=real):
        problems.append(f"{path.name}: its table of notebooks differs from their answers")
    return problems + find_altered(real)


def present_hashes(notebooks: Path = paths.NOTEBOOKS) -> dict[str, str]:
    """Hash of each notebook's own code together with its parameters in the profile `full`."""
    studies, _ = plan_studies((), profile=PROFILE, overrides={}, folder=notebooks)
    return {study.stem: _hash_source(study.notebook, portable(study.parameters)) for study in studies}


def _hash_source(notebook: NotebookNode, parameters: dict[str, Any]) -> str:
    return hash_json([hash_code(notebook), parameters])


def _store_one(run: Path, record: dict[str, Any], notebooks: Path, hashes: dict[str, str], today: str) -> NotebookNode:
    stem = record["notebook"]
    if record["status"] != "succeeded" or record["profile"] != PROFILE:
        raise ValueError(f"{stem}: stored outputs come from a successful run with the profile {PROFILE!r}")
    executed = read_notebook(run / stem / f"{stem}.ipynb")
    made_by = _hash_source(executed, record["inputs"]["parameters"])
    if made_by != hashes.get(stem):
        raise ValueError(f"{stem}: its code or parameters changed since that run; run it again")
    notebook = read_notebook(notebooks / f"{stem}.ipynb")
    kept = {name: value for name, value in notebook.metadata.get("labutils", {}).items() if name == "after"}
    about = {"profile": PROFILE, "code_sha256": made_by, "stored": today, "answer": record["answer"]}
    notebook.metadata["labutils"] = nbformat.from_dict(kept | about)
    _find_answer(notebook, stem)  # without it nothing is written
    pairs = zip(_code_cells(notebook), _code_cells(executed), strict=True)
    for number, (cell, source) in enumerate(pairs, 1):
        cell.execution_count = number
        cell.outputs = _clean_outputs(source.outputs, number)
    return notebook


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in own_cells(notebook) if cell.cell_type == "code"]


def _find_picture(stored: Mapping[str, NotebookNode]) -> bytes | None:
    """The figure that the README shows, where the notebook that draws it is stored."""
    if PICTURE[0] not in stored:
        return None
    found = next(find_figures(stored[PICTURE[0]]), None)
    if found is None:
        raise ValueError(f"{PICTURE[0]} shows no figure, and the README shows its first one: run it again")
    return found


def _clean_outputs(outputs: list[NotebookNode], number: int) -> list[NotebookNode]:
    """The outputs worth keeping: no progress written to standard error, no widgets, of metadata the text of images."""
    kept = []
    for output in nbformat.from_dict(outputs):
        if output.get("name") == "stderr":
            continue
        if "data" in output:
            output.data = {kind: data for kind, data in output.data.items() if "widget" not in kind}
            output.metadata = _keep_alt(output.metadata)
            if not output.data:
                continue
        if "execution_count" in output:
            output.execution_count = number
        kept.append(output)
    return kept


def _keep_alt(metadata: dict[str, Any]) -> dict[str, Any]:
    """Of what is told of an output, the text in place of its image."""
    alt = metadata.get("image/png", {}).get("alt")
    return {"image/png": {"alt": alt}} if alt else {}


def _find_answer(notebook: NotebookNode, stem: str) -> NotebookNode:
    cells = [cell for cell in notebook.cells if has_tag(cell, "answer") and cell.cell_type == "markdown"]
    if len(cells) != 1:
        raise ValueError(f"{stem}: one markdown cell must carry the tag 'answer'; there are {len(cells)}")
    return cells[0]


def _write_answer(stem: str, notebook: NotebookNode, manifest: dict[str, Any]) -> str:
    about = notebook.metadata["labutils"]
    made = f"Outputs stored on {about['stored']} from a run with the profile `{about['profile']}`."
    elsewhere = tell_in_notebook(stem, notebook, manifest)
    return "\n\n".join(filter(None, [f"**Answer.** {about['answer']}", elsewhere, made]))


def _split_readme(path: Path) -> tuple[str, str, str]:
    text = path.read_text()
    before, opening, rest = text.partition(MARKERS[0])
    table, closing, after = rest.partition(MARKERS[1])
    if not opening or not closing:
        raise ValueError(f"{path.name} must hold the markers {MARKERS[0]} and {MARKERS[1]}, in this order")
    return before, table, after
