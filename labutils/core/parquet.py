"""Small Parquet files that hold every number to the last bit."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def slim_parquet(frame: pd.DataFrame) -> bytes:
    """The content of a Parquet file of one row group; numbers that single precision holds exactly are stored so.

    slim_parquet(pd.DataFrame({"loss": [0.5, 0.25]}))
    """
    single = [name for name in frame if _fits_single(frame[name])]
    numbers = [name for name in frame if frame[name].dtype == "float64"]
    table = pa.Table.from_pandas(frame.astype(dict.fromkeys(single, "float32")), preserve_index=False)
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
    """The table that `slim_parquet` was given, but for its index."""
    frame = pd.read_parquet(io.BytesIO(content))
    return frame.astype({name: "float64" for name in frame if frame[name].dtype == "float32"})


def _fits_single(column: pd.Series) -> bool:
    """Whether single precision holds the numbers to the last bit, as it does for losses of a model in 32 bits."""
    return column.dtype == "float64" and column.astype("float32").astype("float64").equals(column)
