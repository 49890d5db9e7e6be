"""What a sweep will take, told before it starts."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from labutils.core.progress import clock
from labutils.pruning.forecast.advice import LOGGER
from labutils.pruning.forecast.memory import gigabytes
from labutils.pruning.forecast.request import forecast_request
from labutils.pruning.methods import Request

LONG_SECONDS = 60.0


def announce_sweep(
    name: str, model: PreTrainedModel, shape: Sequence[int], requests: Sequence[Request], *, n_draws: int,
    evaluation_seconds: float,
) -> None:  # fmt: skip
    """Log the forecast of a sweep that takes more than a minute, as a warning: it is shown unless it is routed.

    >>> announce_sweep("lab-llama", model, (24, 128), requests, n_draws=5, evaluation_seconds=0.2)

    The prunings' times are `forecast`'s, the evaluations' that of the dense model. What a grid shares, and rows that
    are kept from an earlier try, make it less. With several workers the time is that of all of them together.

    Args:
        shape: sequences of one calibration draw, and their length.
        requests: of one draw.
        n_draws: draws of all texts together.
    """
    times = [n_draws if request.reads_inputs else 1 for request in requests]
    if sum(times) * evaluation_seconds < LONG_SECONDS / 20:
        return
    found = {}
    for request in requests:
        kind = _kind(request)
        if kind not in found:
            try:
                found[kind] = forecast_request(model, shape, request, model.device, model.dtype)
            except LookupError:  # a cost that cannot be told is no reason not to sweep
                return
    seconds = sum(count * found[_kind(request)].seconds for count, request in zip(times, requests, strict=True))
    seconds += (1 + sum(times)) * evaluation_seconds
    if seconds > LONG_SECONDS:
        memory = gigabytes(max(each.memory for each in found.values()))
        LOGGER.warning(
            "sweep %s: %d prunings and %d evaluations, about %s and %s", name, sum(times), 1 + sum(times),
            clock(seconds), memory,
        )  # fmt: skip


def _kind(request: Request) -> tuple:
    """What decides how long a pruning takes: not how many weights it removes."""
    matrix_method = request.method.matrix_method(request.sparsity)
    return (
        request.method.name, matrix_method, type(request.allocation), request.reads_dense_model, request.pattern,
        request.options,
    )  # fmt: skip
