"""Finished runs of a study, kept in a folder under the hash of everything their numbers depend on.

A study that was killed goes on where it stopped, and one with other samples or one more configuration finds the runs
that it shares with an earlier one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from labutils.core.files import hash_json, write_atomically
from labutils.core.parquet import frame_to_parquet

Key = dict[str, Any]
Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class FinishedRuns:
    """Runs in `<folder>/runs`, and weights that unfinished runs start from in `<folder>/weights`.

        runs = FinishedRuns(Path("results/trial"), format=1)
        runs.write({"seed": 3}, {"loss": 2.5})
        runs.read({"seed": 3})  # {"loss": 2.5}

    Attributes:
        folder: where they are kept; None keeps nothing.
        format: a number that is part of every name. Raise it when the same key comes to give other numbers.
    """

    folder: Path | None
    format: int

    def name(self, key: Key) -> str:
        """The name of a run: a hash of its key, which JSON must be able to hold, and of the format."""
        return hash_json(key | {"format": self.format})

    def has(self, key: Key) -> bool:
        """Whether the run is finished; files are written atomically, so a file is a finished run."""
        return self.folder is not None and self._file(key).exists()

    def read(self, key: Key) -> Any:
        """What `write` wrote."""
        return json.loads(self._file(key).read_text(encoding="utf-8"))["result"]

    def write(self, key: Key, result: Any) -> None:
        """Keep a run's result (what JSON can hold, finite numbers only) and the key it belongs to."""
        if self.folder is not None:
            write_atomically(self._file(key), json.dumps({"key": key, "result": result}, allow_nan=False))

    def has_frames(self, key: Key) -> bool:
        """Whether the run is finished and none of its tables was removed since."""
        return self.has(key) and all(self._frame_file(key, name).exists() for name in self.read(key))

    def read_frames(self, key: Key) -> Frames:
        """What `write_frames` wrote."""
        return {name: pd.read_parquet(self._frame_file(key, name)) for name in self.read(key)}

    def write_frames(self, key: Key, frames: Frames) -> None:
        """Keep a run's tables, and last, as its result, their names: a killed write leaves no finished run."""
        if self.folder is None:
            return
        for name, frame in frames.items():
            write_atomically(self._frame_file(key, name), frame_to_parquet(frame))
        self.write(key, list(frames))

    def load_weights(self, key: Key, model: nn.Module) -> dict[str, Any] | None:
        """Bring the model to the stored weights and return their record; None, and no change, without them."""
        if not (path := self._weights_file(key)).exists():
            return None
        with safe_open(path, framework="pt") as stored, torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(stored.get_tensor(name))
            return json.loads(stored.metadata()["record"])

    def save_weights(self, key: Key, model: nn.Module, record: dict[str, Any]) -> None:
        """Keep weights until all runs that start from them are finished; a tied weight is stored once."""
        tensors = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
        # `save_file` writes beside the file first, and leaves that there when it is killed.
        write_atomically(self._weights_file(key), save(tensors, metadata={"record": json.dumps(record)}))

    def drop_weights(self, key: Key) -> None:
        """Remove weights that no run needs any more."""
        self._weights_file(key).unlink(missing_ok=True)

    def _file(self, key: Key) -> Path:
        return self.folder / "runs" / f"{self.name(key)}.json"

    def _frame_file(self, key: Key, name: str) -> Path:
        return self._file(key).with_suffix("") / f"{name}.parquet"

    def _weights_file(self, key: Key) -> Path:
        return self.folder / "weights" / f"{self.name(key)}.safetensors"
