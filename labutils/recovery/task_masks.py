"""Masks from the activations of one task: do they serve that task best, and how much alike are they?

The question is SEAP's (arXiv:2503.07605): at equal sparsity, a mask from a task's own activations against one from
another task's.
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.core.provenance import hash_tensors
from labutils.models.structure import find_blocks, prunable_layers
from labutils.pruning.pipeline import prune
from labutils.pruning.requests import has_own_registrations
from labutils.recovery.readings import Reading, read_model
from labutils.recovery.study import model_key
from labutils.runner.finished_runs import FinishedRuns
from labutils.stats.bootstrap import Interval
from labutils.stats.evidence import keeps_evidence
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import require_columns

FORMAT = 2
ROW_COLUMNS = ["evaluation", "item", "loss", "unit", "calibration", "draw", "model", "sparsity"]
OVERLAP_COLUMNS = ["draw", "first", "second", "overlap"]
CODE = "labutils.recovery.task_masks"


def task_mask_sweep(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    calibrations: Mapping[str, Sequence[Tensor]],
    readings: Sequence[Reading],
    *,
    name: str,
    method: str,
    sparsity: float,
    folder: Path | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prune with every task's sequences in every draw, and read all tasks.

        rows, overlaps = lab.recovery.task_mask_sweep(
            model, tokenizer, sets, readings, name="lab-llama", method="wanda", sparsity=0.6
        )

    Args:
        calibrations: name of a reading → its calibration sequences in every draw.
        name: of the model, for the rows.
        folder: where finished prunings are kept; scores and methods of one's own keep nothing.

    Returns:
        ``model, calibration, evaluation, sparsity, draw, item, loss, unit``, a row per item; and ``draw, first, second,
        overlap``, a row per pair of masks, see `mask_overlap`.
    """
    finished = FinishedRuns(None if has_own_registrations() else folder, FORMAT)
    common = model_key(model, tokenizer, readings, CODE) | {"method": method, "sparsity": sparsity}
    common["sets"] = {task: [hash_tensors({"tokens": each}) for each in own] for task, own in calibrations.items()}
    frames, overlaps = [], []
    n_draws = min(map(len, calibrations.values()), default=0)
    for draw in progress(range(n_draws), total=n_draws, description="masks of tasks", unit="draw"):
        key = {**common, "draw": draw}
        if not finished.has_frames(key):
            finished.write_frames(
                key, made := _one_draw(model, tokenizer, calibrations, readings, method, sparsity, draw)
            )
        else:
            made = finished.read_frames(key)
        frames.append(made["rows"])
        overlaps.append(made["overlaps"])
    if not frames:
        return pd.DataFrame(columns=ROW_COLUMNS), pd.DataFrame(columns=OVERLAP_COLUMNS)
    rows = pd.concat(frames, ignore_index=True).assign(model=name, sparsity=sparsity)
    return rows, pd.concat(overlaps, ignore_index=True)


def _one_draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, calibrations: Mapping[str, Sequence[Tensor]],
    readings: Sequence[Reading], method: str, sparsity: float, draw: int,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    frames, masks = [], {}
    for task, sequences in calibrations.items():
        pruned = copy.deepcopy(model)
        prune(pruned, sequences[draw], method=method, sparsity=sparsity)
        masks[task] = _kept_weights(pruned)
        frames.append(read_model(pruned, tokenizer, readings).assign(calibration=task, draw=draw))
    pairs = [
        {"draw": draw, "first": one, "second": other, "overlap": mask_overlap(masks[one], masks[other])}
        for one, other in combinations(masks, 2)
    ]
    overlaps = pd.DataFrame(pairs, columns=OVERLAP_COLUMNS)
    return {"rows": pd.concat(frames, ignore_index=True), "overlaps": overlaps}


def _kept_weights(model: PreTrainedModel) -> Tensor:
    layers = [layer for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    return torch.cat([(layer.weight.detach() != 0).flatten() for layer in layers])


def mask_overlap(one: Tensor, other: Tensor) -> float:
    """Jaccard's index of two masks: weights that both keep, among those that either keeps.

    >>> mask_overlap(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
    0.5
    """
    return float((one & other).sum() / (one | other).sum())


def own_mask_gain(rows: pd.DataFrame) -> pd.DataFrame:
    """What a task gains from its own mask, item by item: mean loss under the other tasks' masks − loss under its own.

    >>> own_mask_gain(rows).groupby("evaluation")["value"].mean()

    Returns:
        ``model, evaluation, draw, item, value`` of the tasks that have a mask of their own and another's.
    """
    require_columns(rows, ["model", "calibration", "evaluation", "draw", "item", "loss"])
    keys = ["model", "evaluation", "draw", "item"]
    own = rows[rows["calibration"] == rows["evaluation"]].set_index(keys)["loss"]
    others = rows[rows["calibration"] != rows["evaluation"]].groupby(keys)["loss"].mean()
    return (others.reindex(own.index) - own).rename("value").dropna().reset_index()


@keeps_evidence()
def own_gain_over_tasks(rows: pd.DataFrame) -> Interval:
    """The mean gain of own masks by Student's t over tasks: what holds for tasks that were not tried.

    >>> own_gain_over_tasks(rows)

    Undefined of fewer than two tasks.
    """
    if rows.empty or rows["calibration"].nunique() < 2:
        return Interval.undefined("fewer than two tasks are above chance, so no task has another's mask")
    gain = own_mask_gain(rows).rename(columns={"evaluation": "task"})
    means = gain.groupby("task", as_index=False)["value"].mean()
    return interval_over_units(means, unit="task", value="value", n_items=int(gain["item"].nunique()))
