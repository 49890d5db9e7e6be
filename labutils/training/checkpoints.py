"""Checkpoints of a training run: weights and optimiser state in safetensors, the rest in JSON, replaced as a whole."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel


@dataclass
class Checkpoint:
    """How far a run has come. `loss_curve` holds pairs (tokens seen, mean loss since the last pair)."""

    options: dict[str, Any]
    device: str
    step: int = 0
    seconds: float = 0.0
    loss_curve: list[list[int | float]] = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def save_checkpoint(folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, record: Checkpoint) -> None:
    """Write a complete checkpoint beside the old one, then take its place: a kill leaves the one or the other."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left_over in (fresh, old):
        shutil.rmtree(left_over, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(_parameters(model), fresh / "model.safetensors")
    save_file(_optimizer_tensors(optimizer), fresh / "optimizer.safetensors")
    record.write(fresh / "state.json")
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, record: Checkpoint
) -> Checkpoint:
    """Bring model and optimiser to the checkpoint's state and return its record; without one, `record` as it came.

    Raises:
        ValueError: the checkpoint was made with other options.
    """
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():  # killed between the two renames of `save_checkpoint`
        os.replace(old, folder)
    if not folder.exists():
        return record
    found = Checkpoint(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
    if changed := [name for name, value in record.options.items() if found.options.get(name) != value]:
        was = ", ".join(f"{name}={found.options.get(name)}" for name in changed)
        raise ValueError(f"the checkpoint in {folder} was made with {was}; resume with the same options or train anew.")
    with torch.no_grad():
        stored = load_file(folder / "model.safetensors")
        for name, parameter in model.named_parameters():
            parameter.copy_(stored[name])
    _restore(optimizer, load_file(folder / "optimizer.safetensors"))
    return found


def _parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    """All parameters by name; a tied one is listed once."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named by the position of their parameter."""
    state = optimizer.state_dict()["state"]
    return {
        f"{position}.{name}": tensor.contiguous() for position, entry in state.items() for name, tensor in entry.items()
    }


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        position, name = key.split(".", 1)
        state.setdefault(int(position), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
