"""The tree of sources that Sphinx reads: files stand where they do in the repository, so that links stay true."""

import re
import shutil
from pathlib import Path

import nbformat
import yaml

import labutils
from labutils.runner.notebooks import find_notebooks, read_notebook, read_title
from labutils.runner.real_manifest import read_manifest
from sitegen import api, claims, claims_data, documents, gallery, home, notebooks, which, which_data

HIDDEN = "```{{toctree}}\n:hidden:\n\n{}\n```\n"
EXTRA = "_extra"  # what is copied as it is
SECTIONS = {"own_model": "Your own model", "judging": "How a claim is judged", "origins": "Where the data come from"}
TOP = ("claims", "which_method", "notebooks/index", "gallery", "own_model", "api/index", "about")


def write_tree(target: Path, repository: Path) -> None:
    """Write all sources below `target`.

    >>> write_tree(Path("build/site/sources"), Path("."))
    """
    target.mkdir(parents=True)
    found = {stem: read_notebook(path) for stem, path in find_notebooks(repository / "notebooks").items()}
    _write_notebooks(target, found)
    _write_documents(target, repository)
    _write_reference(target)
    _write(target / "about.md", write_about(target))
    _write(target / "cite.md", write_cite((repository / "CITATION.cff").read_text(encoding="utf-8")))
    entries = claims_data.collect(found, repository)
    _write(target / "claims.md", claims.write_claims(entries))
    for file in {file for entry in entries for file in entry.rows}:
        _copy(repository, target / EXTRA / "rows", file)
    _write(target / "which_method.md", which.write_which(which_data.collect(), _calibration_tokens(found, repository)))
    _write(target / "gallery.md", _gallery(target, found, repository))
    readme = home.read_readme((repository / "README.md").read_text(encoding="utf-8"))
    for page, title in SECTIONS.items():
        _write(target / f"{page}.md", home.write_section(readme, title))
    _write(target / "index.md", home.write_home(readme, ways_in(found, entries), entries) + "\n" + _toctree(TOP))


def ways_in(found: dict[str, nbformat.NotebookNode], entries: list[claims_data.Entry]) -> list[tuple[str, str, str]]:
    """Title, sentence and page of each way into the site."""
    judged = sum(bool(entry.studies) for entry in entries)
    return [
        ("What became of a claim?", f"{judged} of {len(entries)} claims of papers, judged; each row opens to its rows, "
         "figure and code.", "claims.html"),
        ("Which method shall I use?", "Say how many zeros, which model and what it may cost.", "which_method.html"),
        ("Read the studies", f"{len(found)} questions, each a notebook with its answer.", "notebooks/index.html"),
        ("Try it on your own model", "One command, one changed parameter.", "own_model.html"),
    ]  # fmt: skip


def notebook_index(found: dict[str, nbformat.NotebookNode]) -> str:
    """The page of all notebooks: question and answer of each."""
    lines = [
        "# Notebooks\n",
        "Each asks one question. Outputs are stored; code is folded, and opens with a click.\n",
    ]
    for stem, notebook in found.items():
        answer = notebook.metadata.get("labutils", {}).get("answer", "not yet stored")
        lines += [f"## [{read_title(notebook)}]({stem}.ipynb)\n", f"`{stem}`\n", answer + "\n"]
    return "\n".join([*lines, _toctree(found)])


def write_about(target: Path) -> str:
    """The page that leads to all other documents."""
    models = sorted(path.parent.name for path in target.glob("data/models/*/README.md"))
    sections = {
        "How it is made": ["judging", "origins", "docs/architecture", "CONTRIBUTING", "cite"],
        "What was measured": ["docs/also_seen_on", "docs/real/index", "docs/published_values", "docs/conformance"],
        "Models that come along": [f"data/models/{name}/README" for name in models],
        "Surprises in other software": ["findings/README"],
    }
    lines = ["# About\n"]
    for title, pages in sections.items():
        lines += [f"## {title}\n", "```{toctree}\n:maxdepth: 1\n", *pages, "```\n"]
    return "\n".join(lines)


def write_cite(cff: str) -> str:
    """How to cite, from CITATION.cff."""
    about = yaml.safe_load(cff)
    authors = " and ".join(author["name"] for author in about["authors"])
    entry = [
        f"@software{{{about['title'].split(':')[0]},",
        f"  title = {{{about['title']}}},",
        f"  author = {{{{{authors}}}}},",
        f"  version = {{{about['version']}}},",
        f"  license = {{{about['license']}}},",
        "}",
    ]
    lines = ["# How to cite\n", about["message"] + "\n", "```bibtex", *entry, "```\n", "## Papers re-tested\n"]
    for one in about.get("references", []):
        where = one.get("collection-title") or ", ".join(each["value"] for each in one.get("identifiers", []))
        lines.append(f"- {one['title']} ({one['year']}). {where}.")
    return "\n".join(lines) + "\n"


def _gallery(target: Path, found: dict[str, nbformat.NotebookNode], repository: Path) -> str:
    manifest = read_manifest(repository / "docs" / "real")
    pages = {
        stem: (target / "docs" / "real" / f"{stem}.md").read_text("utf-8") for stem in manifest.get("notebooks", {})
    }
    return gallery.write_gallery(found, pages, manifest.get("name", ""))


def _calibration_tokens(found: dict[str, nbformat.NotebookNode], repository: Path) -> str:
    """How many tokens the models of the page on methods were calibrated on, in words."""
    real = read_manifest(repository / "docs" / "real").get("notebooks", {})
    told = []
    for stem in which_data.STUDIES:
        lines = next(cell.source for cell in found[stem].cells if "parameters" in cell.metadata.get("tags", []))
        sizes = [int(re.search(rf"^{name}: int = (\d+)", lines, re.M)[1]) for name in ("n_calibration", "seq_len")]
        told.append((stem, "the lab models", sizes))
        if stem in real:
            told.append(
                (stem, "the real one", [real[stem]["parameters"][name] for name in ("n_calibration", "seq_len")])
            )
    counts = {f"{a * b:,} tokens ({a} × {b}; {who})": None for _, who, (a, b) in told}
    return " or ".join(counts)


def _write_notebooks(target: Path, found: dict[str, nbformat.NotebookNode]) -> None:
    for stem, notebook in found.items():
        _write(target / "notebooks" / f"{stem}.ipynb", nbformat.writes(notebooks.prepare(notebook)))
    _write(target / "notebooks" / "index.md", notebook_index(found))


def _write_documents(target: Path, repository: Path) -> None:
    for place in documents.find_documents(repository):
        text = documents.draw_storeys((repository / place).read_text(encoding="utf-8"))
        if place == "findings/README.md":
            text += "\n" + documents.list_findings(repository)
        if place == "docs/real/index.md":
            text += "\n" + _toctree(sorted(path.stem for path in (repository / place).parent.glob("[0-9]*.md")))
        _write(target / place, text)
        for file in documents.linked_files(text, place, repository):
            _copy(repository, target, file)


def _write_reference(target: Path) -> None:
    _write(target / "api" / "index.rst", api.write_index(labutils))
    for name, room in api.rooms(labutils).items():
        _write(target / "api" / f"{name}.rst", api.write_room(name, room))


def _toctree(pages) -> str:
    return HIDDEN.format("\n".join(pages))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(repository: Path, target: Path, file: str) -> None:
    (target / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(repository / file, target / file)
