"""From what a notebook will do to seconds and bytes, with prunings shared as grids and kept rows share them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from labutils.core.files import hash_json
from labutils.foresight.cost import Cost
from labutils.foresight.making import cost_made
from labutils.foresight.meter import Meter
from labutils.foresight.work import Draw, ModelId, Shape, Single, Sweep, Training, Work
from labutils.pruning.allocations import AdaptiveOwl, Allocation, Uniform
from labutils.pruning.methods import Request

Key = tuple
FILE_BYTES, ROW_BYTES = 16_000, 24  # of a kept pruning: two small files and their blocks on the disk, and each item


def cost_work(meter: Meter, work: Work, kept: set[Key]) -> Cost:
    """Of all that a notebook does with one model.

    Args:
        kept: what earlier work of the run has left in its folder; what this one leaves is added.

    Raises:
        LookupError, ValueError: a source that cannot be read, or a model whose cost cannot be told.
    """
    if work.n_experts and meter.n_experts < work.n_experts:
        return Cost()
    total = Cost(seconds=work.loads * meter.load_seconds, peak=meter.weight_bytes + meter.reading_memory())
    for sweep in work.sweeps:
        total.add(_cost_sweep(meter, sweep, work.model, kept))
    for single in work.singles:
        total.add(_cost_single(meter, single))
    for each in work.passes:
        n_times = each.times * (len(meter.blocks) if each.each_block else 1)
        total.add(Cost(meter.pass_seconds(each), evaluations=n_times * each.reading.n_read if each.evaluates else 0))
    for made in work.made:
        total.add(cost_made(meter, made))
    for training in work.trainings:
        total.add(_cost_training(meter, training))
    total.peak += work.copies * meter.weight_bytes + meter.likeliest_bytes(work.kept_places)
    total.disk += work.files * FILE_BYTES
    return total


def dense_key(model: ModelId, sweep: Sweep) -> Key:
    """The key of the dense model's rows."""
    return model, sweep.reading, None, None


def sweep_keys(model: ModelId, sweep: Sweep, draw: Draw, has_experts: bool = False) -> list[tuple[Key, Request]]:
    """The key of each pruning of a draw: equal ones have the same rows, as in `labutils.sweeps.kept_prunings`."""
    return [
        ((model, sweep.reading, hash_json(request.record()), draw if _reads(request, has_experts) else None), request)
        for request in sweep.requests
    ]


def _reads(request: Request, has_experts: bool) -> bool:
    return request.reads_inputs or (has_experts and request.method.name != "magnitude")


def _cost_sweep(meter: Meter, sweep: Sweep, model: ModelId, seen: set[Key]) -> Cost:
    kept = seen if sweep.kept else set()
    reading, total = meter.read_seconds(sweep.reading), Cost()
    dense = dense_key(model, sweep)
    if dense not in kept:
        kept.add(dense)
        total.add(Cost(reading, evaluations=1, disk=_file_bytes(sweep)))
    for draw in sweep.draws:
        fresh = {key: request for key, request in sweep_keys(model, sweep, draw, meter.has_experts) if key not in kept}
        if not fresh:
            continue
        if sweep.kept:  # what keeps nothing prunes again in every draw
            kept.update(fresh)
        n_distinct = len({_identity(request) for request in fresh.values()})
        seconds = _grid_seconds(meter, list(fresh.values()), draw.shape) + n_distinct * reading
        peak = max(meter.memory(request, draw.shape).peak for request in fresh.values()) + meter.reading_memory()
        peak += _statistics_of_all_blocks(meter, fresh.values(), draw.shape)
        total.add(Cost(seconds, len(fresh), n_distinct, peak, len(fresh) * _file_bytes(sweep)))
    return total


def _cost_single(meter: Meter, single: Single) -> Cost:
    request, shape = single.request, single.shape
    stages = meter.pruning_stages(request, shape, errors=True)
    seconds = single.times * (sum(stages.values()) + meter.beginning(request, shape))
    return Cost(seconds, prunings=single.times, peak=meter.memory(request, shape).peak)


def _cost_training(meter: Meter, training: Training) -> Cost:
    seconds, steps = meter.training_seconds(training), meter.count_steps(training)
    return Cost(training.times * seconds, peak=meter.training_memory(training), steps=training.times * steps)


def _file_bytes(sweep: Sweep) -> int:
    return FILE_BYTES + ROW_BYTES * sweep.reading.n_items if sweep.kept else 0


def _identity(request: Request) -> tuple:
    """Equal for requests of a grid that come to the same model, as `optiprune` and `ria` do at low sparsities."""
    allocation = request.allocation
    if isinstance(allocation, AdaptiveOwl) and not allocation.reads_inputs(request.sparsity):
        allocation = Uniform()
    method, fitted = request.method.matrix_method(request.sparsity), type(request.method).fit_to
    spread = _spread(allocation)
    return method, fitted, spread, request.sparsity, request.pattern, request.permute, request.options


def _spread(allocation: Allocation) -> tuple:
    """Equal for allocations of one kind with equal options."""
    return type(allocation).__name__, tuple(asdict(allocation).items()) if _is_data(allocation) else ()


def _is_data(value: object) -> bool:
    return hasattr(value, "__dataclass_fields__")


def _grid_seconds(meter: Meter, requests: Sequence[Request], shape: Shape) -> float:
    """Of the distinct prunings of one draw.

    Once for all are: the beginning, what allocations read of the dense model, and the first block's statistics; where
    all prunings read the dense model, the statistics of every block. Scores of weights alone read no tokens.
    """
    distinct = {_identity(request): request for request in requests}
    shared: set[tuple] = set()
    seconds = meter.beginning(requests[0], shape)
    for request in distinct.values():
        stages = meter.pruning_stages(request, shape, errors=False)
        method = request.method.matrix_method(request.sparsity)
        allocate = stages.pop("allocate", 0.0)
        allocation = request.allocation
        searched = ("search", _spread(allocation), request.sparsity, method if allocation.n_levels else None)
        stages["search"] = 0.0 if searched in shared else stages.get("search", 0.0)
        shared.add(searched)
        if ("allocate", request.allocation.reads_hessians(method)) not in shared:
            shared.add(("allocate", request.allocation.reads_hessians(method)))
            seconds += allocate
        if not method.reads_inputs and not meter.has_experts:
            seconds += stages["prune"] + stages["search"]
            continue
        gathered = stages.pop("collect") + stages.pop("factorise", 0.0)
        if ("gathered", method.needs_hessian) not in shared:
            shared.add(("gathered", method.needs_hessian))
        else:
            gathered *= 1 - 1 / len(meter.blocks) if request.options.sequential else 0.0
        seconds += gathered + sum(stages.values())
    return seconds


def _statistics_of_all_blocks(meter: Meter, requests: Iterable[Request], shape: Shape) -> int:
    """Without sequence the statistics of every block, and with Hessians their factors, are in memory together."""
    found = [meter.memory(request, shape).parts["statistics"] for request in requests if not request.options.sequential]
    return max(found, default=0) * (len(meter.blocks) - 1)
