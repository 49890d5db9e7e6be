"""Notebooks as documents: find them, read their parts, clean them, and turn executed ones into pages and figures."""

import base64
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from labutils.core.files import hash_json, without_paths
from labutils.runner.parameters import name_known

GENERATED_TAGS = {"answer", "injected-parameters"}
# nbconvert's classic page without the scripts that it fetches from the network.
OFFLINE_PAGE = """{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}"""
LINK = re.compile(r'href="(\d\d_\w+)\.ipynb"')
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def find_notebooks(folder: Path) -> dict[str, Path]:
    """The notebooks of a folder by stem, in the order of their names.

    Raises:
        LookupError: there is none.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not found:
        raise LookupError(f"no notebooks (*.ipynb) in {folder}")
    return found


def select_notebooks(names: Iterable[str], available: dict[str, Path]) -> dict[str, Path]:
    """Those of `available` that are named, by stem, number, file name or path; all of them when none is named.

    Raises:
        LookupError: a name is unknown, and the message names the nearest one; or a path names another file than the one
            in the folder of notebooks, which would run in its place.
    """
    stems = [_find_stem(name, available) for name in names]
    return {stem: path for stem, path in available.items() if stem in stems or not stems}


def _find_stem(name: str, available: dict[str, Path]) -> str:
    named, stem = Path(os.path.expanduser(name)), Path(name).name.removesuffix(".ipynb")
    file = named.with_name(f"{stem}.ipynb") if stem else named
    exists = os.path.isfile(file)  # False as well for what can be no name of a file
    by_path = len(named.parts) > 1 or (named.suffix == ".ipynb" and exists)
    if by_path and not (exists and stem in available and os.path.samefile(file, available[stem])):
        if not exists:
            raise LookupError(f"there is no notebook {name!r}{name_known(stem, available)}")
        folder = without_paths(str(next(iter(available.values())).parent))
        raise LookupError(f"{name} is not in the folder of notebooks {folder}; use --notebooks {named.parent}")
    numbered = [known for known in available if known.split("_")[0] == stem]
    if stem not in available and len(numbered) != 1:
        raise LookupError(f"unknown notebook {stem!r}{name_known(stem, available)}")
    return stem if stem in available else numbered[0]


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook file in the current notebook format."""
    return nbformat.read(path, as_version=4)


def write_notebook(notebook: NotebookNode) -> str:
    """The text of a notebook file, valid and ending with a newline."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def has_tag(cell: NotebookNode, tag: str) -> bool:
    """True when the cell carries the tag."""
    return tag in cell.metadata.get("tags", [])


def own_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that the author wrote: neither injected parameters nor the generated answer."""
    return [cell for cell in notebook.cells if not GENERATED_TAGS.intersection(cell.metadata.get("tags", []))]


def hash_cells(notebook: NotebookNode) -> str:
    """SHA-256 over kind and source of the author's cells."""
    return hash_json([[cell.cell_type, cell.source] for cell in own_cells(notebook)])


def hash_code(notebook: NotebookNode) -> str:
    """SHA-256 over the source of the author's code cells, on which outputs hang; no output hangs on prose."""
    return hash_json([cell.source for cell in own_cells(notebook) if cell.cell_type == "code"])


def count_code_cells(notebook: NotebookNode) -> int:
    """Number of code cells of the author's."""
    return sum(cell.cell_type == "code" for cell in own_cells(notebook))


def read_title(notebook: NotebookNode) -> str:
    """The notebook's question: its first heading of level one.

    Raises:
        ValueError: there is none.
    """
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else []:
            if line.startswith("# "):
                return line.removeprefix("# ").strip()
    raise ValueError("the notebook has no title: no markdown line starts with '# '")


def runs_last(notebook: NotebookNode) -> bool:
    """True for a notebook that reads the others' ledgers: its metadata say `labutils: {"after": "all"}`."""
    return notebook.metadata.get("labutils", {}).get("after") == "all"


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy as it stands before execution."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return copy


def clean_executed(notebook: NotebookNode, labutils: dict) -> NotebookNode:
    """A copy of an executed notebook without papermill's records, timings and widgets, described by `labutils`."""
    copy = nbformat.from_dict(notebook)
    language = {"name": "python"}
    copy.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": language, "labutils": labutils})
    for cell in copy.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    return copy


def find_figures(notebook: NotebookNode) -> Iterator[bytes]:
    """The PNG images among a notebook's outputs, in order."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            image = output.get("data", {}).get("image/png")
            if image is not None:
                yield base64.b64decode(image)


def write_html(notebook: NotebookNode, title: str) -> str:
    """The notebook as one page of HTML that loads nothing from anywhere; formulas stay in TeX.

    A link to another notebook of the collection leads to that notebook's page of the same run.
    """
    exporter = HTMLExporter(template_name="classic", raw_template=OFFLINE_PAGE)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return LINK.sub(r'href="../\1/\1.html"', page)
