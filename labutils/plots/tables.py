"""Tables as a notebook shows them."""

from collections.abc import Hashable, Mapping

import pandas as pd
from pandas.api.types import is_numeric_dtype
from pandas.io.formats.style import Styler

from labutils.core.options import suggest


def show(
    table: pd.DataFrame,
    *,
    precision: int | None = None,
    formats: Mapping[Hashable, str] | None = None,
    missing: str = "",
) -> Styler:
    """A table for readers: without its index, numbers formatted, text from the left, and escaped (it may be data).

        lab.show(report.layers.head(8), precision=4)
        lab.show(sizes, precision=0, formats={"share": ".2%", "bytes": ","}, missing="not measured")

    An index that tells the reader something becomes a column by `table.reset_index()`. The Styler can be styled on,
    as by `.set_caption("…")`.

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
    templates = {column: text if "{" in text else f"{{:{text}}}" for column, text in formats.items()}
    # pandas escapes strings alone; what else stands in a cell is written as one first.
    table = table.map(lambda value: str(value) if isinstance(value, list | tuple | set | dict) else value)
    styler = table.reset_index(drop=True).style.hide(axis="index").format_index(axis="columns", escape="html")
    if table.columns.is_unique:  # text reads from the left, numbers align at the right
        texts = [name for name in table.columns if not is_numeric_dtype(table[name])]
        left = [{"selector": "", "props": [("text-align", "left")]}]
        styler = styler.set_table_styles(dict.fromkeys(texts, left))
    return styler.format(templates, precision=precision, na_rep=missing, escape="html")
