"""What `prune` says of its cost: before a long pruning, and when it runs out of memory."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transformers import PreTrainedModel

from labutils.models.structure import find_blocks, prunable_layers
from labutils.pruning.calibration import Calibration
from labutils.pruning.forecast.memory import Memory, gigabytes, stage_memory
from labutils.pruning.forecast.probe import measure_product
from labutils.pruning.forecast.request import calibration_shape, forecast_request, plan_request
from labutils.pruning.methods import Request

LOGGER = logging.getLogger("labutils")
LONG_SECONDS = 10.0
WORTH_SAYING = 0.95  # of the memory; what saves less is no advice


def announce(model: PreTrainedModel, calibration: Calibration, request: Request) -> None:
    """Log the forecast of a pruning that takes more than ten seconds, as a warning: it is shown unless it is routed.

    Two passes over the blocks' matrices alone tell that most prunings are far from that, at no cost.
    """
    shape = calibration_shape(calibration)
    weights = sum(layer.weight.numel() for block in find_blocks(model)[1] for layer in prunable_layers(block).values())
    products = 4 * weights * shape[0] * shape[1]
    if products * measure_product(model.device, model.dtype) < LONG_SECONDS / 10:
        return
    try:
        found = forecast_request(model, shape, request, model.device, model.dtype)
    except LookupError:  # a cost that cannot be told is no reason not to prune
        return
    if found.seconds > LONG_SECONDS:
        LOGGER.warning("prune %s: %s", request.method.name, found)


@contextmanager
def explain_out_of_memory(model: PreTrainedModel, calibration: Calibration, request: Request) -> Iterator[None]:
    """Turn an out-of-memory error into a MemoryError that says what would use less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(advise(model, calibration_shape(calibration), request)) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is used up: torch has its own type for it on a GPU only."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "Unable to allocate")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def advise(model: PreTrainedModel, shape: Sequence[int], request: Request) -> str:
    """What a pruning takes, and what takes less, in bytes where they can be told."""
    try:
        found = _memory(model, shape, request)
    except LookupError:  # a model whose cost cannot be told
        return "Out of memory. To use less: a smaller batch_size, fewer calibration tokens, or `prune_checkpoint`."
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
        f"Out of memory: pruning takes about {whole}, {own} of it for the model. "
        f"To use less: {', or '.join(worthwhile)}."
    )


def _memory(model: PreTrainedModel, shape: Sequence[int], request: Request) -> Memory:
    """Without the time, whose probe would need memory itself."""
    return stage_memory(plan_request(model, shape, request, model.dtype), on_cpu=model.device.type == "cpu")
