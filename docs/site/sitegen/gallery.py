"""The gallery: every stored figure with the sentence that its notebook computed for it, and where it comes from."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping

from nbformat import NotebookNode

from labutils.runner.notebooks import read_title
from sitegen.notebooks import Figure, find_figures
from sitegen.text import first_paragraph, inline, raw_html

HEAD = """# Gallery

Every figure of the collection, with what it shows in one sentence, computed by its notebook from the rows that are
drawn. A figure leads to its cell.
"""
ON_A_PAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\(figures/(?P<file>[^)]+)\)(?P<below>(?:\s+(?!\#|!\[)[^\n]+)?)")


def image_path(figure: Figure) -> str:
    """Where the site has the image of a notebook's figure: MyST-NB names it by its SHA-256."""
    return f"_images/{hashlib.sha256(base64.b64decode(figure.image)).hexdigest()}.png"


def write_gallery(found: Mapping[str, NotebookNode], real: Mapping[str, str], name: str) -> str:
    """The page, as Markdown.

    Args:
        found: the notebooks by stem.
        real: the pages on a real model by stem, as Markdown.
        name: what that model was run on.
    """
    blocks = [HEAD]
    for stem, notebook in found.items():
        cards = [_card(stem, figure) for figure in find_figures(notebook)]
        if cards:
            blocks += [f"## {read_title(notebook)}\n", raw_html('<div class="gallery">', *cards, "</div>")]
    cards = [card for stem, page in real.items() for card in _real_cards(stem, page)]
    if cards:
        blocks += [f"## On {name}\n", raw_html('<div class="gallery">', *cards, "</div>")]
    return "\n".join(blocks)


def _card(stem: str, figure: Figure) -> str:
    link = f"notebooks/{stem}.html#cell-{figure.cell}"
    told = first_paragraph(figure.finding) or figure.words
    return draw_card(link, image_path(figure), figure.alt, figure.heading, told, stem)


def _real_cards(stem: str, page: str) -> list[str]:
    cards = []
    for match in ON_A_PAGE.finditer(page):
        below = match["below"].strip().lstrip("> ")
        heading = html.unescape(match["alt"].split(". ", 2)[1]) if match["alt"].count(". ") else stem
        cards.append(
            draw_card(f"docs/real/{stem}.html", f"_images/{match['file']}", match["alt"], heading, below, stem)
        )
    return cards


def draw_card(link: str, image: str, alt: str, heading: str, told: str, stem: str) -> str:
    """One figure of the gallery, as HTML."""
    picture = f'<img loading="lazy" src="{html.escape(image)}" alt="{html.escape(alt)}">'
    caption = f"<b>{inline(heading)}</b> {inline(told)} <small>{html.escape(stem)}</small>"
    return f'<figure><a href="{html.escape(link)}">{picture}</a><figcaption>{caption}</figcaption></figure>'
