"""The last cell of every notebook: `conclude` writes what the study found, and that it came to its end."""

import datetime
import io
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from labutils.core.files import hash_bytes, write_atomically
from labutils.core.paths import study_folder


@runtime_checkable
class HasRow(Protocol):
    """A verdict, as far as writing it down goes."""

    def as_row(self) -> dict[str, Any]:
        """The verdict as one row of the ledger."""
        ...


def conclude(rows: pd.DataFrame, verdicts: Sequence[HasRow], answer: str) -> pd.DataFrame:
    """Write a study's rows, verdicts and one-line answer, and return the verdicts as a table.

    Under the runner they go to the notebook's folder of the run, elsewhere to its folder in `results/interactive`.
    Three files are written, each atomically: `rows.parquet`, `ledger.jsonl` (one verdict a line) and, last of all,
    `result.json`, whose presence tells that the study came to its end.

    Args:
        rows: the tidy rows that the verdicts were computed from.
        verdicts: objects with `as_row()`; may be empty.
        answer: the answer to the notebook's question, one line with number and interval.

    Raises:
        ValueError: the answer is empty or has several lines.
    """
    answer = answer.strip()
    if not answer or "\n" in answer:
        raise ValueError(f"the answer must be one line of text, not {answer!r}")
    folder = study_folder()
    ledger = [_plain(verdict.as_row()) for verdict in verdicts]
    parquet = io.BytesIO()
    rows.to_parquet(parquet, index=False)
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in ledger)
    write_atomically(folder / "rows.parquet", parquet.getvalue())
    write_atomically(folder / "ledger.jsonl", lines)
    result = {
        "answer": answer,
        "n_rows": len(rows),
        "verdicts": dict(Counter(str(row.get("outcome")) for row in ledger)),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "attempt": os.environ.get("LABUTILS_ATTEMPT"),
        "device": _device(),
        "rows_sha256": hash_bytes(parquet.getvalue()),
        "ledger_sha256": hash_bytes(lines.encode()),
    }
    write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return pd.DataFrame(ledger)


def _plain(value: Any) -> Any:
    """The value with Python's own types only; numbers that JSON cannot write (NaN, infinities) become null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _device() -> str:
    """The accelerator that torch sees, or `cpu`; torch is not loaded for the question."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu"
