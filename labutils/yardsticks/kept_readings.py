"""What a reading and a planting depend on, so that finished ones are found again after a kill."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.code import hash_code
from labutils.core.files import hash_bytes, hash_json
from labutils.core.provenance import find_versions, hash_tensors, hash_tokenizer
from labutils.pruning.requests import has_own_registrations
from labutils.runner.finished_runs import FinishedRuns
from labutils.yardsticks.reading import Reader

FORMAT = 1  # raise it when the same key comes to give other rows
TOLD = ("labutils.pruning.forecast", "labutils.core.progress", "labutils.runner")


def finished_runs(folder: Path | None) -> FinishedRuns:
    """Where readings are kept; nowhere with scores or methods of one's own, which may change from run to run.

    >>> finished_runs(None).folder is None
    """
    return FinishedRuns(None if has_own_registrations() else folder, FORMAT)


def model_key(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *code: str) -> dict[str, object]:
    """What any result of a model depends on: its weights and configuration, the code, the machine.

    >>> model_key(model, tokenizer, "labutils.yardsticks.damage")
    """
    return {
        "weights": hash_tensors(model.state_dict()),
        "config": hash_json(model.config.to_json_string()),
        "tokenizer": hash_tokenizer(tokenizer),
        "code": hash_code(*code, without=TOLD),
        "versions": find_versions("torch", "transformers"),
        "device": str(model.device.type),
        "threads": torch.get_num_threads(),
    }


def reader_key(reader: Reader) -> dict[str, object]:
    """What is read.

    >>> reader_key(Reader(tokenizer, questions))
    """
    frames = {"questions": reader.questions} | {task.name: task.items for task in reader.tasks}
    arrays: Mapping[str, torch.Tensor | np.ndarray | None] = {"tokens": reader.tokens, "bins": reader.bins}
    return {
        "frames": {name: hash_bytes(frame.to_json(orient="split").encode()) for name, frame in frames.items()},
        "arrays": hash_tensors({name: torch.as_tensor(each) for name, each in arrays.items() if each is not None}),
        "openings": list(reader.openings),
        "sizes": [reader.opening_tokens, reader.max_new_tokens, reader.batch_size],
    }
