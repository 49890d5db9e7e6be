"""What notebook 13b will do, from its parameters: experts dropped and weights pruned, paths walked, blocks dropped."""

from labutils.data.sources import split_pair
from labutils.foresight.declared import read_declared
from labutils.foresight.readings import AlongPaths, Items, Windows
from labutils.foresight.work import Made, ModelId, Parameters, Pass, Single, StudyWork, Work, model_of
from labutils.pruning.requests import make_request
from labutils.smaller.dropped_tasks import WAYS
from labutils.sweeps.tasks import expand_tasks

STEM = "13b_experts_and_paths"
METHOD = "wanda"  # of the weights that go after the experts


def plan_experts(parameters: Parameters) -> StudyWork:
    """13b: mixtures × choices × numbers of experts × sparsities, models × paths, models × ways × blocks."""
    p = parameters
    names, works = list(dict.fromkeys([*p["models"], *p["mixtures"]])), []
    for name in names:  # every model stays in memory
        model, others = model_of(p, name), len(names) - 1
        works.append(_dropped_and_walked(p, model, others) if name in p["models"] else Work(model, copies=others))
        if name in p["mixtures"]:
            works.append(_mixture_work(p, model, others))
    return StudyWork(tuple(works), "mixtures with fewer experts count as whole ones")


def _mixture_work(p: Parameters, model: ModelId, others: int) -> Work:
    """C47: nothing for a model without enough experts; beside it the one with fewer, and its copy that is pruned."""
    choices, shape = read_declared(STEM, ["choices"], p)["choices"], (p["n_calibration"], p["seq_len"])
    n_arms = 1 + len(choices) * len(p["n_experts"])  # weights alone first
    requests = [make_request(METHOD, sparsity, None, "unstructured", False, 0, {}) for sparsity in p["sparsities"]]
    windows = Windows((split_pair(p["text"])[1],), p["n_items"], p["seq_len"], p["seed"])
    return Work(
        model, loads=0, copies=others + 2, n_experts=max(p["n_experts"]) + 1, files=n_arms * p["n_draws"],
        singles=tuple(Single(request, shape, n_arms * p["n_draws"]) for request in requests),
        passes=(Pass(windows, 1 + n_arms * p["n_draws"] * len(requests), evaluates=True),),
        made=tuple(Made(choice, n, shape, p["n_draws"]) for choice in choices for n in p["n_experts"]),
    )  # fmt: skip


def _dropped_and_walked(p: Parameters, model: ModelId, others: int) -> Work:
    """C49 and R01."""
    walked = [
        AlongPaths(Items((task,), p["n_path_items"], p["seed"]), p["n_paths"], draw)
        for task in p["path_tasks"] for draw in range(p["n_path_draws"])
    ]  # fmt: skip
    asked = Items(tuple(dict.fromkeys([*expand_tasks(p["tasks"]), *p["alike"]])), p["n_task_items"], p["seed"])
    shape = (p["n_calibration"], p["seq_len"])
    made = [Made(way, n, shape, reading=asked) for way in WAYS for n in p["n_blocks"]]
    passes = [*(Pass(reading, evaluates=True) for reading in walked), Pass(asked, evaluates=True)]
    return Work(model, passes=tuple(passes), made=tuple(made), copies=others, files=len(passes) + len(made))
