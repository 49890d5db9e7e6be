"""The forms in which a pruned model is stored, side by side: size, time to load, and whether outputs are equal."""

import atexit
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int64
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.checkpoints.dense import write_dense
from labutils.checkpoints.saving import check_new, load_pruned
from labutils.checkpoints.shards import explain_failed_write
from labutils.checkpoints.storable import Storable
from labutils.core.files import folder_when_complete
from labutils.core.paths import expand


def compare_forms(
    model: PreTrainedModel, folders: Mapping[str, str | Path], tokens: Int64[Tensor, "n seq_len"]
) -> pd.DataFrame:
    """Load saved forms of a model and compare each with the model in memory.

        lab.checkpoints.compare_forms(model, {"sparse": "pruned", "compact": "small"}, tokens)

    Args:
        folders: name of the form → folder that `save_pruned` or `prune_checkpoint` wrote.
        tokens: on which outputs are compared.

    Returns:
        one row per form: `form`, `megabytes` of its weight files, `seconds` to load it (the second of two loads, so
        that all are read from a warm disk), `largest difference` of any output (logits, of an encoder hidden states)
        from the model in memory, and `zeros` over all entries of its weight matrices.
    """
    expected, rows = _outputs(model, tokens), []
    for form, folder in folders.items():
        load_pruned(folder, device=model.device.type)
        started = time.perf_counter()
        loaded = load_pruned(folder, device=model.device.type, dtype=str(model.dtype).removeprefix("torch."))
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in expand(folder).glob("model*.safetensors")) / 1e6
        difference = (_outputs(loaded.model, tokens) - expected).abs().max().item()
        sparsity = loaded.report.sparsity
        rows.append(
            {"form": form, "megabytes": size, "seconds": seconds, "largest difference": difference, "zeros": sparsity}
        )
    return pd.DataFrame(rows)


def save_dense(model: nn.Module, folder: str | Path) -> Path:
    """Write a model as it is, for instance as the source of `prune_checkpoint`.

        lab.checkpoints.save_dense(model, "dense")

    Raises:
        ValueError: the folder exists and is not empty, or nothing could load the model again.
        OSError: it cannot be written; nothing is left of it.
    """
    folder = expand(folder)
    check_new(folder)
    storable = Storable(model)
    try:
        with folder_when_complete(folder) as unfinished:
            write_dense(storable, unfinished)
    except (OSError, SafetensorError) as error:
        raise explain_failed_write(folder, error) from error
    return folder


def fresh_folder() -> Path:
    """A new folder for models that need not be kept; it goes when Python ends.

    >>> save_dense(model, fresh_folder() / "dense")
    """
    folder = Path(tempfile.mkdtemp(prefix="labutils-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@torch.no_grad()
def _outputs(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    return model(tokens.to(model.device))[0].float()
