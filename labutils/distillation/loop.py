"""The training loop: epochs over the items, early stopping on validation, resumable after any kill.

Everything random in an epoch depends on the seed and the epoch alone, so a run that goes on from a checkpoint ends
with the same weights as one that was never stopped.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from labutils.core.progress import progress
from labutils.core.seeding import generator
from labutils.data.sources import short_source
from labutils.distillation.data import Examples, TaskData, iterate_batches
from labutils.distillation.losses import task_loss
from labutils.distillation.objective import Objective
from labutils.distillation.options import TrainingOptions
from labutils.distillation.scoring import item_losses, predict
from labutils.distillation.task_models import TaskModel
from labutils.training.checkpoints import load_checkpoint, restore_weights, save_checkpoint, trained_weights
from labutils.training.steps import decay_groups, guarded_step


@dataclasses.dataclass
class Record:
    """How far a run has come: a row of `history` per epoch, and the epoch whose weights are the best so far."""

    options: dict[str, Any]
    epoch: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_epoch: int = -1
    best_rank: list[float] = dataclasses.field(default_factory=list)


def fit(
    model: TaskModel, objective: Objective, data: TaskData, *, about: dict[str, str], checkpoint: Path | None
) -> Record:
    """Train a model, with the mapping of its objective, and leave it with the weights of its best validation epoch.

    The best epoch has the highest validation score; among equals, the lowest validation loss. A method that aligns
    layers takes it from the epochs with a layer loss.

    Args:
        about: what is trained (`stage`), and whatever else a checkpoint must be recognised by.
        checkpoint: a folder to write after every epoch and to go on from; None keeps everything in memory.

    Raises:
        ValueError: the loss is not finite, or the checkpoint was made with other options.
    """
    options = objective.options
    both = nn.ModuleDict({"model": model, "matcher": objective.matcher})
    optimizer = torch.optim.AdamW(
        decay_groups(both.parameters(), options.weight_decay), lr=options.learning_rate, fused=True
    )
    record, best = Record(dataclasses.asdict(options) | about), {}
    if checkpoint is not None:
        record = load_checkpoint(checkpoint, both, optimizer, record)
        best = load_file(checkpoint / "best.safetensors") if record.epoch else {}
    epochs = range(record.epoch, options.epochs)
    for epoch in progress(epochs, description=f"{about['stage']} {short_source(data.name)}", unit="epoch"):
        if _is_over(record, options):
            break
        row = {"epoch": epoch, **_train_epoch(both, objective, data, optimizer, epoch), **_validate(model, data)}
        record.history.append(row)
        rank = [row["validation_score"], -row["validation_loss"]]
        if _counts(objective, epoch) and (not record.best_rank or rank > record.best_rank):
            record.best_epoch, record.best_rank, best = epoch, rank, trained_weights(both)
        record.epoch = epoch + 1
        if checkpoint is not None:
            save_checkpoint(checkpoint, both, optimizer, record, best=best)
    restore_weights(both, best)
    optimizer.zero_grad(set_to_none=True)
    model.eval()
    return record


def learning_rate(step: int, *, steps: int, options: TrainingOptions) -> float:
    """The rate of a step (from 0): a linear rise over `warmup_share` of the steps, then a linear fall towards zero."""
    warmup = max(1, round(options.warmup_share * steps))
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    return options.learning_rate * (steps - step) / max(1, steps - warmup)


def _is_over(record: Record, options: TrainingOptions) -> bool:
    """Whether `patience` epochs have passed since the best one."""
    return record.best_epoch >= 0 and record.epoch - 1 - record.best_epoch >= options.patience


def _counts(objective: Objective, epoch: int) -> bool:
    """Whether an epoch may be the best: of a method that aligns layers, only one whose loss has that part."""
    return objective.method.states is None or epoch >= objective.options.ild_start


def _train_epoch(
    both: nn.ModuleDict, objective: Objective, data: TaskData, optimizer: torch.optim.Optimizer, epoch: int
) -> dict[str, float]:
    """One pass over the training items; the mean losses and the epoch's weights as columns of the history."""
    options, model = objective.options, both["model"]
    per_epoch = math.ceil(len(data.train) / options.batch_size)
    order = generator(options.seed, "order", epoch).permutation(len(data.train)).tolist()
    weights = objective.weights(epoch)
    sums: dict[str, float] = {}
    with torch.random.fork_rng(devices=_devices(model)):
        torch.manual_seed(int(generator(options.seed, "dropout", epoch).integers(2**31)))
        both.train()
        for number, batch in enumerate(iterate_batches(data, data.train, order, options.batch_size, model.device)):
            step = epoch * per_epoch + number
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps=per_epoch * options.epochs, options=options)
            losses = objective.losses(model(batch.ids, batch.mask), batch, weights, objective.layer_map(epoch, number))
            guarded_step(optimizer, losses["total"], step=step, clipped=both.parameters(), clip_norm=options.clip_norm)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.item() * len(batch.items) / len(data.train)
    named = {f"weight_{name}": weight for name, weight in weights._asdict().items()}
    return {"learning_rate": optimizer.param_groups[0]["lr"], **named, **{f"{k}_loss": v for k, v in sums.items()}}


def _validate(model: TaskModel, data: TaskData) -> dict[str, float]:
    examples: Examples = data.validation
    outputs = predict(model, data, examples)
    score = 1 - item_losses(examples.targets, outputs).mean()
    return {
        "validation_score": float(score),
        "validation_loss": task_loss(outputs, examples.targets).item(),
    }


def _devices(model: TaskModel) -> list[torch.device]:
    """The GPUs whose generator dropout draws on, besides the CPU's."""
    return [model.device] if model.device.type == "cuda" else []
