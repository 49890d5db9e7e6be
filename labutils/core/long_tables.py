"""Tables for readers that sort and filter where they are long, wherever a page runs scripts."""

import html
from pathlib import Path

from pandas.io.formats.style import Styler

SORTING = Path(__file__).with_name("long_tables.js")
LONG = 20  # rows from which on one filters rather than reads


class Table(Styler):
    """A pandas Styler whose table sorts and filters once it has `LONG` rows, and that can be folded away.

        Table(frame).set_caption("every layer")

    The script stands in the table's own output and needs nothing from elsewhere: in Jupyter, in the pages of a run and
    on the site it works; where scripts are taken out, as on GitHub, a plain table is left.

    Attributes:
        title: what a reader clicks on to see the table; without one it is in sight.
    """

    title: str | None = None

    def _repr_html_(self) -> str:
        text = super()._repr_html_()
        if len(self.index) >= LONG:
            text = f'<div class="long-table">\n{text}\n</div>\n<script>\n{SORTING.read_text("utf-8")}</script>'
        if self.title is None:
            return text
        return f"<details><summary>{html.escape(self.title)}</summary>\n{text}\n</details>"
