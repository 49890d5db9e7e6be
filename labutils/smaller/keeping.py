"""Rows of finished steps, kept in the folder of the run: a sweep that was killed repeats at most the step it was at."""

import os
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.code import hash_code
from labutils.core.files import hash_json
from labutils.core.paths import run_folder
from labutils.core.provenance import find_versions, hash_tensors, hash_tokenizer
from labutils.runner.finished_runs import FinishedRuns

FOLDER, FORMAT = "smaller", 1  # in the run's folder; raise FORMAT when the same key comes to give other rows
CODE = ("labutils.smaller.arms", "labutils.smaller.gradient_depth", "labutils.smaller.study",
        "labutils.smaller.yardsticks")  # fmt: skip
# What only tells of the work, or keeps its rows.
TOLD = ("labutils.core.progress", "labutils.core.profiling", "labutils.runner.finished_runs", "labutils.core.parquet",
        "labutils.smaller.keeping", "labutils.core.files")  # fmt: skip


class KeptRows:
    """Tables about one model; under the runner they are files of the run's folder, elsewhere nothing is kept.

    >>> KeptRows(model, tokenizer).frame({"arm": "SLEB", "n_blocks": 2}, compute)
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, runs: FinishedRuns | None = None,
        *, code: Sequence[str] = CODE,
    ):  # fmt: skip
        """Find what all keys have in common: weights, configuration, tokenizer, code, versions, device.

        Args:
            code: the modules that compute the rows; with what they import they decide whether kept rows still hold.
        """
        folder = run_folder() / FOLDER if "LABUTILS_RUN_FOLDER" in os.environ else None
        self._runs = runs or FinishedRuns(folder, format=FORMAT)
        self._common: dict[str, object] = {}
        if self._runs.folder is not None:
            self._common = {
                "weights": hash_tensors(model.state_dict()),
                "config": hash_json(model.config.to_json_string()),
                "tokenizer": [hash_tokenizer(tokenizer), str(tokenizer.model_max_length)],
                "code": hash_code(*code, without=TOLD),
                "versions": find_versions("torch", "transformers"),
                "device": str(model.device.type),
                "threads": torch.get_num_threads(),
            }

    def frame(self, key: dict[str, object], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """What `compute` gives, unless it is kept.

        Args:
            key: all that the table depends on beside the model; JSON must be able to hold it.
        """
        key = {**self._common, **key}
        if self._runs.has_frames(key):
            return self._runs.read_frames(key)["rows"]
        found = compute()
        self._runs.write_frames(key, {"rows": found})
        return found
