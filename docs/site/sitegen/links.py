"""Whether every link of a built site leads somewhere: pages, places on pages, images, scripts and files."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ATTRIBUTES = ("href", "src")
FETCHED = {"img", "script", "link", "iframe", "source"}  # what a browser would load by itself
NAMING = {"canonical", "license", "next", "prev", "author", "search", "index"}  # links that are not loaded


@dataclass
class Page(HTMLParser):
    """Links and places of one page."""

    links: list[tuple[str, str]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag links to and by which name it can be found."""
        given = dict(attrs)
        if tag == "link" and given.get("rel") in NAMING:
            return
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [(tag, given[name]) for name in ATTRIBUTES if given.get(name)]


def read_page(path: Path) -> Page:
    """The links and places of a page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def find_broken(site: Path) -> list[str]:
    """What does not lead anywhere, or would be fetched from elsewhere, one line each.

    >>> find_broken(Path("site"))
    []
    """
    pages = {path.resolve(): read_page(path) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        for tag, target in page.links:
            parts = urlsplit(target)
            where = f"{path.relative_to(site.resolve()).as_posix()}: {target}"
            if parts.scheme in ("data", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                problems += [f"{where} would be fetched from elsewhere"] if tag in FETCHED else []
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                problems.append(f"{where} does not exist")
            elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids:
                problems.append(f"{where}: that page has no such place")
    return list(dict.fromkeys(problems))
