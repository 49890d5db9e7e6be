"""Tables as Parquet files, whatever a column of a study's rows may hold."""

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


def frame_to_parquet(frame: pd.DataFrame) -> bytes:
    """The content of a Parquet file that holds the table.

    A column whose values are of several kinds, as an `allocation` that is a name here and a list of sparsities there,
    is written as text: a list as JSON.

    Raises:
        ValueError: Parquet cannot hold the table; the message names the column.

        frame_to_parquet(pd.DataFrame({"allocation": ["uniform", [0.5, 0.6]]}))  # "uniform", "[0.5, 0.6]"
    """
    mixed = [place for place in range(frame.shape[1]) if _is_mixed(frame.iloc[:, place])]
    if mixed:
        frame = frame.copy()
        for place in mixed:
            frame.isetitem(place, frame.iloc[:, place].map(_as_text))
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"the rows fit no Parquet file: {'; '.join(map(str, error.args))}") from error
    return buffer.getvalue()


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
