"""Rows of a run on a real model, made small without a change of any number, and without a text of the data.

`load_real_rows` reads them again.
"""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labutils.core.files import hash_bytes
from labutils.runner.real_manifest import FOLDER, read_manifest

LONGEST = 200  # characters; what is longer is no name


def slim_rows(rows: pd.DataFrame, *, is_quotation: Callable[[list[str]], bool]) -> tuple[bytes, list[str]]:
    """The content of a small Parquet file of one row group, and the columns that were left out.

    Args:
        rows: as a study concluded with them.
        is_quotation: tells whether any of some texts quotes the data; such a column is left out.

        content, left_out = slim_rows(rows, is_quotation=lambda texts: False)
    """
    texts = {name: [str(value) for value in rows[name].dropna().unique()] for name in rows if _is_text(rows[name])}
    left_out = [
        name for name, found in texts.items() if max(map(len, found), default=0) > LONGEST or is_quotation(found)
    ]
    kept = rows.drop(columns=left_out)
    single = [name for name in kept if _fits_single(kept[name])]
    numbers = [name for name in kept if kept[name].dtype == "float64"]
    table = pa.Table.from_pandas(kept.astype(dict.fromkeys(single, "float32")), preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=max(1, len(kept)),
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
    )
    return buffer.getvalue(), left_out


def load_real_rows(stem: str, *, real: Path = FOLDER) -> pd.DataFrame:
    """The rows of a notebook's run on a real model, as the study concluded with them.

    Contrasts and intervals that are computed from them are those of its verdicts.

    Raises:
        LookupError: nothing is stored for that notebook.
        ValueError: the file is not the one that was stored.

        rows = load_real_rows("01_layerwise_sparsity")
        lab.contrast(rows, {"magnitude": ("magnitude/uniform", "magnitude/global")})
    """
    manifest, name = read_manifest(real), f"rows/{stem}.parquet"
    if name not in manifest.get("files", {}):
        stored = ", ".join(manifest.get("notebooks", {})) or "none"
        raise LookupError(f"no rows of {stem!r} on a real model are stored; stored are: {stored}")
    content = (real / name).read_bytes()
    if hash_bytes(content) != manifest["files"][name]:
        raise ValueError(f"{name} is not the file that was recorded: take it from the repository again")
    rows = pd.read_parquet(io.BytesIO(content))
    return rows.astype({name: "float64" for name in rows if rows[name].dtype == "float32"})


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def _fits_single(column: pd.Series) -> bool:
    """Whether single precision holds the numbers to the last bit, as it does for losses of a model in 32 bits."""
    return column.dtype == "float64" and column.astype("float32").astype("float64").equals(column)
