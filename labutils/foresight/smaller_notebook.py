"""What notebook 13 will do, from its parameters and the ways that it declares: smaller models, made, read and timed."""

from collections.abc import Sequence

from labutils.data.sources import split_pair
from labutils.foresight.declared import read_declared
from labutils.foresight.readings import Items, Windows, Written
from labutils.foresight.work import Made, Parameters, Pass, StudyWork, Work, model_of

STEM = "13_smaller_for_real"
LONGEST = "angular"  # how blocks are dropped up to half of them
TIMED_TOKENS = 16  # that are written for the times


def plan_smaller(parameters: Parameters) -> StudyWork:
    """13: models × ways × sizes × draws, questions after dropping, four yardsticks by block, times."""
    p = parameters
    declared = read_declared(STEM, ["families", "ways", "arms_37", "arms_11"], p)
    arms, ways = sum(declared["families"].values(), []), declared["ways"].values()
    shape = (p["n_calibration"], p["seq_len"])
    windows = Windows((split_pair(p["text"])[1],), p["n_items"], p["seq_len"], p["seed"])
    asked = [Items((task,), p["n_questions"], p["seed"]) for task in p["question_tasks"]]
    sizes = p["n_blocks"]
    made = [
        Made(arm, n, shape, p["n_draws"], windows, searched=_searched(arms[:at], arms[at:], sizes[:place], n))
        for place, n in enumerate(sizes)
        for at, arm in enumerate(arms)
    ]
    few = [(arm, n) for n in p["perturbed_blocks"] for arm in declared["arms_37"] if arm not in arms or n not in sizes]
    cut = [(arm, share) for share in p["curvature_shares"] for arm in declared["arms_11"]]
    made += [Made(*each, shape, p["n_perturbed_draws"], windows) for each in few]
    made += [Made(*each, shape, p["n_draws"], windows) for each in cut]
    made += [Made(LONGEST, None, shape, p["n_draws"], task) for task in asked]
    in_sweep = tuple(sizes) if LONGEST in arms else ()
    made += [Made(LONGEST, None, shape, p["n_draws"], windows, in_sweep)]  # up to half, how far the loss stays alike
    made += [Made(arm, n, shape) for n in sizes for arm in ways]
    passes = [Pass(windows, 2, evaluates=True), *(Pass(task, evaluates=True) for task in asked)]
    questions = Items((p["yardstick_task"],), p["n_questions"], p["seed"])
    for yardstick in (windows, windows, questions, questions):  # loss, copying, choices, greedy answers
        passes += [Pass(yardstick, evaluates=True), Pass(yardstick, each_block=True, evaluates=True)]
    calibration = Windows((split_pair(p["text"])[0],), *shape, 0)
    passes += [Pass(windows), Pass(calibration, 2)]  # a first reading before copying; cosines and angles
    passes += [Pass(calibration, p["n_draws"], gradients=True)]  # gradients by block
    n_timed = (1 + len(ways)) * len(sizes) * (p["n_repeats"] + 1)
    passes += [Pass(Written(batch, p["prompt_tokens"], TIMED_TOKENS), n_timed) for batch in p["batch_sizes"]]
    others = len(p["models"]) - 1
    files = (len(arms) * len(sizes) + len(cut)) * p["n_draws"] + len(few) * p["n_perturbed_draws"]
    works = [
        Work(model_of(p, name), (), (), tuple(passes), copies=others, made=tuple(made), files=files)
        for name in p["models"]
    ]
    return StudyWork(tuple(works), "ways that a model cannot express count as made; searches to a factor of about two")


def _searched(
    before: Sequence[str], after: Sequence[str], smaller: Sequence[int | float], n: int | float
) -> dict[str, int | float]:
    """To which number of blocks each arm of the sweep has searched when it comes to the first one of `after` at n."""
    reached = max(smaller, default=0)
    return dict.fromkeys(after, reached) | dict.fromkeys(before, max(reached, n))
