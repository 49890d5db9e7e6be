"""Checkpoints of a training run: weights and optimizer state in safetensors, the rest in JSON, replaced as a whole."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STATE = "state.json"
RecordType = TypeVar("RecordType")  # a dataclass with `options`


def save_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, record: Any, **more: dict[str, Tensor]
) -> None:
    """Write a checkpoint in the place of the old one: a kill leaves the one or the other.

    Args:
        record: a dataclass with `options`; it goes into `state.json`.
        **more: further tensors, each in a file of that name.
    """
    with replacing(folder) as fresh:
        tensors = {"model": trained_weights(module), "optimizer": optimizer_tensors(optimizer), **more}
        for name, named in tensors.items():
            save_file(named, fresh / f"{name}.safetensors")
        (fresh / STATE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def load_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, record: RecordType
) -> RecordType:
    """Bring module and optimizer to the checkpoint's state and return its record; without one, `record` as it came.

    Raises:
        ValueError: the checkpoint was made with other options.
    """
    state = find_state(folder, record.options)
    if state is None:
        return record
    restore_weights(module, load_file(folder / "model.safetensors"))
    restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
    return type(record)(**state)


def trained_weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters that are trained, by name; a tied one is listed once."""
    return {
        name: parameter.detach().clone() for name, parameter in module.named_parameters() if parameter.requires_grad
    }


def restore_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """The inverse of `trained_weights`, in place."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


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
