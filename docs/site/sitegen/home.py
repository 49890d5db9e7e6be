"""The first page: what the collection is, ways in, a picture of what became of claims, and two commands."""

import html
import re
from collections.abc import Sequence

from labutils.claims.outcomes import NEGLIGIBLE
from sitegen.claims import badge
from sitegen.claims_data import Entry, Study, in_order_of_size
from sitegen.interval_drawings import draw_interval
from sitegen.text import raw_html, write_number

MAINTAINED = """This is the maintained place to study pruning after serving software dropped it:
[vLLM](https://github.com/vllm-project/vllm/pull/36799) in March 2026,
[neural-compressor](https://github.com/intel/neural-compressor/pull/2403) in March 2026 and
[torchao](https://github.com/pytorch/ao/pull/4728) in August 2026.
"""
WIDTH = 300
CLEAR = ("supported", "contradicted", NEGLIGIBLE)
HEAD = (
    '<thead><tr><th scope="col">claim</th><th scope="col">← against it · for it →</th><th scope="col">outcome</th></tr>'
    "</thead>"
)


def read_readme(text: str) -> dict[str, str]:
    """Title, introduction and commands of the README, and its sections by their headings.

    Raises:
        ValueError: the README is no longer written like that.
    """
    found = re.match(r"# (?P<title>.+)\n\n(?P<about>.+?)\n\n## Two commands\n\n(?P<commands>```sh\n.+?```)", text, re.S)
    if not found:
        raise ValueError(
            "README.md must begin with a title, a paragraph, and '## Two commands' with a block of sh: the first page "
            "of the site is made of them"
        )
    sections = dict(re.findall(r"^## ([^\n]+)\n(.+?)(?=^## |\Z)", text, flags=re.M | re.S))
    return found.groupdict() | sections


def write_section(readme: dict[str, str], title: str) -> str:
    """A section of the README as a page; links to what the site has in another place lead there.

    Raises:
        LookupError: the README has no such section.
    """
    if title not in readme:
        raise LookupError(f"README.md has no section {title!r}, which is a page of the site")
    return f"# {title}\n{readme[title]}".replace("(docs/which_method.md)", "(which_method.md)")


def write_home(readme: dict[str, str], cards: Sequence[tuple[str, str, str]], entries: Sequence[Entry]) -> str:
    """The first page as Markdown.

    Args:
        readme: of `read_readme`.
        cards: title, sentence and page of each way in.
        entries: of `claims_data.collect`, for the picture.
    """
    return "\n".join([
        f"# {readme['title']}\n", readme["about"] + "\n", cards_html(cards), picture(entries),
        "## Two commands\n", readme["commands"] + "\n", MAINTAINED,
    ])  # fmt: skip


def cards_html(cards: Sequence[tuple[str, str, str]]) -> str:
    """Links in boxes, as a block of raw HTML."""
    boxes = [
        f'<a class="way" href="{html.escape(page)}"><b>{html.escape(title)}</b><span>{html.escape(sentence)}</span></a>'
        for title, sentence, page in cards
    ]
    return raw_html('<nav class="ways" aria-label="ways in">', *boxes, "</nav>")


def picture(entries: Sequence[Entry]) -> str:
    """What became of claims on the largest model that was studied: a row per claim, with its effect drawn."""
    model = in_order_of_size([study for entry in entries for study in entry.studies])[0]
    rows = [_row(entry, study) for entry in entries for study in entry.studies if study.model == model]
    legend = (
        f"What papers say, and what became of it on {html.escape(model)}. The dot is the effect and the line its 95 % "
        "interval; right of the middle speaks for the claim, and in the grey band, the margin fixed before any run, an "
        "effect is too small to matter."
    )
    own = [study for entry in entries for study in entry.studies if study.model == model]
    clear = [study for study in own if study.verdict.outcome in CLEAR]
    stay = sum(study.corrected == study.verdict.outcome for study in clear)
    legend += f" Corrected for the number of claims asked (Holm), {stay} of the {len(clear)} clear outcomes stay."
    earlier = [study.verdict.claim for study in own if study.earlier]
    if earlier:
        legend += f" Judged there by an earlier definition of the claim: {', '.join(earlier)}."
    return "\n".join([
        f"## What became of claims on {model}\n",
        raw_html('<table class="forest">', f"<caption>{legend}</caption>", HEAD, "<tbody>", *rows, "</tbody></table>"),
    ])  # fmt: skip


def _row(entry: Entry, study: Study) -> str:
    drawn = ""
    if study.drawn:
        low, estimate, high = map(write_number, study.drawn)
        drawn = draw_interval(*study.drawn, f"{estimate} margins, interval {low} to {high}", width=WIDTH)
    name = entry.claim.name[0].upper() + entry.claim.name[1:]
    link = f'<a href="claims.html#{entry.claim.id}">{html.escape(name)}</a>'
    return f'<tr><th scope="row">{link}</th><td>{drawn}</td><td>{badge(study.verdict.outcome)}</td></tr>'
