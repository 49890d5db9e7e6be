"""Tables as Parquet files, whatever a column may hold, and small ones that hold every number to the last bit."""

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def frame_to_parquet(frame: pd.DataFrame) -> bytes:
    """The content of a Parquet file that holds the table.

    A column whose values are of several kinds, as an `allocation` that is a name here and a list of sparsities there,
    is written as text: a list as JSON.

    Raises:
        ValueError: Parquet cannot hold the table; the message names the column.

        frame_to_parquet(pd.DataFrame({"allocation": ["uniform", [0.5, 0.6]]}))  # "uniform", "[0.5, 0.6]"
    """
    buffer = io.BytesIO()
    try:
        mixed_as_text(frame).to_parquet(buffer, index=False)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"the rows fit no Parquet file: {'; '.join(map(str, error.args))}") from error
    return buffer.getvalue()


def slim_parquet(frame: pd.DataFrame) -> bytes:
    """The content of a Parquet file of one row group; numbers that single precision holds exactly are stored so.

    Columns of several kinds are written as `frame_to_parquet` writes them.

    Raises:
        ValueError: Parquet cannot hold the table, or two columns have one name; the message names the column.

        slim_parquet(pd.DataFrame({"loss": [0.5, 0.25]}))
    """
    if not frame.columns.is_unique:
        raise ValueError(f"two columns are named {frame.columns[frame.columns.duplicated()][0]!r}: rename one of them")
    frame = mixed_as_text(frame)
    single = [name for name in frame if _fits_single(frame[name])]
    numbers = [name for name in frame if frame[name].dtype == "float64"]
    try:
        table = pa.Table.from_pandas(frame.astype(dict.fromkeys(single, "float32")), preserve_index=False)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"the rows fit no Parquet file: {'; '.join(map(str, error.args))}") from error
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=max(1, len(frame)),
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
    )
    return buffer.getvalue()


def read_slim(content: bytes) -> pd.DataFrame:
    """The table that `slim_parquet` was given, but for its index and the kinds of what a mixed column held."""
    frame = pd.read_parquet(io.BytesIO(content))
    return frame.astype({name: "float64" for name in frame if frame[name].dtype == "float32"})


def mixed_as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every column of several kinds as text, and the same table where there is none.

    >>> mixed_as_text(pd.DataFrame({"allocation": ["uniform", [0.5, 0.6]]}))["allocation"].tolist()
    ['uniform', '[0.5, 0.6]']
    """
    mixed = [place for place in range(frame.shape[1]) if _is_mixed(frame.iloc[:, place])]
    if mixed:
        frame = frame.copy()
        for place in mixed:
            frame.isetitem(place, frame.iloc[:, place].map(_as_text))
    return frame


def _fits_single(column: pd.Series) -> bool:
    """Whether single precision holds the numbers to the last bit, as it does for losses of a model in 32 bits."""
    return column.dtype == "float64" and column.astype("float32").astype("float64").equals(column)


def _is_mixed(column: pd.Series) -> bool:
    return pd.api.types.is_object_dtype(column) and column.map(_kind).nunique() > 1


def _kind(value: Any) -> str | None:
    """What Parquet would have to store; None for what is absent."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, list | tuple | np.ndarray | pd.Series):
        return "list"
    return (
        "number" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else type(value).__name__
    )


def _as_text(value: Any) -> str | None:
    if isinstance(value, str) or _kind(value) is None:
        return value if isinstance(value, str) else None
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
