"""The first page: what the collection is, a picture, two commands, and three ways in."""

import html
import re

MAINTAINED = """The maintained place to study pruning: serving software has dropped it
([vLLM #36799](https://github.com/vllm-project/vllm/pull/36799), March 2026;
[torchao #4728](https://github.com/pytorch/ao/pull/4728), August 2026;
[neural-compressor #2403](https://github.com/intel/neural-compressor/pull/2403), March 2026), but the questions stay.
"""


def read_readme(text: str) -> dict[str, str]:
    """Title, introduction, commands and picture's caption of the README.

    Raises:
        ValueError: the README is no longer written like that.
    """
    found = re.match(r"# (?P<title>.+)\n\n(?P<about>.+?)\n\n## Two commands\n\n(?P<commands>```sh\n.+?```)", text, re.S)
    picture = re.search(r"!\[(?P<alt>[^\]]+)\]\((?P<path>[^)]+)\)\n\n\*(?P<caption>.+?)\*\n", text, re.S)
    if not found or not picture:
        raise ValueError(
            "README.md must begin with a title, a paragraph, '## Two commands' with a block of sh, and hold a picture "
            "with a caption in italics: the first page of the site is made of them"
        )
    return found.groupdict() | picture.groupdict()


def write_home(readme: str, cards: list[tuple[str, str, str]]) -> str:
    """The first page as Markdown.

    Args:
        readme: the text of README.md.
        cards: title, sentence and page of each way in.
    """
    parts = read_readme(readme)
    return "\n".join([
        f"# {parts['title']}\n",
        parts["about"] + "\n",
        MAINTAINED,
        parts["commands"] + "\n",
        cards_html(cards),
        f"```{{image}} {parts['path']}\n:alt: {parts['alt']}\n:class: overview\n```\n",
        f"*{parts['caption']}*\n",
    ])  # fmt: skip


def cards_html(cards: list[tuple[str, str, str]]) -> str:
    """Links in boxes, as a block of raw HTML."""
    boxes = [
        f'<a class="way" href="{html.escape(page)}"><b>{html.escape(title)}</b><span>{html.escape(sentence)}</span></a>'
        for title, sentence, page in cards
    ]
    return "\n".join(["```{raw} html", '<nav class="ways" aria-label="ways in">', *boxes, "</nav>", "```\n"])
