"""What notebook 14 will do, from its parameters and the arms that it declares: prunings, trainings, readings."""

from collections import Counter
from collections.abc import Iterable, Sequence

from labutils.foresight.declared import read_declared
from labutils.foresight.readings import Items, Reading, Rows, Windows, Written
from labutils.foresight.work import Made, Parameters, Pass, Single, StudyWork, Training, Work, model_of
from labutils.pruning.requests import make_request
from labutils.recovery.data_scores import SHARES, random_name
from labutils.recovery.draws import RecoverySizes
from labutils.recovery.places import LORA
from labutils.recovery.stages import OWN, PENALTY, Stage, parse_arm, way_of
from labutils.recovery.study import prunes
from labutils.sweeps.tasks import expand_tasks

STEM = "14_what_heals"
MORE = 2  # rates beyond the grid that a search tries on average; at most four
POOL_ARMS = ("all", *SHARES, *(random_name(share) for share in sorted(set(SHARES.values()))))
LARGE_BATCH, LARGE_LENGTH = 16, 128  # of the models that are trained from scratch
LARGE_SEEDS = 3
Job = tuple[str, float]  # an arm, and its sparsity


def plan_healing(parameters: Parameters) -> StudyWork:
    """14: rates, the sweep, choices of data, masks of tasks, large against small."""
    p = dict(parameters)
    p |= read_declared(STEM, ["to_try", "plans", "highest", "n_training", "prompt_len"], p)
    jobs = [(arm, sparsity) for arms, grid in p["plans"] for arm, sparsity in jobs_of(arms, grid)]
    trials = [(way, n) for way, n in count_trials(p).items() if n]
    own = "own" if any(stage.data == OWN for arm, _ in jobs for stage in parse_arm(arm)) else ""
    works = []
    for number, name in enumerate(p["models"]):
        parts = [_trial_work(p, trials), _sweep_work(p, p["plans"], p["n_draws"])]
        if number == 0:
            parts += [_data_work(p)] if p["pool"] and p["reference"] else []
            parts += [_mask_work(p), _sized_work(p)]
        parts += [_written_work(p)] if own else []
        parts += [_checked_work(p)]
        works.append(_joined(model_of(p, name), len(p["models"]), parts))
    n_least, n_most = (sum(count_trials(p, more).values()) * len(p["models"]) for more in (0, 4))
    searched = f"{n_least} to {n_most} trainings search for rates, about half of what is between is counted; "
    told = searched if n_most else ""
    return StudyWork(tuple(works), f"{told}at most: tasks at chance are left out; time to a factor of about two")


def jobs_of(arms: Iterable[str], sparsities: Sequence[float]) -> list[Job]:
    """The arms of a sweep with their sparsities; one that prunes nothing has 0.

    >>> jobs_of(["wanda → lora", "lora"], [0.5])
    [('wanda → lora', 0.5), ('lora', 0.0)]
    """
    return [(arm, sparsity) for arm in arms for sparsity in (sparsities if prunes(arm) else [0.0])]


def count_trials(p: Parameters, more: int = MORE) -> Counter:
    """Way and sparsity → how many trainings search for its rate: none where one rate is given."""
    found: Counter = Counter()
    for arm, sparsities in p["to_try"].items():
        for way, sparsity in jobs_of([way_of(arm)], sparsities):
            stages = parse_arm(way)
            if not any(stage.trains for stage in stages) or len(p["rates"]) == 1:
                continue
            count = len(p["rates"]) + more
            if any(stage.kind == PENALTY for stage in stages) and len(p["strengths"]) > 1:
                count = (len(p["rates"]) + more // 2) * (len(p["strengths"]) + more // 2)
            found[way, sparsity] = count
    return found


def stages_done(jobs: Iterable[Job], times: int = 1) -> tuple[Counter, Counter]:
    """Prunings and trainings of one draw, by stage and sparsity: a first pruning is shared, a later one is not.

    >>> stages_done([("wanda", 0.5), ("wanda → lora", 0.5)])[0].total()
    1
    """
    pruned, others = Counter(), Counter()
    for arm, sparsity in jobs:
        for number, stage in enumerate(parse_arm(arm)):
            if stage.prunes and stage.kind != "gradual":
                if number == 0:
                    pruned[stage, sparsity] = 1
                else:
                    pruned[stage, sparsity] += times
            else:
                others[stage, sparsity] += times
    return pruned, others


def _work_of(p: Parameters, pruned: Counter, others: Counter, n_draws: int) -> Work:
    """What stages of each draw take."""
    shape, singles, made, passes, trainings = (p["n_calibration"], p["seq_len"]), [], [], [], []
    for (stage, sparsity), count in pruned.items():
        if stage.kind == "remove":
            arm = f"choose {stage.name}"
            made.append(Made(arm, sparsity, shape, count * n_draws))
        else:
            request = make_request(stage.name, sparsity, None, "unstructured", False, 0, {})
            singles.append(Single(request, shape, count * n_draws))
    for (stage, _), count in others.items():
        if (
            stage.kind == "reestimate"
        ):  # of both models a part of a pass, about half, for each of some two norms a block
            passes.append(Pass(Rows(*shape), 2 * count * n_draws, each_block=True))
        else:
            trainings.append(_training(p, stage, count * n_draws))
    return Work(model_of(p, p["models"][0]), (), tuple(singles), tuple(passes), made=tuple(made),
                trainings=tuple(trainings))  # fmt: skip


def _training(p: Parameters, stage: Stage, times: int) -> Training:
    few = stage.kind == "train" and "all" not in stage.name.split("+")
    part = ("adapters" if LORA in stage.name.split("+") else "few") if few else "all"
    taught, rows = stage.goal == "logits", RecoverySizes().batch_size
    masked = stage.kind == "gradual"
    return Training(p["steps"], rows, p["seq_len"], part, times, taught, in_parts=True, masked=masked)


def _trial_work(p: Parameters, trials: Sequence[tuple[Job, int]]) -> Work:
    pruned, others = Counter(), Counter()
    for job, count in trials:
        one, more = stages_done([job], count)
        pruned |= one  # a first pruning is held for all trials of its ways
        others += more
    work = _work_of(p, pruned, others, 1)
    n_read = sum(count for _, count in trials)
    held_out = Windows((p["text"],), p["n_items"], p["seq_len"], p["seed"])
    return _with(work, [Pass(held_out, n_read, evaluates=True)] if n_read else [], n_read)


def _sweep_work(p: Parameters, plans: Sequence[tuple[Sequence[str], Sequence[float]]], n_draws: int) -> Work:
    """Every plan is a sweep of its own, which holds no pruning of another; rows that are kept are read once."""
    pruned, others, seen = Counter(), Counter(), set()
    for arms, grid in plans:
        jobs = [job for job in dict.fromkeys(jobs_of(arms, grid)) if job not in seen]
        seen |= set(jobs)
        one, more = stages_done(jobs)
        pruned, others = pruned + one, others + more
    n_read = len(seen) * n_draws
    return _with(_work_of(p, pruned, others, n_draws), _readings(p, n_read), n_read)


def _readings(p: Parameters, times: int, *, tasks_only: bool = False) -> list[Pass]:
    """One evaluation: both texts, own continuations, all tasks."""
    tasks = tuple(expand_tasks(p["tasks"]))
    scored = Pass(Items(tasks, p["n_task_items"], p["seed"]), times, evaluates=tasks_only)
    if tasks_only:
        return [scored]
    texts = Windows((p["text"], p["other_text"]), p["n_items"], p["seq_len"], p["seed"])
    own = Windows((p["text"],), p["n_items"], p["seq_len"], p["seed"])  # as many tokens as what was written
    return [Pass(texts, times, evaluates=True), Pass(own, times), scored]


def _checked_work(p: Parameters) -> Work:
    """The dense model: checked, and read once for all sweeps; it writes what it is read on."""
    written = Pass(Written(p["n_items"], p["prompt_len"], p["seq_len"] - p["prompt_len"]))
    return _with(Work(model_of(p, p["models"][0])), [written, *_readings(p, 2)], 1)


def _written_work(p: Parameters) -> Work:
    """Own continuations of calibration and training sequences, once in every draw."""
    count, new = p["n_calibration"] + p["n_training"], p["seq_len"] - p["prompt_len"]
    written = Pass(Written(count, p["prompt_len"], new), p["n_draws"])  # rates are searched for on the text alone
    return Work(model_of(p, p["models"][0]), (), (), (written,))


def _data_work(p: Parameters) -> Work:
    """The pool is scored by two models and compared before and behind a pruning; then all choices heal the first."""
    n, arms = p["n_data_draws"], [f"wanda → lora@{name}" for name in POOL_ARMS]
    pruned, others = stages_done(jobs_of(["wanda", *arms], [p["highest"]]))
    work = _work_of(p, pruned, others, n)
    request = make_request("wanda", p["highest"], None, "unstructured", False, 0, {})
    chosen = Single(request, (p["n_calibration"], p["seq_len"]), n)
    small = Training(max(1, p["small_tokens"] // (LARGE_BATCH * LARGE_LENGTH)), LARGE_BATCH, LARGE_LENGTH)
    n_read = len(arms) * n + max(0, n - p["n_draws"])  # Wanda's own rows are kept from the sweep
    pool: Reading = Rows(len(p["pool"]) * p["n_training"], p["seq_len"])
    work = _with(work, [Pass(pool, 4 * n), *_readings(p, n_read)], n_read)
    return Work(work.model, (), (*work.singles, chosen), work.passes, trainings=(*work.trainings, small),
                files=work.files)  # fmt: skip


def _mask_work(p: Parameters) -> Work:
    """Every task's own mask, each read on all tasks."""
    count = len(expand_tasks(p["tasks"])) * p["n_data_draws"]
    request = make_request("wanda", p["highest"], None, "unstructured", False, 0, {})
    single = Single(request, (p["n_calibration"], p["seq_len"]), count)
    passes = _readings(p, count, tasks_only=True)
    return Work(model_of(p, p["models"][0]), (), (single,), tuple(passes), files=p["n_data_draws"])


def _sized_work(p: Parameters) -> Work:
    """The large model, the cut one, and two small ones, from scratch; the small ones counted as if they were large."""
    model = model_of(p, p["models"][0])
    if not p["large_tokens"]:
        return Work(model)
    large, healing = p["large_tokens"], p["large_tokens"] // 4
    steps = [tokens // (LARGE_BATCH * LARGE_LENGTH) for tokens in (large, healing, healing, large + healing)]
    trained = tuple(Training(count, LARGE_BATCH, LARGE_LENGTH, times=LARGE_SEEDS) for count in steps)
    text = Windows((p["text"],), p["n_items"], p["seq_len"], p["seed"])
    return Work(model, (), (), (Pass(text, 5 * LARGE_SEEDS, evaluates=True),), trainings=trained)


def _with(work: Work, passes: Sequence[Pass], files: int) -> Work:
    return Work(work.model, (), work.singles, (*work.passes, *passes), made=work.made, trainings=work.trainings,
                files=work.files + files)  # fmt: skip


def _joined(model: object, n_models: int, parts: Sequence[Work]) -> Work:
    """All of one model; beside it stand the others, the copy that is healed, and the pruning that is held."""
    singles, passes, made, trainings = (
        tuple(each for part in parts for each in getattr(part, name))
        for name in ("singles", "passes", "made", "trainings")
    )
    files = sum(part.files for part in parts)
    return Work(model, (), singles, passes, copies=n_models + 1, made=made, trainings=trainings, files=files)
