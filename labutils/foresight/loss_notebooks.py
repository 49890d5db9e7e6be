"""What notebooks 00 to 03 and 10 will do, from their parameters: each function follows its notebook cell by cell."""

from collections.abc import Sequence

from labutils.data.sources import split_pair
from labutils.foresight.readings import Items, Windows
from labutils.foresight.work import (
    Parameters,
    Pass,
    Single,
    StudyWork,
    Sweep,
    Training,
    Work,
    draws_of,
    model_of,
    requests_of,
)
from labutils.pruning.allocations import AdaptiveOwl
from labutils.pruning.requests import make_request
from labutils.sweeps.domain_scores import MIXTURES

TUNING_BATCH = 8  # sequences of a step of `tune_lora`
CLAIMED = 0.5  # the sparsity at which notebook 12 judges scores
UNSEEN = ("lab-llama-general", "lab-opt")  # on which nothing in notebook 12 was chosen
TRIED_MIXTURES: tuple[tuple[str, dict], ...] = (
    ("d-pruner", {}), ("gaprune", {}), ("d-pruner", {"general_strength": 1e3}), ("d-pruner", {"general_strength": 1e7}),
    ("gaprune", {"normalise": True}),
)  # fmt: skip
# Of the weights: plain, compact (about half), dense, and pruned from disk to disk.
SAVED_FORMS = 3.5


def loss_sweeps(
    parameters: Parameters, texts: Sequence[str], arms: Sequence[str], sparsities: Sequence[float],
    n_calibration: int, **options: object,
) -> list[Sweep]:  # fmt: skip
    """What `lab.sweep` does: for each calibration text, its prunings, read on all texts that it is paired with."""
    evaluations: dict[str, list[str]] = {}
    for pair in texts:
        calibration, evaluation = split_pair(pair)
        evaluations.setdefault(calibration, []).append(evaluation)
    n_items, seq_len, seed = (parameters[name] for name in ("n_items", "seq_len", "seed"))
    requests = requests_of(arms, sparsities, **options)
    return [
        Sweep(
            requests,
            draws_of(calibration, n_calibration, seq_len, parameters["n_draws"]),
            Windows(tuple(sources), n_items, seq_len, seed),
        )
        for calibration, sources in evaluations.items()
    ]


def _once(parameters: Parameters, sources: Sequence[str]) -> Windows:
    """The test windows of some texts, each source once."""
    return Windows(tuple(dict.fromkeys(sources)), *(parameters[name] for name in ("n_items", "seq_len", "seed")))


def _evaluated(texts: Sequence[str]) -> list[str]:
    return [split_pair(pair)[1] for pair in texts]


def plan_tour(parameters: Parameters) -> StudyWork:
    """00: one pruning, a small sweep, and a pruning of a second model, if there is one."""
    p = parameters
    shape = (p["n_calibration"], p["seq_len"])
    one = Single(_request(p["method"], p["sparsity"]), shape)
    windows = _once(p, [p["source"]])
    items = [Pass(Items((p["task"],), p["n_items"], p["seed"]), 2)] if p["task"] else []
    arms = ["magnitude/uniform", "wanda/uniform"]
    sweeps = loss_sweeps(p, [p["source"]], arms, [p["sparsity"]], p["n_calibration"])
    first = Work(model_of(p), tuple(sweeps), (one,), (Pass(windows, 2), *items), copies=1)
    if p["second_model"] is None:
        return StudyWork((first,))
    second = Work(model_of(p, p["second_model"])._replace(revision=None), (), (one,), (Pass(windows, 2),), copies=2)
    return StudyWork((first, second))


def plan_layerwise(parameters: Parameters) -> StudyWork:
    """01: models × scores × allocations × sparsities."""
    p = parameters
    rules = dict.fromkeys(["uniform", p["non_uniform"], *p["allocations"]])
    arms = [f"{score}/{rule}" for score in p["scores"] for rule in rules]
    arms = list(dict.fromkeys([*arms, "magnitude/uniform", "magnitude/global", "magnitude/global-raw"]))
    check = Pass(_once(p, _evaluated(p["texts"])))
    calibrated = split_pair(p["texts"][0])[0]
    spread = Pass(Windows((calibrated,), p["n_calibration"], p["seq_len"], 0))  # one pass over a calibration draw
    works = []
    for number, name in enumerate(dict.fromkeys(p["models"])):
        sweeps = loss_sweeps(p, p["texts"], arms, p["sparsities"], p["n_calibration"], sequential=p["sequential"])
        passes = (check,) if number else (check, spread)
        others = min(number, 1)  # the first model stays in memory; the others are loaded twice
        works.append(Work(model_of(p, name), tuple(sweeps), (), passes, loads=1 + others, copies=others))
    return StudyWork(tuple(works))


def plan_strategy(parameters: Parameters) -> StudyWork:
    """02: methods × sparsities, N:M patterns, and two methods by the number of calibration sequences."""
    p = parameters
    arms = [f"{method}/uniform" for method in p["methods"]]
    arms += [f"{method}/uniform/{pattern}" for method in ("wanda", "ria", "sparsegpt") for pattern in p["patterns"]]
    options = {"sequential": p["sequential"]}
    sweeps = loss_sweeps(p, p["texts"], arms, p["sparsities"], p["n_calibration"], **options)
    orders = ["wanda/uniform", "ria/uniform", "sparsegpt/uniform"]  # pruned in both orders of work at one sparsity
    for way in (False, True):
        sweeps += loss_sweeps(p, p["texts"], orders, [p["protocol_sparsity"]], p["n_calibration"], sequential=way)
    for count in p["n_sequences"]:
        sweeps += loss_sweeps(p, p["texts"], ["ria/uniform", "sparsegpt/uniform"], [0.5], count, **options)
    return StudyWork((Work(model_of(p), tuple(sweeps), (), (Pass(_once(p, _evaluated(p["texts"]))),)),))


def plan_optiprune(parameters: Parameters) -> StudyWork:
    """03: OptiPrune and its components, on all texts with the first model and on the first text with the others."""
    p = parameters
    all_texts = [*p["registers"], *p["languages"]]
    works = []
    for number, name in enumerate(dict.fromkeys([*p["models"], *p["held_out"]])):
        texts = all_texts if number == 0 else all_texts[:1]
        judged = name in p["models"]
        sweeps, check = _optiprune_sweeps(p, texts, judged=judged), Pass(_once(p, _evaluated(texts)))
        passes, singles = (check,), ()
        if number == 0:  # one choice that is shown; `pruning_costs`, on copies: a first one not measured, then rounds
            shape, rounds = (p["n_calibration"], p["seq_len"]), p["n_repeats"]
            timed = {"sparsegpt": 1 + rounds, "optiprune-auto": rounds}
            singles = tuple(Single(_request(method, 0.5), shape, times) for method, times in timed.items())
            singles += (Single(_request("optiprune-auto", p["shown_sparsity"]), shape),)
            passes = (check, Pass(Windows((split_pair(all_texts[0])[0],), p["n_calibration"], p["seq_len"], 0)))
        # The first model stays in memory; the others are loaded for the checks, the sweeps, and other deviations.
        loads = 1 if number == 0 else 2 + judged
        works.append(Work(model_of(p, name), tuple(sweeps), singles, passes, loads=loads, copies=1))
    return StudyWork(tuple(works))


def _optiprune_sweeps(p: Parameters, texts: Sequence[str], *, judged: bool) -> list[Sweep]:
    """All arms, and of models that are judged OptiPrune with other deviations, on the first text."""
    options = {"sequential": p["sequential"]}
    arms = [*p["components"], "optiprune", "optiprune-auto"]
    sweeps = loss_sweeps(p, texts, arms, p["sparsities"], p["n_calibration"], **options)
    late = [sparsity for sparsity in p["sparsities"] if sparsity > AdaptiveOwl.lambda_low]
    for size in p["largest_deviations"] if judged and late else ():
        sweeps += loss_sweeps(p, texts[:1], ["optiprune"], late, p["n_calibration"], lambda_max=size, **options)
    return sweeps


def plan_best_possible(parameters: Parameters) -> StudyWork:
    """12: masks × reconstructions, the claims' own methods, other settings of them, SparseLLM, timed prunings."""
    p = parameters
    crossed = [mask if step == "none" else f"{mask}+{step}" for mask in p["masks"] for step in p["steps"]]
    methods = list(dict.fromkeys([*crossed, *p["others"]]))
    forms = ["uniform", *(f"uniform/{pattern}" for pattern in p["patterns"])]
    judged = dict.fromkeys(["magnitude", "wanda", "sparsegpt", "gblm", "pruner-zero", *p["regional"]])
    own = {"batch_size": p["batch_size"]}
    swept = [([f"{method}/{form}" for form in forms for method in methods], p["sparsities"], own),
             ([f"{method}/uniform" for method in judged], [CLAIMED], own),
             (["sparsegpt/uniform", "sparsellm/uniform"], p["concert_sparsities"], own)]  # fmt: skip
    more = ["gblm/uniform", "rgs/uniform"]
    swept += [(more, [CLAIMED], {**own, "alpha": alpha}) for alpha in p["alphas"]]
    layers = Windows((split_pair(p["texts"][0])[0],), p["n_calibration"], p["seq_len"], 0)
    shape, works = (p["n_calibration"], p["seq_len"]), []
    for number, name in enumerate(p["models"]):
        sweeps = []
        for arms, sparsities, options in swept:
            sweeps += loss_sweeps(p, p["texts"], arms, sparsities, p["n_calibration"], **options)
        sweeps += _mixture_sweeps(p) if p["domain"] else []
        singles = ()
        if number == 0:  # `pruning_costs`, a first one not measured, `weight_movement` and `mask_differences`
            shown = [each for each in methods if each in (*p["masks"], *p["others"]) or each.startswith("wanda+")]
            times = [
                (method, p["n_repeats"] + (place == 0), max(p["sparsities"])) for place, method in enumerate(shown)
            ]
            times += [("rgs", 1, CLAIMED), ("rgs+regional", 1, CLAIMED)]
            times += [(method, 3 if method == "d-pruner" else 2, CLAIMED) for method in MIXTURES if p["domain"]]
            singles = tuple(
                Single(_request(method, sparsity, **own), shape, count) for method, count, sparsity in times
            )
        passes = (Pass(_once(p, _evaluated(p["texts"]))), Pass(layers, 3 * p["n_layer_draws"] + 3))
        works.append(Work(model_of(p, name), tuple(sweeps), singles, passes, loads=1 if number == 0 else 8, copies=1))
    for name in UNSEEN if p["models"][0].startswith("lab-") else ():  # what `optiprune-auto` might prune with
        arms = ["sparsegpt/uniform", *(f"{method}/measured" for method in ("sparsegpt", "wanda+ls", "admm", "alps"))]
        fewer = {**p, "n_draws": min(p["n_draws"], len(p["models"]))}
        sweeps = loss_sweeps(
            fewer, ["lab:narrative", "lab:review"], arms, [max(p["sparsities"])], p["n_calibration"], **own
        )  # fmt: skip
        works.append(Work(model_of(p, name), tuple(sweeps), (), (), loads=1, copies=1))
    return StudyWork(tuple(works), rough="layers by themselves are not in it")


def _mixture_sweeps(p: Parameters) -> list[Sweep]:
    """Scores of two texts, and of either alone; those of both are counted as prunings on the domain's text."""
    general, found = split_pair(p["texts"][0])[0], []
    for method, options in TRIED_MIXTURES:
        (other, without), alone = MIXTURES[method].general, MIXTURES[method].alone
        for text, own, given in (
            (p["domain"], method, options),
            (p["domain"], method, {**options, **alone}),
            (general, other, {**(options if other == method else {}), **without}),
        ):
            texts = [f"{text} → {read}" for read in (p["domain"], general)]
            given = {**given, "batch_size": p["batch_size"]}
            found += loss_sweeps(p, texts, [f"{own}/uniform"], [CLAIMED], p["n_calibration"], **given)
    return found


def plan_any_model(parameters: Parameters) -> StudyWork:
    """10: prune, check, save, prune from disk to disk, tune."""
    p = parameters
    prunings = Single(_request(p["method"], p["sparsity"]), (p["n_calibration"], p["seq_len"]), 2)
    calibration = Windows((p["source"],), p["n_calibration"], p["seq_len"], p["seed"])
    passes = [
        Pass(_once(p, [p["source"]]), 4),  # checked; dense, pruned and tuned
        Pass(calibration, 2),  # the saved model's losses beside those in memory
    ]
    if p["task"]:  # three models, scored here and from outside, which reads every choice with its prompt
        passes.append(Pass(Items((p["task"],), p["n_items"], p["seed"]), 9))
    tuned = Training(p["tuning_steps"], TUNING_BATCH, p["seq_len"], "adapters", in_parts=True)
    # Beside the model: pruned, loaded from its folder, pruned from disk to disk, tuned.
    work = Work(
        model_of(p), (), (prunings,), tuple(passes), loads=4, copies=4, saved=SAVED_FORMS, trainings=(tuned,)
    )  # fmt: skip
    return StudyWork((work,), rough="tuning and the check from outside are rough")


def _request(method: str, sparsity: float, **options: object):
    return make_request(method, sparsity, None, "unstructured", False, 0, options)
