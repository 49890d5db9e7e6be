"""What a pruning will take, before anything runs: memory and time, from shapes and from this machine's speed.

Memory (`memory`) follows the tensors that `prune` has alive at each stage; only shapes enter. On a CPU as much as one
batch's temporary tensors is added: between outputs that stay, the C library cannot give back what they leave. (Where
every tensor is mapped by itself there are no such gaps, and a process is seen to hold the tensors alone.) Time
(`seconds`) is the work of each stage, in units whose cost a short `probe` has measured in this process: that of a
machine which does nothing else meanwhile. What a block computes is read off a run without data (`trace`), so that it
holds for any architecture.
"""

import copy
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from labutils.core.progress import clock
from labutils.models.classes import builder, model_class
from labutils.models.loading import choose_device
from labutils.pruning.calibration import Calibration
from labutils.pruning.forecast.memory import gigabytes, stage_memory
from labutils.pruning.forecast.plan import Plan
from labutils.pruning.forecast.probe import measure_pruning, measure_speed
from labutils.pruning.forecast.seconds import beginning_seconds, stage_seconds
from labutils.pruning.forecast.trace import trace_block
from labutils.pruning.inputs import main_text
from labutils.pruning.methods import Request
from labutils.pruning.requests import AllocationName, Whole, make_request


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
    calibration: Calibration | Sequence[int],
    *positional: str,
    method: str = "optiprune",
    sparsity: float,
    allocation: AllocationName = None,
    pattern: str = "unstructured",
    permute: bool = False,
    seed: Whole = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    **options: object,
) -> Forecast:
    """Memory and time that `prune` will take with the same arguments; nothing of the model is run.

    >>> print(lab.forecast(model, tokens, method="sparsegpt", sparsity=0.5))
    about 3 s and 210 MB, of which 120 MB for the model
    >>> lab.forecast(AutoConfig.from_pretrained(name), (128, 2048), sparsity=0.6, device="cuda", dtype="bfloat16")

    Args:
        model_or_config: a model, or the configuration of one that is not loaded.
        calibration: as for `prune`, or its shape alone: sequences and their length. Padding counts like text.
        positional: deprecated; the method as third argument.
        device, dtype: of the model to come, where a configuration is given: a dtype of torch or its name; "auto" is
            float32. The default device is the CPU.
        method, sparsity, allocation, pattern, permute, seed, **options: as for `prune`.

    Raises:
        ValueError, LookupError: an argument that `prune` would not take either, a shape that is no pair of positive
            integers, or a model whose work cannot be told from shapes.
    """
    if positional:
        warnings.warn("forecast: give the method by name, method=…, as for `prune`", DeprecationWarning, stacklevel=2)
        if len(positional) > 1 or method != "optiprune":
            raise TypeError("forecast takes one method, by its name: method=…")
        (method,) = positional
    request = make_request(method, sparsity, allocation, pattern, permute, seed, options)
    dtype = _read_dtype(dtype)
    if isinstance(model_or_config, PreTrainedModel):
        device, dtype = model_or_config.device, model_or_config.dtype
    return forecast_request(
        model_or_config,
        calibration_shape(calibration),
        request,
        torch.device(choose_device(str(device or "cpu"))),
        dtype,
    )


def calibration_shape(calibration: Calibration | Sequence[int]) -> tuple[int, ...]:
    """Sequences and their length, of token ids or of a mapping that holds them; a shape is returned as it is."""
    calibration = main_text(calibration)
    tokens = calibration["input_ids"] if isinstance(calibration, Mapping) else calibration
    return tuple(tokens.shape if isinstance(tokens, torch.Tensor) else tokens)


def _read_dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype.replace("auto", "float32"), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(
            f'dtype={dtype!r} is not a floating-point dtype; give "auto", "float32", "bfloat16" or "float16".'
        )
    return found


def forecast_request(
    model_or_config: PreTrainedModel | PreTrainedConfig, shape: Sequence[int], request: Request,
    device: torch.device, dtype: torch.dtype,
) -> Forecast:  # fmt: skip
    """As `forecast`, of a request that is checked."""
    plan = plan_request(model_or_config, shape, request, dtype)
    memory, speed = stage_memory(plan, on_cpu=device.type == "cpu"), measure_speed(device, dtype)
    seconds = stage_seconds(plan, speed, measure_pruning(plan.method, device, plan.options.group))
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
        raise ValueError(
            f"The calibration's shape {reprlib.repr(tuple(shape))} must be two positive integers: sequences and their "
            "length."
        )
    model = build_on_meta(model_or_config, dtype)
    batch = min(request.options.batch_size, shape[0])
    costs, n_blocks = trace_block(model, (batch, shape[1]))
    head, parameters = model.get_output_embeddings(), sum(parameter.nbytes for parameter in model.parameters())
    vocabulary = 0 if head is None else head.weight.shape[0]
    n_tokens = shape[0] * shape[1]
    return Plan(costs, n_blocks, shape[0] / batch, n_tokens, shape[1], parameters, vocabulary, request, dtype)


def build_on_meta(model_or_config: PreTrainedModel | PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model without weights, on torch's meta device."""
    if isinstance(model_or_config, PreTrainedModel):
        kind, config = type(model_or_config), model_or_config.config
    else:
        kind, config = None, model_or_config
    config = copy.deepcopy(config)
    with torch.device("meta"):
        model = kind(config) if kind else builder(model_class(config))(config)
    return model.to(dtype).eval()
