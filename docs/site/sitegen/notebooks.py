"""Stored notebooks as pages: code folded, a place for every cell, figures with a text in their place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

LONGEST_TABLE = 40  # rows; a longer one is folded
LONGEST_ALT = 300  # characters
PAGE = re.compile(r'href="(\d\d\w+)\.ipynb"')  # a link of a table to another notebook
ROW = re.compile(r"<tr\b")
SENTENCE = re.compile(r"(?<=[.:?])\s")


@dataclass(frozen=True)
class Figure:
    """A figure of a stored notebook.

    Attributes:
        cell: place of its cell in the notebook, from 0.
        number: which of the notebook's figures it is, from 1.
        image: the PNG, in base64.
        heading: of the section that it stands in.
        words: the first sentence above it.
        finding: the sentence under it, as Markdown; "" where there is none.
        stored_alt: the text in its place that was stored with it; "" where there is none.
    """

    cell: int
    number: int
    image: str
    heading: str
    words: str
    finding: str
    stored_alt: str = ""

    @property
    def alt(self) -> str:
        """The text in its place: its section, what is drawn, and what it shows."""
        told = [f"Figure {self.number}.", *(f"{_plain(text).rstrip('.:')}." for text in self._parts() if text)]
        text = self.stored_alt or " ".join(told).replace("?.", "?")
        return text if len(text) <= LONGEST_ALT else text[:LONGEST_ALT].rsplit(" ", 1)[0] + " …"

    def _parts(self) -> tuple[str, str, str]:
        return self.heading, self.words, self.finding


def find_figures(notebook: NotebookNode) -> list[Figure]:
    """The figures of a notebook in order, each with the sentence that its notebook computed for it.

    >>> [figure.finding for figure in find_figures(notebook)]
    """
    found, heading, words = [], "", ""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            lines = cell.source.strip().splitlines()
            heading = next((line.lstrip("# ") for line in lines if line.startswith("#")), heading)
            text = " ".join(line for line in lines if not line.startswith("#")).strip()
            words = SENTENCE.split(text)[0] if text else words
        for image, alt in _images(cell):
            finding = _sentence_after(notebook, place, image)
            found.append(Figure(place, len(found) + 1, image, heading, words, finding, alt))
    return found


def prepare(notebook: NotebookNode) -> NotebookNode:
    """The notebook as its page shows it: code folded, an anchor `cell-<place>` at each code cell, long tables folded.

    >>> prepare(notebook).cells[1].metadata.tags
    ['hide-input']
    """
    copy = nbformat.from_dict(notebook)
    told = {}
    for figure in find_figures(copy):
        told.setdefault(figure.cell, figure.alt)
    cells = []
    for place, cell in enumerate(copy.cells):
        if cell.cell_type == "code":
            cells.append(nbformat.v4.new_markdown_cell(f'<div class="cell-anchor" id="cell-{place}"></div>'))
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
            if place in told:
                cell.metadata["mystnb"] = {"image": {"alt": told[place]}}
            for output in cell.outputs:
                if "text/html" in output.get("data", {}):
                    output.data["text/html"] = wrap_table(PAGE.sub(r'href="\1.html"', output.data["text/html"]))
        cells.append(cell)
    copy.cells = cells
    return copy


def wrap_table(table: str) -> str:
    """A table of HTML in a frame that scrolls by itself; folded where it has more than 40 rows."""
    n_rows = len(ROW.findall(table)) - 1
    framed = f'<div class="table-frame" tabindex="0" role="region" aria-label="table">{table}</div>'
    if n_rows <= LONGEST_TABLE or "<details" in table:
        return framed
    return f"<details><summary>A table of {n_rows} rows</summary>{framed}</details>"


def find_cell(notebook: NotebookNode, claim_id: str) -> int | None:
    """The place of the code cell that judges a claim; None where no cell names it.

    >>> find_cell(notebook, "C01")
    21
    """
    code = [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    direct = re.compile(rf"judge\w*\(\s*[\"']{claim_id}[\"']")
    named = re.compile(rf"[\"']{claim_id}\b")
    tests = (
        lambda cell: direct.search(cell.source),
        lambda cell: "judge" in cell.source and named.search(cell.source),
        lambda cell: "not_testable" in cell.source and named.search(cell.source),
        lambda cell: any(text.lstrip("*- ").startswith(claim_id) for text in _sentences(cell)),
        lambda cell: any(re.search(rf"\b{claim_id}\b", text) for text in _sentences(cell)),
        lambda cell: named.search(cell.source),
    )
    return next((place for test in tests for place, cell in code if test(cell)), None)


def nearest_figure(figures: list[Figure], place: int | None) -> Figure | None:
    """The figure that stands above a cell, or the first one below it; None where there is none."""
    if place is None or not figures:
        return None
    above = [figure for figure in figures if figure.cell <= place]
    return above[-1] if above else figures[0]


def read_limits(notebook: NotebookNode) -> str:
    """The paragraph in which a notebook says what it cannot show, as Markdown; "" where it has none."""
    for cell in notebook.cells:
        for paragraph in cell.source.split("\n\n") if cell.cell_type == "markdown" else []:
            if paragraph.startswith("*Limits.*"):
                return " ".join(paragraph.removeprefix("*Limits.*").split())
    return ""


def _images(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """The images that a cell shows, each with the text that was stored with it."""
    for output in cell.get("outputs", []):
        if "image/png" in output.get("data", {}):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            yield output.data["image/png"].replace("\n", ""), alt


def _sentences(cell: NotebookNode) -> list[str]:
    return [o.data["text/markdown"] for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {})]


def _sentence_after(notebook: NotebookNode, place: int, image: str) -> str:
    """The first Markdown that a cell shows after the figure, before the next section or figure."""
    cells = notebook.cells[place:]
    seen = False
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.lstrip().startswith("#"):
            return ""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                if seen:
                    return ""
                seen = data["image/png"].replace("\n", "") == image
            elif seen and "text/markdown" in data:
                return data["text/markdown"]
    return ""


def _plain(text: str) -> str:
    """Markdown without its signs."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"[`*]", "", " ".join(text.split())))
