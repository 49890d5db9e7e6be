"""What notebook 04 will do, from its parameters, cell by cell."""

from collections.abc import Sequence

from labutils.foresight.loss_notebooks import loss_sweeps
from labutils.foresight.readings import Items, Reading
from labutils.foresight.work import Draw, Parameters, Pass, StudyWork, Sweep, Work, draws_of, model_of, requests_of
from labutils.sweeps.tasks import expand_tasks

CHOSEN = "those above chance"  # which tasks these are, the notebook finds out: here they count as all


def plan_tasks(parameters: Parameters) -> StudyWork:
    """04: tasks × calibration sets × methods; lengths of sequences; knowledge beside the loss."""
    p = parameters
    names = tuple(expand_tasks(p["tasks"]))
    every = Items(names, p["n_items"], p["seed"])
    compared = Items(names, p["n_items"], p["seed"], about=CHOSEN)
    questions = Items(tuple(p["closed_book"]), p["n_checked"], p["seed"], about=CHOSEN)
    checked = Items(tuple(dict.fromkeys([*names, *p["closed_book"]])), p["n_checked"], p["seed"])
    sets = list(dict.fromkeys([p["calibration"], *p["texts"], *p["others"]]))
    drawn = {length: p["n_calibration"] * p["seq_len"] // length for length in p["seq_lens"]}
    lengths = [
        draw for length, count in drawn.items() for draw in draws_of(p["calibration"], count, length, p["n_draws"])
    ]
    of_sets = {"methods": p["calibration_methods"], "sparsities": p["calibration_sparsities"]}
    sweeps = [
        task_sweep(_draws(p, [p["calibration"]]), every, methods=p["methods"], sparsities=p["sparsities"]),
        task_sweep(_draws(p, sets), compared, **of_sets),
        task_sweep(lengths, compared, **of_sets),
    ]
    if p["closed_book"]:
        knowing = {"methods": p["methods"], "sparsities": p["knowledge_sparsities"]}
        sweeps.append(task_sweep(_draws(p, [p["text"]]), questions, **knowing))
        reading = {**p, "n_items": p["n_texts"]}
        sweeps += loss_sweeps(reading, [p["text"]], p["methods"], p["knowledge_sparsities"], p["n_calibration"])
    work = Work(model_of(p), tuple(sweeps), (), (Pass(checked),))
    return StudyWork((work,), rough="at most: tasks at chance are left out")


def task_sweep(
    draws: Sequence[Draw], reading: Reading, *, methods: Sequence[str], sparsities: Sequence[float]
) -> Sweep:
    """What `lab.sweeps.task_sweep` does."""
    return Sweep(requests_of(methods, sparsities), tuple(draws), reading)


def _draws(p: Parameters, names: Sequence[str]) -> list[Draw]:
    return [draw for name in names for draw in draws_of(name, p["n_calibration"], p["seq_len"], p["n_draws"])]
