"""Save and load pruned models: a folder that transformers can load, with the report and provenance beside it."""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from labutils.checkpoints.compact import read_compact, write_compact
from labutils.checkpoints.dense import read_dense, write_dense
from labutils.checkpoints.journal import FOLDER
from labutils.checkpoints.records import read_identity, read_report, write_report
from labutils.checkpoints.shards import explain_failed_write
from labutils.checkpoints.skeleton import build_with_state
from labutils.checkpoints.storable import Storable
from labutils.core.files import folder_when_complete
from labutils.core.paths import expand
from labutils.core.provenance import provenance
from labutils.models.loading import COMPACT, choose_device, parse_dtype
from labutils.models.structure import check_finite
from labutils.pruning.report import PruneReport

GENERATION = "generation_config.json"


class PrunedModel(NamedTuple):
    """A pruned model as it was saved: model, tokenizer (None where none was saved), and report."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    report: PruneReport


def save_pruned(
    model: nn.Module,
    folder: str | Path,
    report: PruneReport,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    compact: bool = False,
) -> Path:
    """Save a pruned model in a new folder, which appears only when it is complete.

        lab.save_pruned(model, "pruned", report, tokenizer=tokenizer)

    Every tensor keeps its own dtype, and is read back from the disk and compared before this returns.

    Args:
        model: of a class of transformers, with any head; `load_pruned` gives that class back.
        report: what `prune` returned.
        compact: store each matrix as a bit mask and the kept values where that is smaller. Only `load_pruned` reads
            this form; otherwise the folder is one that transformers loads like any other.

    Raises:
        ValueError: the folder exists and is not empty; the model's weights are not finite; or nothing could load the
            model again, as with adapters, quantised weights, or a configuration that is not the model's.
        OSError: it cannot be written, or what is read back differs. After any exception nothing is left of it.
    """
    folder = expand(folder)
    check_new(folder)
    storable = Storable(model)
    check_finite(model)
    try:
        with folder_when_complete(folder) as unfinished:
            (write_compact if compact else write_dense)(storable, unfinished)
            if tokenizer is not None:
                tokenizer.save_pretrained(unfinished)
            write_report(unfinished, report, provenance(model, tokenizer))
            read_report(unfinished)
    except (OSError, SafetensorError) as error:
        raise explain_failed_write(folder, error) from error
    return folder


def check_new(folder: Path) -> None:
    """Raises a ValueError where a folder is there already, unless it is empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; give the name of a new one.")


def load_pruned(folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> PrunedModel:
    """Load what `save_pruned` or `prune_checkpoint` wrote, in either form.

        model, tokenizer, report = lab.load_pruned("pruned")

    Args:
        device: "auto" takes the GPU where there is one.
        dtype: a torch dtype's name; "auto" keeps that of every tensor that was saved, and of a checkpoint pruned from
            disk to disk what transformers takes.

    Returns:
        model in evaluation mode, tokenizer or None, and report.

    Raises:
        LookupError: no such folder or no report in it, a file or tensor that is missing or foreign, or a pruning that
            has not finished.
        ValueError: a damaged file, tensors of another shape, or weights that are not finite.
    """
    folder, device = expand(folder), choose_device(device)
    wanted = parse_dtype(dtype, device=device)
    if (folder / FOLDER).exists():
        raise LookupError(f"{folder} is not complete; call `prune_checkpoint` again with the same arguments.")
    report = read_report(folder)
    if (folder / COMPACT).exists():
        model = build_with_state(folder, wanted, read_compact(folder))
        if (folder / GENERATION).exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    else:
        model = read_dense(folder, wanted, as_loaded=bool(read_identity(folder)))
    check_finite(model)
    has_tokenizer = any((folder / name).exists() for name in ("tokenizer_config.json", "tokenizer.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder) if has_tokenizer else None
    return PrunedModel(model.to(device).eval(), tokenizer, report)
