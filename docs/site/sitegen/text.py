"""Texts of notebooks and ledgers as HTML: everything escaped, then the few signs of Markdown that sentences use."""

import html
import re

CODE = re.compile(r"`([^`]+)`")
BOLD = re.compile(r"\*\*([^*]+)\*\*")
ITALIC = re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def inline(markdown: str) -> str:
    """One paragraph of Markdown as HTML; links lose their target, and HTML stands for itself.

    >>> inline("`ria` is **better** <b>")
    '<code>ria</code> is <b>better</b> &lt;b&gt;'
    """
    text = html.escape(" ".join(markdown.split()), quote=False)
    text = CODE.sub(r"<code>\1</code>", LINK.sub(r"\1", text))
    return ITALIC.sub(r"<i>\1</i>", BOLD.sub(r"<b>\1</b>", text))


def first_paragraph(markdown: str) -> str:
    """The first paragraph of a text that is neither heading, list nor table; "" where there is none."""
    for paragraph in markdown.strip().split("\n\n"):
        if paragraph.strip() and paragraph.lstrip()[0] not in "#|<-":
            return paragraph.strip()
    return ""


def raw_html(*lines: str) -> str:
    """A block of HTML in a page of Markdown.

    Raises:
        ValueError: the HTML holds the fence that ends the block.
    """
    text = "\n".join(lines)
    if "````" in text:
        raise ValueError("HTML of a page holds four backticks in a row, which end its block")
    return f"````{{raw}} html\n{text}\n````\n"


def write_number(value: float) -> str:
    """A number to two digits, without powers of ten.

    >>> write_number(164.2), write_number(0.0394), write_number(-3.04)
    ('164', '0.039', '−3')
    """
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return text.replace("-", "−")
