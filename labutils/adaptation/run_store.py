"""Finished runs on disk, one file each, so that a study that was killed goes on where it stopped.

A run's file is named by the hash of everything its numbers depend on: weights, texts, pairs, configurations, seeds. A
study with other samples or one more configuration therefore finds the runs it shares with an earlier one.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from labutils.adaptation.training import AdaptationRecord
from labutils.core.files import hash_json, write_atomically

FORMAT = 1  # part of every hash: raise it when the same inputs come to give other numbers

Key = dict[str, Any]


class RunStore:
    """Runs in `<folder>/runs`, and adapted weights, while their runs are not all finished, in `<folder>/weights`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has_run(self, key: Key) -> bool:
        """Whether the run is finished; files are written atomically, so a file is a finished run."""
        return self._run_file(key).exists()

    def read_run(self, key: Key) -> dict[str, Any]:
        """What `write_run` wrote."""
        return json.loads(self._run_file(key).read_text(encoding="utf-8"))["result"]

    def write_run(self, key: Key, result: dict[str, Any]) -> None:
        """Keep a run's result (what JSON can hold, finite numbers only) and the key it belongs to."""
        write_atomically(self._run_file(key), json.dumps({"key": key, "result": result}, allow_nan=False))

    def load_weights(self, key: Key, model: PreTrainedModel) -> AdaptationRecord | None:
        """Bring the model to the stored weights and return how they came about; None, and no change, without them."""
        if not (path := self._weights_file(key)).exists():
            return None
        with safe_open(path, framework="pt") as stored, torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(stored.get_tensor(name))
            return AdaptationRecord(**json.loads(stored.metadata()["record"]))

    def save_weights(self, key: Key, model: PreTrainedModel, record: AdaptationRecord) -> None:
        """Keep adapted weights until all runs that start from them are finished; a tied weight is stored once."""
        path = self._weights_file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        tensors = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
        save_file(tensors, fresh, metadata={"record": json.dumps(asdict(record))})
        os.replace(fresh, path)

    def drop_weights(self, key: Key) -> None:
        """Remove adapted weights that no run needs any more."""
        self._weights_file(key).unlink(missing_ok=True)

    def _run_file(self, key: Key) -> Path:
        return self.folder / "runs" / f"{hash_json(key | {'format': FORMAT})}.json"

    def _weights_file(self, key: Key) -> Path:
        return self.folder / "weights" / f"{hash_json(key | {'format': FORMAT})}.safetensors"
