"""What the notebooks of a run will take, one after another, each told or with the reason why it cannot be."""

import gc
import time
from collections.abc import Sequence
from typing import NamedTuple

from labutils.core.free_memory import free_memory
from labutils.core.usage import peak_resident_megabytes
from labutils.foresight.costing import Cost, Key, cost_work
from labutils.foresight.meter import Meter
from labutils.foresight.outlooks import Outlook
from labutils.foresight.plans import FORESEEN, plan_work
from labutils.foresight.work import ModelId, Parameters
from labutils.models.loading import load_model

PAGE_BYTES = 1_500_000  # about: the executed notebook, its page, its figures and its rows


class Machine(NamedTuple):
    """What every kernel takes before it loads a model: seconds and bytes of its libraries; and bytes that are free."""

    import_seconds: float
    libraries: int
    free: int | None


def foresee(studies: Sequence[tuple[str, Parameters]]) -> list[Outlook]:
    """The outlook of every notebook of a run, in the order in which they run.

    >>> foresee([("01_layerwise_sparsity", parameters), ("06_biomedical_adaptation", others)])

    Models are loaded one at a time, and let go. Nothing is raised for one that cannot be loaded or told: its outlook
    says why. The time is that of a machine which does nothing else.

    Args:
        studies: stem and all parameters of each notebook.
    """
    machine = Machine(time.process_time(), round(peak_resident_megabytes() * 1e6), free_memory())
    meters: dict[ModelId, Meter] = {}
    kept: set[Key] = set()
    found = []
    for stem, parameters in studies:
        if stem not in FORESEEN:
            found.append(Outlook(stem))
            continue
        try:
            found.append(_foresee_one(stem, parameters, meters, kept, machine))
        except Exception as error:  # whatever keeps a forecast from being made must not keep the run from starting
            reason = str(error).partition("\n")[0] or type(error).__name__
            found.append(Outlook(stem, note=f"cannot be told: {reason}"))
    return found


def _foresee_one(
    stem: str, parameters: Parameters, meters: dict[ModelId, Meter], kept: set[Key], machine: Machine
) -> Outlook:
    planned = plan_work(stem, parameters)
    total, temporary, loaded, device = Cost(seconds=machine.import_seconds, disk=PAGE_BYTES), 0, 0, "cpu"
    for work in planned.works:
        meter = _meter(work.model, meters)
        total.add(cost_work(meter, work, kept))
        temporary += round(work.saved * meter.weight_bytes)
        loaded, device = max(loaded, meter.load_peak), meter.model.device.type
    on_cpu = device == "cpu"
    return Outlook(
        stem, total.seconds, max(machine.libraries + total.peak, loaded) if on_cpu else total.peak, total.disk,
        machine.free if on_cpu else free_memory(device), device, temporary, total.prunings, total.evaluations,
        total.steps, planned.rough,
    )  # fmt: skip


def _meter(model: ModelId, meters: dict[ModelId, Meter]) -> Meter:
    """The meter of a model: notebooks of a run name few, and two at most are in memory together."""
    if model not in meters:
        while len(meters) > 1:
            meters.pop(next(iter(meters)))
        gc.collect()
        started = time.process_time()
        loaded = load_model(model.source, revision=model.revision, dtype=model.dtype)
        seconds, peak = time.process_time() - started, round(peak_resident_megabytes() * 1e6)
        meters[model] = Meter(*loaded, load_seconds=seconds, load_peak=peak)
    return meters[model]
