"""Tables as a notebook shows them."""

from collections.abc import Callable, Hashable, Mapping
from numbers import Integral, Real

import pandas as pd
from pandas.io.formats.style import Styler

from labutils.core.long_tables import Table
from labutils.core.options import suggest
from labutils.core.provenance import FOLDED
from labutils.stats.writing import true_minus


def show(
    table: pd.DataFrame,
    *,
    precision: int | None = None,
    formats: Mapping[Hashable, str] | None = None,
    missing: str = "",
) -> Table:
    """A table for readers: without its index, numbers formatted, text from the left, and escaped (it may be data).

        lab.show(report.layers.head(8), precision=4)
        lab.show(sizes, precision=0, formats={"share": ".2%", "bytes": ","}, missing="not measured")

    An index that tells the reader something becomes a column by `table.reset_index()`. The Styler can be styled on,
    as by `.set_caption("…")`.

    Text stands at the left of its column, numbers at the right. From 20 rows on the table sorts by a click on a heading
    and filters, where the page runs scripts. What `provenance` gives is folded away: a reader opens it by a click, also
    on GitHub.

    Args:
        precision: digits after the point of every float; without it those of pandas.
        formats: column → how its values are written, as ".1%" or "{:+.2f} ms"; goes before `precision`.
        missing: what stands for NaN and None.

    Raises:
        LookupError: `formats` names a column that the table does not have.
    """
    formats = formats or {}
    for column in formats:
        if column not in table:
            there = [str(name) for name in table.columns]
            raise LookupError(
                f"no column {column!r} to format.{suggest(str(column), there)} Columns: {', '.join(there)}."
            )
    title = table.attrs.get(FOLDED)
    # pandas escapes strings alone; what else stands in a cell is written as one first.
    table = table.map(lambda value: str(value) if isinstance(value, list | tuple | set | dict) else value)
    plain = table.reset_index(drop=True)
    styler = Table(plain)
    styler.title = title
    styler.hide(axis="index").format_index(axis="columns", escape="html")
    templates = {column: text if "{" in text else f"{{:{text}}}" for column, text in formats.items()}
    writers = {column: _writer(templates.get(column), precision) for column in plain}
    return _left(styler, plain).format(writers, na_rep=missing, escape="html")


def _writer(template: str | None, precision: int | None) -> Callable[[object], object]:
    """How the values of a column are written: numbers with true minus signs, all else as it is."""
    digits = pd.get_option("styler.format.precision") if precision is None else precision

    def write(value: object) -> object:
        if template is None and not isinstance(value, Real):
            return value
        text = (template or ("{}" if isinstance(value, Integral) else f"{{:.{digits}f}}")).format(value)
        return text if isinstance(value, str) else true_minus(text)

    return write


def _left(styler: Styler, table: pd.DataFrame) -> Styler:
    """Columns of text, and their headers, begin at the left."""
    if not table.columns.is_unique:  # pandas styles columns by their names
        return styler
    texts = [column for column in table if table[column].map(lambda value: isinstance(value, str)).any()]
    to_the_left = [{"selector": "", "props": [("text-align", "left")]}]
    return styler.set_table_styles(dict.fromkeys(texts, to_the_left), overwrite=False) if texts else styler
