"""A prune report and its provenance as files beside the weights: JSON and parquet, nothing that runs code."""

import json
from pathlib import Path

import pandas as pd
from torch import Tensor

from labutils.checkpoints.shards import read_header, read_tensor, write_shard
from labutils.core.files import read_json, write_atomically
from labutils.pruning.report import PruneReport

UNREADABLE = (ValueError, TypeError, AttributeError, NotImplementedError, OSError)  # pyarrow's errors are such
RECORD, LAYERS, ORDERS = "pruning.json", "pruning_layers.parquet", "pruning_permutations.safetensors"


def write_report(folder: Path, report: PruneReport, origin: pd.DataFrame, **more: object) -> None:
    """Write a report: the table of matrices as parquet, channel orders as safetensors, all else as JSON.

    Args:
        origin: the rows of `provenance`.
        **more: further entries of the JSON file, which is written last.
    """
    report.layers.to_parquet(folder / LAYERS, index=False)
    if report.permutations:
        write_shard(folder / ORDERS, report.permutations, scratch=folder)
    record = {
        "sparsity": report.sparsity,
        "seconds": report.seconds,
        "options": report.options,
        "strategy": report.strategy.to_dict("records"),
        "candidates": None if report.candidates is None else report.candidates.to_dict("records"),
        "provenance": dict(zip(origin["item"], origin["value"], strict=True)),
        **more,
    }
    write_atomically(folder / RECORD, json.dumps(record, indent=1, default=list) + "\n")


def read_report(folder: Path) -> PruneReport:
    """The report that lies beside a pruned model.

    Raises:
        LookupError: there is none, or no table of matrices.
        ValueError: a file is damaged.
    """
    if not (folder / RECORD).exists():
        raise LookupError(
            f"{folder} holds no {RECORD}: it was not written by `save_pruned` or `prune_checkpoint`, or a "
            "`prune_checkpoint` into it has not finished. A model without a report is loaded with `load_model`."
        )
    record = read_json(folder / RECORD)
    try:
        candidates = record["candidates"]
        return PruneReport(
            layers=pd.read_parquet(folder / LAYERS),
            sparsity=record["sparsity"],
            strategy=pd.DataFrame(record["strategy"]),
            options=record["options"],
            permutations=_read_orders(folder / ORDERS),
            seconds=record["seconds"],
            candidates=None if candidates is None else pd.DataFrame(candidates),
        )
    except FileNotFoundError as error:
        raise LookupError(f"{folder} lacks {LAYERS}, the report's table of matrices.") from error
    except (*UNREADABLE, KeyError) as error:
        raise ValueError(f"The report in {folder} is damaged ({error!r}).") from error


def _read_orders(path: Path) -> dict[str, Tensor]:
    return {key: read_tensor(path, key) for key in read_header(path)} if path.exists() else {}


def read_identity(folder: Path) -> dict:
    """What a pruned checkpoint depends on, as `prune_checkpoint` wrote it; empty for one by `save_pruned`."""
    identity = read_json(folder / RECORD).get("identity", {})
    if not isinstance(identity, dict):
        raise ValueError(f"{folder / RECORD} is damaged: its 'identity' is no object.")
    return identity
