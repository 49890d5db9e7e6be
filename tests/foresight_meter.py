"""A meter that times nothing: what is left of a cost are its counts."""

import labutils as lab
from labutils.foresight.cost import Cost
from labutils.foresight.costing import cost_work
from labutils.foresight.meter import Meter
from labutils.foresight.plans import plan_work
from labutils.pruning.forecast.memory import Memory
from labutils.runner.planning import Study


class Counting(Meter):
    """Counts tokens and steps as a meter does, and knows a model's blocks."""

    walk_rate = reading_rate = 0.0

    def pruning_stages(self, request, shape, *, errors):
        return {"collect": 0.0, "prune": 0.0}

    def beginning(self, request, shape):
        return 0.0

    def memory(self, request, shape):
        return Memory({"prune": 0}, {"statistics": 0}, 0, 0)

    def read_seconds(self, reading):
        return 0.0

    def pass_seconds(self, asked):
        return 0.0

    def training_seconds(self, asked):
        return 0.0

    def training_memory(self, asked):
        return 0


def count_study(study: Study) -> Cost:
    """Prunings, evaluations and steps of a notebook, in a folder of its own."""
    total, kept = Cost(), set()
    for work in plan_work(study.stem, study.parameters).works:
        total.add(cost_work(Counting(*lab.load_model(work.model.source)), work, kept))
    return total
