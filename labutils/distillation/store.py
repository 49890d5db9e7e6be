"""Finished runs of a sweep, kept in a folder under the hash of everything they depend on."""

import io
import json
from pathlib import Path

import pandas as pd

from labutils.studies.files import hash_json, write_atomically

COMPLETE = "complete.json"  # written last: where it is, the frames that it lists are


def run_key(**depends_on: object) -> str:
    """The name of a run: a hash of everything that its rows depend on."""
    return hash_json(depends_on)[:24]


def recall(folder: Path | None, key: str) -> dict[str, pd.DataFrame] | None:
    """The frames of a finished run, or None."""
    if folder is None or not (folder / key / COMPLETE).exists():
        return None
    names = json.loads((folder / key / COMPLETE).read_text())
    return {name: pd.read_parquet(folder / key / f"{name}.parquet") for name in names}


def keep(folder: Path | None, key: str, frames: dict[str, pd.DataFrame]) -> None:
    """Write a finished run's frames, and then that they are complete: a killed write leaves nothing to recall."""
    if folder is None:
        return
    for name, frame in frames.items():
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_atomically(folder / key / f"{name}.parquet", buffer.getvalue())
    write_atomically(folder / key / COMPLETE, json.dumps(list(frames)) + "\n")
