"""What of an executed notebook a page may show: figures, and sentences that its cells state; never texts of the data.

A code cell tagged `texts` shows texts of the data, and is left out. So are tables, whose cells may hold anything.
"""

import base64
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

from labutils.runner.notebooks import has_tag, own_cells

TAG = "texts"
TOLD = ("parameters", "dtype", "threads", "device")
PAIR = re.compile(r"<tr>\s*<td[^>]*>([^<]*)</td>\s*<td[^>]*>([^<]*)</td>")  # the rows of a table of two columns


@dataclass
class Part:
    """Outputs that belong together, with the notebook's own words above them.

    Attributes:
        heading: of the section that it stands in, without the signs.
        words: the Markdown cells above the outputs, without headings.
        begins: whether it is the first of its section.
        sentences, figures: what the cell showed; a figure is a PNG.
    """

    heading: str
    words: str
    begins: bool
    sentences: list[str] = field(default_factory=list)
    figures: list[bytes] = field(default_factory=list)


def read_parts(notebook: NotebookNode, hidden: set[str], answer: str) -> tuple[list[Part], str]:
    """The parts of a page, and the words above the notebook's last code cell: its limits.

    Args:
        notebook: as a run left it.
        hidden: sources of code cells whose outputs stay out (`hidden_cells`).
        answer: what the notebook concluded; it is told elsewhere.

        parts, limits = read_parts(executed, hidden_cells(notebook), record["answer"])
    """
    cells = own_cells(notebook)
    last = max((place for place, cell in enumerate(cells) if cell.cell_type == "code"), default=-1)
    parts, heading, words, told, fresh = [], "", "", "", True
    for place, cell in enumerate(cells[: last + 1]):
        if cell.cell_type == "markdown":
            title, text = _split_heading(cell.source)
            heading = title or heading
            words = text if fresh or title else f"{words}\n\n{text}"
            fresh = False
        elif cell.cell_type == "code":
            sentences, figures = _read_outputs(cell) if cell.source not in hidden else ([], [])
            sentences = [sentence for sentence in sentences if sentence.strip() != answer]
            if sentences or figures:
                parts.append(Part(heading, words if place < last else "", heading != told, sentences, figures))
                words, told = words if place == last else "", heading
            fresh = True
    return parts, words


def read_provenance(notebook: NotebookNode) -> dict[str, str]:
    """What the notebook's table of provenance says of model and machine: `parameters`, `dtype`, `threads`, `device`.

    Empty where it shows none; of several models the first counts.
    """
    tables = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    told = next((dict(PAIR.findall(table)) for table in tables if ">weights sha256</td>" in table), {})
    return {name: html.unescape(told[name].strip()) for name in TOLD if name in told}


def hidden_cells(*notebooks: NotebookNode) -> set[str]:
    """Sources of the code cells that carry the tag `texts`."""
    return {cell.source for notebook in notebooks for cell in notebook.cells if has_tag(cell, TAG)}


def _split_heading(source: str) -> tuple[str, str]:
    lines = source.strip().splitlines()
    titles = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
    return (titles[-1] if titles else ""), "\n".join(line for line in lines if not line.startswith("#")).strip()


def _read_outputs(cell: NotebookNode) -> tuple[list[str], list[bytes]]:
    data = [output.data for output in cell.outputs if "data" in output]
    sentences = [entry["text/markdown"] for entry in data if "text/markdown" in entry]
    return sentences, list(_images(data))


def _images(data: list[dict]) -> Iterator[bytes]:
    return (base64.b64decode(entry["image/png"]) for entry in data if "image/png" in entry)
