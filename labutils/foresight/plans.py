"""Which notebooks can be foreseen, and by which function."""

from labutils.foresight.experts_notebook import plan_experts
from labutils.foresight.healing_notebook import plan_healing
from labutils.foresight.loss_notebooks import (
    plan_any_model,
    plan_best_possible,
    plan_layerwise,
    plan_optiprune,
    plan_strategy,
    plan_tour,
)
from labutils.foresight.neuron_notebook import plan_meanings, plan_neurons
from labutils.foresight.smaller_notebook import plan_smaller
from labutils.foresight.task_notebook import plan_tasks
from labutils.foresight.work import Parameters, Planner, StudyWork
from labutils.foresight.yardstick_notebook import plan_yardsticks


def plan_ledger(parameters: Parameters) -> StudyWork:
    """99: verdicts and rows of the other notebooks."""
    return StudyWork((), "reads the others' rows only")


FORESEEN: dict[str, Planner] = {
    "00_tour": plan_tour,
    "01_layerwise_sparsity": plan_layerwise,
    "02_pruning_strategy": plan_strategy,
    "03_optiprune": plan_optiprune,
    "04_calibration_and_tasks": plan_tasks,
    "05_neuron_semantics": plan_neurons,
    "05b_pruned_meanings": plan_meanings,
    "09_what_perplexity_hides": plan_yardsticks,
    "10_any_model": plan_any_model,
    "12_best_possible": plan_best_possible,
    "13_smaller_for_real": plan_smaller,
    "13b_experts_and_paths": plan_experts,
    "14_what_heals": plan_healing,
    "99_ledger": plan_ledger,
}


def plan_work(stem: str, parameters: Parameters) -> StudyWork:
    """What a notebook will do with these parameters, all of them given.

    >>> plan_work("01_layerwise_sparsity", study.parameters).works[0].sweeps

    Raises:
        LookupError: a notebook that cannot be foreseen, or a method or allocation that is not registered.
        ValueError: parameters that its sweeps would refuse.
    """
    if stem not in FORESEEN:
        raise LookupError(f"there is no forecast of {stem}; there is one of {', '.join(FORESEEN)}")
    return FORESEEN[stem](parameters)
