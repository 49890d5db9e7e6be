"""What a pruning will take, before anything runs: memory and time, from shapes and from this machine's speed.

Memory (`memory`) follows the tensors that `prune` has alive at each stage; only shapes enter. On a CPU as much as one
batch's temporary tensors is added: between outputs that stay, the C library cannot give back what they leave. (Where
every tensor is mapped by itself there are no such gaps, and a process is seen to hold the tensors alone.) Time
(`seconds`) is the work of each stage, in units whose cost a short `probe` has measured in this process: that of a
machine which does nothing else meanwhile. What a block computes is read off a run without data (`trace`), so that it
holds for any architecture.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from labutils.core.progress import clock
from labutils.models.loading import model_class
from labutils.pruning.forecast.memory import gigabytes, stage_memory
from labutils.pruning.forecast.plan import Plan
from labutils.pruning.forecast.probe import measure_pruning, measure_speed
from labutils.pruning.forecast.seconds import beginning_seconds, stage_seconds
from labutils.pruning.forecast.trace import trace_block
from labutils.pruning.requests import Request, make_request


@dataclass(frozen=True)
class Forecast:
    """What a call of `prune` will take.

    Attributes:
        seconds: of the whole pruning.
        memory: peak bytes, the model included.
        stages: one row per stage: how many seconds all of it takes, and the bytes alive at its peak.
        parts: bytes of what is alive throughout or at the peak, by name.
        streamed: what `prune_checkpoint` would take: one block, its statistics, and the hidden states once.
    """

    seconds: float
    memory: int
    stages: pd.DataFrame
    parts: dict[str, int]
    streamed: int

    def __str__(self) -> str:
        model = gigabytes(self.parts["model"])
        return f"about {clock(self.seconds)} and {gigabytes(self.memory)}, of which {model} for the model"


def forecast(
    model_or_config: PreTrainedModel | PreTrainedConfig,
    calibration_shape: Sequence[int],
    method: str = "optiprune",
    *,
    sparsity: float = 0.5,
    allocation: str | Sequence[float] | None = None,
    pattern: str = "unstructured",
    permute: bool = False,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **options: object,
) -> Forecast:
    """Memory and time that `prune` will take with the same arguments; nothing of the model is run.

    Args:
        model_or_config: a model, or the configuration of one that is not loaded.
        calibration_shape: sequences and their length; padding counts like text.
        device, dtype: of the model to come, where a configuration is given (default: the CPU, and float32).
        method, sparsity, allocation, pattern, permute, **options: as for `prune`.

    Raises:
        ValueError, LookupError: an argument that `prune` would not take either, a shape that is no pair of positive
            integers, or a model whose work cannot be told from shapes.
    """
    request = make_request(method, sparsity, allocation, pattern, permute, 0, options)
    if isinstance(model_or_config, PreTrainedModel):
        device, dtype = model_or_config.device, model_or_config.dtype
    device, dtype = torch.device(device or "cpu"), dtype or torch.float32
    return forecast_request(model_or_config, calibration_shape, request, device, dtype)


def forecast_request(
    model_or_config: PreTrainedModel | PreTrainedConfig, shape: Sequence[int], request: Request,
    device: torch.device, dtype: torch.dtype,
) -> Forecast:  # fmt: skip
    """As `forecast`, of a request that is checked."""
    plan = plan_request(model_or_config, shape, request, dtype)
    memory, speed = stage_memory(plan, on_cpu=device.type == "cpu"), measure_speed(device, dtype)
    seconds = stage_seconds(plan, speed, measure_pruning(plan.method.name, device, plan.options.group))
    stages = pd.DataFrame({"stage": plan.stages, "seconds": seconds.values(), "bytes": memory.stages.values()})
    total = sum(seconds.values()) + beginning_seconds(plan, speed, memory.copied)
    return Forecast(total, memory.peak, stages, memory.parts, memory.streamed)


def plan_request(
    model_or_config: PreTrainedModel | PreTrainedConfig, shape: Sequence[int], request: Request, dtype: torch.dtype
) -> Plan:
    """What a checked request comes to; of the model only shapes are looked at.

    Raises:
        ValueError, LookupError: a shape that is no pair of positive integers, or a model that cannot be told.
    """
    if len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"calibration_shape={tuple(shape)} must be two positive integers: sequences and their length.")
    model = build_on_meta(model_or_config, dtype)
    batch = min(request.options.batch_size, shape[0])
    costs, n_blocks = trace_block(model, (batch, shape[1]))
    head, parameters = model.get_output_embeddings(), sum(parameter.nbytes for parameter in model.parameters())
    vocabulary = 0 if head is None else head.weight.shape[0]
    return Plan(costs, n_blocks, shape[0] / batch, shape[0] * shape[1], parameters, vocabulary, request, dtype)


def build_on_meta(model_or_config: PreTrainedModel | PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model without weights, on torch's meta device."""
    if isinstance(model_or_config, PreTrainedModel):
        kind, config = type(model_or_config), model_or_config.config
    else:
        kind, config = None, model_or_config
    config = copy.deepcopy(config)
    with torch.device("meta"):
        model = kind(config) if kind else model_class(config).from_config(config)
    return model.to(dtype).eval()
