"""Checkpoints of a training run: weights and optimiser state in safetensors, the rest in JSON, replaced as a whole."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

STATE = "state.json"


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
    """Write a checkpoint in the place of the old one: a kill leaves the one or the other."""
    with replacing(folder) as fresh:
        save_file(_parameters(model), fresh / "model.safetensors")
        save_file(optimizer_tensors(optimizer), fresh / "optimizer.safetensors")
        record.write(fresh / STATE)


def load_checkpoint(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, record: Checkpoint
) -> Checkpoint:
    """Bring model and optimiser to the checkpoint's state and return its record; without one, `record` as it came.

    Raises:
        ValueError: the checkpoint was made with other options.
    """
    state = find_state(folder, record.options)
    if state is None:
        return record
    with torch.no_grad():
        stored = load_file(folder / "model.safetensors")
        for name, parameter in model.named_parameters():
            parameter.copy_(stored[name])
    restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
    return Checkpoint(**state)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which then takes the place of `folder`: at any time there is a whole one to go on from."""
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    for left_over in (fresh, old):
        shutil.rmtree(left_over, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def find_state(folder: Path, options: dict[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint's `state.json` holds; None where there is no checkpoint.

    Raises:
        ValueError: it was made with other options.
    """
    old = _beside(folder, "old")
    if not folder.exists() and old.exists():  # killed between the two renames of `replacing`
        os.replace(old, folder)
    if not folder.exists():
        return None
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if changed := [name for name, value in options.items() if state["options"].get(name) != value]:
        was = ", ".join(f"{name}={state['options'].get(name)}" for name in changed)
        raise ValueError(f"the checkpoint in {folder} was made with {was}; resume with the same options or train anew.")
    return state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named by the position of their parameter."""
    state = optimizer.state_dict()["state"]
    return {
        f"{position}.{name}": tensor.contiguous() for position, entry in state.items() for name, tensor in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, in place."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        position, name = key.split(".", 1)
        state.setdefault(int(position), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f"{folder.name}.{ending}")


def _parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    """All parameters by name; a tied one is listed once."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
