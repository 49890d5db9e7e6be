"""Tables of this collection with a row per item, as rows of one value each, beside logs of other programs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from labutils.core.files import hash_json
from labutils.core.options import suggest
from labutils.logs.harness_files import COLUMNS

MEASURES = ("score", "correct")  # what tables of items are compared by, unless said otherwise
# What a table tells of an item itself, whichever model answered; a chance alone most items of a task share.
TELLING = ("gold", "prompt", "choices", "target", "question", "sentence1", "sentence2")
SAME = (*TELLING, "chance")


def read_own_table(
    table: pd.DataFrame | Path, *, metrics: Sequence[str] | None = None, cluster: str | None = None
) -> pd.DataFrame:
    """The rows of `score_task`, `score_items` or one arm of a `task_sweep`, in the columns of a log.

    >>> read_own_table(lab.score_task(model, tokenizer, task), metrics=["correct", "margin"])

    Args:
        table: a frame with ``item``, where there are several with ``task``; or a `.parquet` or `.csv` of one.
        metrics: columns that are compared; without them ``score`` or ``correct``. Other columns of `SAME` must agree.
        cluster: a column; items that agree in it are one unit.

    Raises:
        LookupError: no such file or column.
        ValueError: items that stand there twice, values that are not finite numbers.
    """
    frame = table if isinstance(table, pd.DataFrame) else _read(table)
    frame = frame if "task" in frame else frame.assign(task="task")
    chosen = list(metrics) if metrics else [name for name in MEASURES if name in frame][:1]
    for name in ["item", *chosen, *([cluster] if cluster else [])]:
        if name not in frame:
            raise LookupError(f"the table has no column {name!r}.{suggest(name, frame)} It has {', '.join(frame)}.")
    if not chosen:
        raise LookupError(f"the table has neither {' nor '.join(MEASURES)}: name what to compare with metrics=[…]")
    _reject_repeated(frame)
    told = [name for name in SAME if name in frame and name not in chosen]
    hashes = [hash_json([_written(value) for value in row]) for row in frame[["task", "item", *told]].to_numpy()]
    parts = [
        pd.DataFrame(
            {
                "task": frame["task"].astype(str), "filter": "none", "metric": metric, "item": frame["item"],
                "value": _numbers(frame, metric), "weight": 1.0, "item_hash": hashes, "prompt_hash": "",
                "unit": frame[cluster or "item"].astype(str),
            }
        )[COLUMNS]
        for metric in chosen
    ]  # fmt: skip
    found = pd.concat(parts, ignore_index=True)
    found.attrs["not numbers"] = []
    found.attrs["items told by id alone"] = not any(name in TELLING for name in told)
    return found


def _written(value: object) -> str:
    """The same for a list and for what a Parquet file makes of it."""
    return str(value.tolist() if isinstance(value, np.ndarray) else value)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def _reject_repeated(frame: pd.DataFrame) -> None:
    repeated = frame.duplicated(["task", "item"])
    if frame.empty or repeated.any():
        what = "no rows" if frame.empty else f"{int(repeated.sum())} items more than once"
        telling = [name for name in ("method", "arm", "sparsity", "draw", "calibration", "model") if name in frame]
        varying = [name for name in telling if frame[name].nunique() > 1]
        advice = f"; choose one {' and one '.join(varying)} first" if varying else ""
        raise ValueError(f"the table has {what}{advice}: a log has one row per item and task")


def _numbers(frame: pd.DataFrame, metric: str) -> np.ndarray:
    try:
        values = frame[metric].to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the column {metric!r} does not hold numbers: {error}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"the column {metric!r} holds {int((~np.isfinite(values)).sum())} values that are not finite")
    return values
