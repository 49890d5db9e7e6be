"""Pages of the repository that the site shows as they are, with the files that they link to."""

import re
from pathlib import Path

DOCUMENTS = (
    "docs/architecture.md", "docs/also_seen_on.md", "docs/published_values.md", "docs/conformance.md",
    "docs/real/*.md", "data/models/*/README.md", "findings/README.md", "CONTRIBUTING.md",
)  # fmt: skip
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
DIAGRAM = re.compile(r"```mermaid\n(.*?)```\n", flags=re.S)
STOREY = re.compile(r'subgraph \w+ \["?([^\]"]+)"?\]\n(.*?)\n\s*end', flags=re.S)


def find_documents(repository: Path) -> list[str]:
    """The documents that the repository has, relative to it.

    Raises:
        LookupError: a pattern finds nothing: a document has moved.
    """
    found = []
    for pattern in DOCUMENTS:
        paths = sorted(repository.glob(pattern))
        if not paths:
            raise LookupError(f"no document {pattern} in the repository: correct DOCUMENTS of {Path(__file__).name}")
        found += [path.relative_to(repository).as_posix() for path in paths]
    return found


def linked_files(text: str, place: str, repository: Path) -> list[str]:
    """Files of the repository, other than pages, that a document links to.

    >>> linked_files("[table](conformance.csv)", "docs/conformance.md", repository)
    ['docs/conformance.csv']
    """
    found = []
    for target, _ in LINK.findall(text):
        path = (repository / place).parent / target
        if ":" not in target and path.is_file() and path.suffix not in (".md", ".ipynb"):
            found.append(path.resolve().relative_to(repository.resolve()).as_posix())
    return list(dict.fromkeys(found))


def draw_storeys(text: str) -> str:
    """The diagram of the rooms as HTML, since a drawing by script would have to be fetched.

    Raises:
        ValueError: a diagram that does not list storeys.
    """

    def draw(match: re.Match[str]) -> str:
        storeys = STOREY.findall(match[1])
        if not storeys:
            raise ValueError(f"a diagram without storeys cannot be drawn: {match[1][:80]!r}")
        rows = [
            f"<li><b>{title.split('·')[-1].strip()}</b> "
            + " ".join(f"<code>{name}</code>" for name in re.findall(r"\w+", rooms))
            + "</li>"
            for title, rooms in storeys
        ]
        return "\n".join(['<ol class="storeys">', *rows, "</ol>"]) + "\n"

    return DIAGRAM.sub(draw, text)


def list_findings(repository: Path) -> str:
    """The scripts of surprises, each with the first lines that it says of itself, as Markdown."""
    lines = []
    for path in sorted((repository / "findings").glob("*.sh")):
        comments = []
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            if not line.startswith("#"):
                break
            comments.append(line.lstrip("# ").strip())
        about = " ".join(" ".join(comments).split())
        lines.append(f"**{path.stem.replace('_', ' ')}** ([script]({path.name})). {_escape(about)}\n")
    return "\n".join(["## Those found so far\n", *lines]) if lines else ""


def _escape(text: str) -> str:
    return re.sub(r"([<>*_`\[\]])", r"\\\1", text)
