"""What `prune` says of its cost: before a long pruning, and when memory was not enough."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from transformers import PreTrainedModel

from labutils.models.structure import find_blocks, prunable_layers
from labutils.pruning.calibration import Calibration
from labutils.pruning.forecast.memory import Memory, gigabytes, stage_memory
from labutils.pruning.forecast.probe import measure_product
from labutils.pruning.forecast.request import forecast_request, plan_request
from labutils.pruning.requests import Request

LONG_SECONDS = 10.0
WORTH_SAYING = 0.95  # of the memory; what saves less is no advice


def announce(model: PreTrainedModel, calibration: Calibration, request: Request) -> None:
    """Print the forecast of a pruning that takes more than ten seconds.

    Two passes over the blocks' matrices alone tell that most prunings are far from that, at no cost.
    """
    shape = _shape(calibration)
    weights = sum(layer.weight.numel() for block in find_blocks(model)[1] for layer in prunable_layers(block).values())
    products = 4 * weights * shape[0] * shape[1]
    if products * measure_product(model.device, model.dtype) < LONG_SECONDS / 10:
        return
    try:
        found = forecast_request(model, shape, request, model.device, model.dtype)
    except LookupError:  # a cost that cannot be told is no reason not to prune
        return
    if found.seconds > LONG_SECONDS:
        print(f"prune {request.method}: {found}", file=sys.stderr, flush=True)


@contextmanager
def advice_when_memory_ends(model: PreTrainedModel, calibration: Calibration, request: Request) -> Iterator[None]:
    """Turn an error for want of memory into a MemoryError that says what would have needed less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_exhaustion(error):
            raise
        raise MemoryError(advise(model, _shape(calibration), request)) from error


def is_exhaustion(error: Exception) -> bool:
    """Whether an error says that memory is used up: torch has a type of its own for it on a GPU alone."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "Unable to allocate")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def advise(model: PreTrainedModel, shape: Sequence[int], request: Request) -> str:
    """What a pruning takes, and what takes less, in bytes where they can be told."""
    try:
        found = _memory(model, shape, request)
    except LookupError:  # a model whose cost cannot be told
        return "Memory was not enough. Less need a smaller batch_size, fewer calibration tokens, or `prune_checkpoint`."
    one = dataclasses.replace(request, options=dataclasses.replace(request.options, batch_size=1))
    half = (max(1, shape[0] // 2), shape[1])
    bare = dataclasses.replace(request, options=dataclasses.replace(request.options, restorable=False))
    others = {
        "batch_size=1": _memory(model, shape, one).peak,
        "restorable=False": _memory(model, shape, bare).peak,
        f"{half[0]} calibration sequences": _memory(model, half, request).peak,
        "`prune_checkpoint`, from disk to disk": found.streamed,
    }
    worthwhile = [f"{name} ({gigabytes(size)})" for name, size in others.items() if size < found.peak * WORTH_SAYING]
    whole, own = gigabytes(found.peak), gigabytes(found.parts["model"])
    return (
        f"Memory was not enough: pruning takes about {whole}, {own} of it for the model. "
        f"Less need {', or '.join(worthwhile)}."
    )


def _memory(model: PreTrainedModel, shape: Sequence[int], request: Request) -> Memory:
    """Without the time: its probe would want memory, of which there is none."""
    return stage_memory(plan_request(model, shape, request, model.dtype), on_cpu=model.device.type == "cpu")


def _shape(calibration: Calibration) -> tuple[int, ...]:
    return tuple((calibration["input_ids"] if isinstance(calibration, Mapping) else calibration).shape)
