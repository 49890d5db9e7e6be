"""Rows of finished prunings, kept in the folder of the run.

A sweep that was killed repeats at most the pruning it was at, and the notebooks of one run, which often ask for the
same prunings of the same model, find each other's rows. What a pruning's rows depend on is its key: weights, code,
calibration tokens, what is evaluated, and every argument of `prune`.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.code import hash_code
from labutils.core.files import hash_bytes, hash_json
from labutils.core.paths import run_folder
from labutils.core.provenance import find_versions, hash_tensors, hash_tokenizer
from labutils.data.tokens import special_frame
from labutils.models.experts import holds_experts
from labutils.models.modes import eval_mode
from labutils.models.structure import find_blocks, is_causal
from labutils.pruning.calibration import Calibration
from labutils.pruning.grid import Evaluate, run_requests
from labutils.pruning.inputs import CalibrationTexts
from labutils.pruning.methods import Request
from labutils.pruning.requests import has_own_registrations
from labutils.runner.finished_runs import FinishedRuns

FOLDER, FORMAT = "prunings", 2  # in the run's folder; raise FORMAT when the same key comes to give other rows
ROWS, TIME = "rows", "time"
CODE = ("labutils.sweeps.losses", "labutils.sweeps.tasks")  # what makes rows, and all that it imports
# What only tells of the work, or keeps its rows: how they are kept is told by FORMAT.
TOLD = ("labutils.pruning.forecast", "labutils.sweeps.announcing", "labutils.core.progress", "labutils.core.profiling",
        "labutils.runner.finished_runs", "labutils.core.parquet", "labutils.core.files")  # fmt: skip


class KeptPrunings:
    """The rows of a model's prunings, read on one evaluation.

    Under the runner they are files of the run's folder. Elsewhere nothing is written, and only those that no
    calibration changes are remembered, for the next draw.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        evaluated: Mapping[str, object],
        runs: FinishedRuns | None = None,
    ):
        """Find what all keys have in common.

        Args:
            tokenizer: turns what is evaluated into token ids.
            evaluated: what the rows are read on; JSON must be able to hold it.
            runs: where the rows are kept; None takes the run's folder, under the runner. Scores, methods and
                allocations that a notebook registers may change from run to run: with such, nothing is kept.
        """
        keeps = "LABUTILS_RUN_FOLDER" in os.environ and not has_own_registrations()
        folder = run_folder() / FOLDER if keeps else None
        self._runs = runs or FinishedRuns(folder, format=FORMAT)
        self._has_experts = any(map(holds_experts, find_blocks(model)[1]))
        self._common: dict[str, object] = {}
        if self._runs.folder is not None:
            self._common = {
                "weights": hash_tensors(model.state_dict()),
                "config": hash_json(model.config.to_json_string()),
                "output": _output_hash(model),
                "tokenizer": [hash_tokenizer(tokenizer), special_frame(tokenizer), str(tokenizer.model_max_length)],
                "code": hash_code(*CODE, without=TOLD),
                "versions": find_versions("torch", "transformers"),
                "device": str(model.device.type),
                "threads": torch.get_num_threads(),
                "evaluated": evaluated,
            }
        self._remembered: dict[str, list[dict]] = {}

    def dense_rows(self, compute: Callable[[], pd.DataFrame]) -> tuple[pd.DataFrame, float]:
        """What `compute` finds of the dense model, and in how many seconds, unless it is kept."""
        key = {**self._common, "request": None}
        if self._runs.has_frames(key):
            kept = self._runs.read_frames(key)
            return kept[ROWS], float(kept[TIME]["seconds"].iloc[0])
        started = time.perf_counter()
        rows = compute()
        seconds = time.perf_counter() - started
        self._runs.write_frames(key, {ROWS: rows, TIME: pd.DataFrame({"seconds": [seconds]})})
        return rows, seconds

    def rows_of(
        self, model: PreTrainedModel, calibration: Calibration, requests: Sequence[Request], evaluate: Evaluate
    ) -> Iterator[list[dict]]:
        """As `run_requests`, but that prunings whose rows are kept are not carried out again."""
        tokens = _fingerprint(calibration)
        keys = [self._key(request, tokens) for request in requests]
        missing = [number for number, key in enumerate(keys) if not self._has(key)]
        with closing(run_requests(model, calibration, [requests[number] for number in missing], evaluate)) as fresh:
            for number, key in enumerate(keys):
                if number not in missing:
                    yield self._read(key)
                    continue
                rows = next(fresh)
                self._write(key, rows)
                yield rows

    def _key(self, request: Request, tokens: str) -> dict[str, object]:
        reads = request.reads_inputs or (self._has_experts and request.method.name != "magnitude")
        return {**self._common, "request": request.record(), "calibration": tokens if reads else None}

    def _has(self, key: dict) -> bool:
        return hash_json(key) in self._remembered or self._runs.has_frames(key)

    def _read(self, key: dict) -> list[dict]:
        if (name := hash_json(key)) in self._remembered:
            return self._remembered[name]
        return self._runs.read_frames(key)[ROWS].to_dict("records")

    def _write(self, key: dict, rows: list[dict]) -> None:
        if key["calibration"] is None:
            self._remembered[hash_json(key)] = rows
        self._runs.write_frames(key, {ROWS: pd.DataFrame(rows)})


def _output_hash(model: PreTrainedModel) -> str:
    """Of what the model computes for a few tokens: what is neither in its state nor in its configuration counts too."""
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(8, device=model.device).remainder(size)[None]
    with eval_mode(model):
        output = model(input_ids=ids, use_cache=False) if is_causal(model) else model(input_ids=ids)
    return hash_tensors({"output": output[0]})


def _fingerprint(calibration: Calibration) -> str:
    if isinstance(calibration, CalibrationTexts):
        texts = {name: own for name, own in vars(calibration).items() if own is not None}
        return hash_json({name: _fingerprint(own) for name, own in texts.items()})
    tensors = dict(calibration) if isinstance(calibration, Mapping) else {"input_ids": calibration}
    return hash_tensors(tensors)


def hash_frame(frame: pd.DataFrame) -> str:
    """SHA-256 of a frame's content, lists in its cells included.

    >>> hash_frame(pd.DataFrame({"item": [0], "choices": [["yes", "no"]]}))
    """
    return hash_bytes(frame.to_json(orient="split", double_precision=15).encode())
