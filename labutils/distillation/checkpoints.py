"""Checkpoints of a training run after each epoch: weights and optimiser in safetensors, the rest in JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from labutils.training.checkpoints import STATE, find_state, optimizer_tensors, replacing, restore_optimizer


@dataclass
class Record:
    """How far a run has come: a row of `history` per epoch, and the epoch whose weights are the best so far."""

    options: dict[str, Any]
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = -1
    best_rank: list[float] = field(default_factory=list)


def trained_weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters that are trained, by name."""
    return {
        name: parameter.detach().clone() for name, parameter in module.named_parameters() if parameter.requires_grad
    }


def restore_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """The inverse of `trained_weights`, in place."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def save_run(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], record: Record
) -> None:
    """Write a checkpoint in the place of the old one: a kill leaves the one or the other."""
    with replacing(folder) as fresh:
        save_file(trained_weights(module), fresh / "model.safetensors")
        save_file(best, fresh / "best.safetensors")
        save_file(optimizer_tensors(optimizer), fresh / "optimizer.safetensors")
        (fresh / STATE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def load_run(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, record: Record
) -> tuple[Record, dict[str, Tensor]]:
    """Bring module and optimiser to the checkpoint's state; its record and best weights, or `record` and none.

    Raises:
        ValueError: the checkpoint was made with other options.
    """
    state = find_state(folder, record.options)
    if state is None:
        return record, {}
    device = next(module.parameters()).device
    restore_weights(module, load_file(folder / "model.safetensors"))
    restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
    return Record(**state), {name: tensor.to(device) for name, tensor in load_file(folder / "best.safetensors").items()}
