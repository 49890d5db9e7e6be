"""Prunings that a run has kept beside those that were foreseen."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from labutils.core.files import hash_json
from labutils.foresight.costing import dense_key, sweep_keys
from labutils.foresight.loss_notebooks import loss_sweeps
from labutils.foresight.plans import plan_work
from labutils.foresight.work import Work, model_of
from labutils.runner.planning import Study


def kept_prunings(run: Path) -> Counter:
    """How many prunings of each request lie in a run's folder, of a calibration and of none; None: the dense model."""
    keys = [json.loads(path.read_text())["key"] for path in (run / "prunings" / "runs").glob("*.json")]
    return Counter(
        (hash_json(key["request"]) if key["request"] else None, bool(key.get("calibration"))) for key in keys
    )


def foreseen_prunings(studies: Iterable[Study]) -> Counter:
    """The same of the prunings that are foreseen, each once for all studies."""
    keys = set()
    for work in (work for study in studies for work in _works(study)):
        for sweep in filter(lambda sweep: sweep.kept, work.sweeps):
            keys |= {dense_key(work.model, sweep)}
            keys |= {key for draw in sweep.draws for key, _ in sweep_keys(work.model, sweep, draw)}
    return Counter((request, draw is not None) for _, _, request, draw in keys)


def _works(study: Study) -> tuple[Work, ...]:
    if study.stem != "11_cost":
        return plan_work(study.stem, study.parameters).works
    # It is not forecast, since it measures time, but leaves the prunings of a sweep in either way.
    p, grid = study.parameters, ("methods", "sparsities", "n_calibration")
    ways = [loss_sweeps(p, [p["source"]], *(p[name] for name in grid), sequential=way) for way in (True, False)]
    return (Work(model_of(p), tuple(sum(ways, []))),)
