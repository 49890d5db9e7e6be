"""What a step of training takes: a short batch that is timed there and back, and the optimizer's work."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.pruning.forecast.probe import clocked
from labutils.training.masked_lora import add_lora, drop_lora
from labutils.training.parts_of_batches import kept_by_rows
from labutils.training.text_loss import text_loss

RANK, MEASURED = 8, 2**20  # of adapters, and parameters of the optimizer that is timed
STATE = 4 * 4  # bytes that AdamW holds of a parameter: gradient, two means, and the copy in 32 bits
MASKED = 4 + 1  # and behind a mask: its score, and whether it is kept


class StepRates(NamedTuple):
    """Seconds and kept bytes per token, there and back; how many parameters move; bytes kept by any pass."""

    seconds: float
    kept: float
    parameters: int
    fixed: int


def measure_steps(model: PreTrainedModel, probe: Tensor, part: str) -> StepRates:
    """Of training a part of a model: "all", "adapters" or "few" (biases and norms). The model stays as it is.

    >>> measure_steps(model, tokens[:1], "adapters").seconds
    """
    ids = probe.to(model.device)
    with _prepared(model, part) as (network, parameters):

        def loss_of(rows: Tensor) -> Tensor:
            return text_loss(network, rows)

        times = clocked(
            lambda: torch.autograd.grad(loss_of(ids), parameters, allow_unused=True), model.device, repeats=2
        )
        fixed, kept = kept_by_rows(network, loss_of, ids[:1])
        count = sum(parameter.numel() for parameter in parameters)
    return StepRates(min(map(min, times)) / ids.numel(), kept / ids.shape[1], count, fixed)


@contextmanager
def _prepared(model: PreTrainedModel, part: str) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    adapted = add_lora(model, rank=RANK) if part == "adapters" else None
    try:
        if adapted is None:
            for parameter in model.parameters():
                parameter.requires_grad_(part == "all" or parameter.ndim == 1)
        network = adapted or model
        with torch.enable_grad():
            yield network, [parameter for parameter in network.parameters() if parameter.requires_grad]
    finally:
        if adapted is not None:
            drop_lora(adapted)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])


@cache
def optimizer_seconds(device: torch.device) -> float:
    """Seconds per parameter of a step of AdamW and of the clipping before it."""
    parameter = nn.Parameter(torch.zeros(MEASURED, device=device))
    parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW([parameter], lr=1e-3)

    def step() -> None:
        nn.utils.clip_grad_norm_([parameter], 1.0)
        optimizer.step()

    return min(map(min, clocked(step, device, repeats=3))) / MEASURED
