"""What the notebooks of a run will take, one after another, each told or with the reason why it cannot be."""

import gc
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labutils.foresight.costing import Cost, Key, cost_work
from labutils.foresight.meter import Meter
from labutils.foresight.plans import FORESEEN, plan_work
from labutils.foresight.work import ModelId, Parameters
from labutils.models.loading import load_model

PAGE_BYTES = 3_000_000  # about: the executed notebook, its page, its figures and its rows


@dataclass(frozen=True)
class Outlook:
    """What a notebook will take.

    Attributes:
        seconds, memory, disk: of the whole notebook; memory at its peak, disk in the run's folder; None where it
            cannot be told.
        temporary: bytes in the folder of temporary files, while it runs.
        prunings, evaluations: how many, without those whose rows earlier notebooks of the run have left.
        note: how rough that is, or why it cannot be told.
    """

    stem: str
    seconds: float | None = None
    memory: int | None = None
    disk: int | None = None
    temporary: int = 0
    prunings: int = 0
    evaluations: int = 0
    note: str = ""


def foresee(studies: Sequence[tuple[str, Parameters]]) -> list[Outlook]:
    """The outlook of every notebook of a run, in the order in which they run.

    >>> foresee([("01_layerwise_sparsity", parameters), ("06_biomedical_adaptation", others)])

    Models are loaded one at a time, and let go. Nothing is raised for one that cannot be loaded or told: its outlook
    says why. The time is that of a machine which does nothing else.

    Args:
        studies: stem and all parameters of each notebook.
    """
    beginning = time.process_time()  # every kernel loads the same libraries
    base = _resident_bytes()
    meters: dict[ModelId, Meter] = {}
    kept: set[Key] = set()
    found = []
    for stem, parameters in studies:
        if stem not in FORESEEN:
            found.append(Outlook(stem))
            continue
        try:
            found.append(_foresee_one(stem, parameters, meters, kept, beginning, base))
        except Exception as error:  # whatever keeps a forecast from being made must not keep the run from starting
            reason = str(error).partition("\n")[0] or type(error).__name__
            found.append(Outlook(stem, note=f"cannot be told: {reason}"))
    return found


def _foresee_one(
    stem: str, parameters: Parameters, meters: dict[ModelId, Meter], kept: set[Key], seconds: float, base: int
) -> Outlook:
    planned = plan_work(stem, parameters)
    total, temporary = Cost(seconds=seconds, disk=PAGE_BYTES), 0
    for work in planned.works:
        meter = _meter(work.model, meters)
        total.add(cost_work(meter, work, kept))
        temporary += round(work.saved * meter.weight_bytes)
    return Outlook(
        stem, total.seconds, base + total.peak, total.disk, temporary, total.prunings, total.evaluations, planned.rough
    )


def _meter(model: ModelId, meters: dict[ModelId, Meter]) -> Meter:
    """The meter of a model: notebooks of a run name few, and two at most are in memory together."""
    if model not in meters:
        while len(meters) > 1:
            meters.pop(next(iter(meters)))
        gc.collect()
        started = time.process_time()
        loaded = load_model(model.source, revision=model.revision, dtype=model.dtype)
        meters[model] = Meter(*loaded, load_seconds=time.process_time() - started)
    return meters[model]


def _resident_bytes() -> int:
    """The most that this process has held so far: libraries alone, before a model is loaded."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def total_of(outlooks: Sequence[Outlook]) -> Mapping[str, float]:
    """Seconds, memory (of the largest notebook) and bytes on the disk of those that can be told.

    >>> total_of(foresee(studies))["seconds"]
    """
    told = [each for each in outlooks if each.seconds is not None]
    return {
        "seconds": sum(each.seconds for each in told),
        "memory": max((each.memory for each in told), default=0),
        "disk": sum(each.disk for each in told),
        "temporary": max((each.temporary for each in told), default=0),
    }
