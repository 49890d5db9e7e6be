"""What notebook 09 will do, from its parameters: copies that are taught, every arm read by every yardstick."""

from labutils.foresight.readings import Items, PlantedTexts, Reading, Rows, Windows, Written
from labutils.foresight.work import Parameters, Pass, Single, StudyWork, Training, Work, model_of
from labutils.pruning.requests import make_request
from labutils.yardsticks.arms import ArmPlan
from labutils.yardsticks.damage import needs_draws, parse_arm
from labutils.yardsticks.planting import BATCH

ANSWER, CONTINUATION, OPENING = 8, 48, 12  # tokens at most: of an answer, of a continuation, and of its beginning
PROMPT = 24  # about, of a planted fact and its choices
# Choices once alone and once behind a context about as long; the beginnings of both again for answers.
TIMES = 5
WINDOW = 64  # tokens of a window that plants


def plan_yardsticks(parameters: Parameters) -> StudyWork:
    """09: models × copies; arms × draws, each read by every yardstick or on texts alone."""
    p = parameters
    names = ("methods", "sparsities", "pattern", "kinds", "rival", "order_sparsities", "order_kinds", "blocks")
    plan = ArmPlan(*(p[name] for name in names))
    n_read = 1 + sum(_n_runs(arm, p["n_draws"]) for arm in plan.asked)  # the dense model first
    n_texts_only = sum(_n_runs(arm, p["n_draws"]) for arm in plan.texts_only)
    n_copies = max(1, p["n_copies"])
    passes = (
        Pass(Windows(tuple(p["texts"]), p["n_texts"], p["seq_len"], p["seed"]), n_read + n_texts_only, evaluates=True),
        *(Pass(reading, n_read * times) for reading, times in _questions(p)),
        Pass(Items(tuple(p["reasoning"]), p["n_items"], p["seed"]), n_read),
        Pass(Written(p["n_texts"], OPENING, CONTINUATION), n_read),
    )
    singles = tuple(each for arm in plan.every for each in _prunings(arm, p))
    places = p["n_texts"] * len(p["texts"]) * (p["seq_len"] - 1)  # whose likeliest words are kept of the dense model
    works = []
    for number, name in enumerate(p["models"]):
        others = len(p["models"]) * n_copies - 1  # every copy stays in memory; beside it, what an arm changes
        for copy in range(n_copies):
            taught = (_taught(p, p["seed"] + 100 * number + copy),) if p["n_copies"] else ()
            about = {"copies": others + 1, "kept_places": places, "files": n_read - 1 + n_texts_only}
            works.append(Work(model_of(p, name), (), singles, passes, trainings=taught, **about))
    return StudyWork(tuple(works), "answers as long as they may be, in full batches; rounding is not in it")


def _n_runs(arm: str, n_draws: int) -> int:
    return n_draws if needs_draws(parse_arm(arm)) else 1


def _questions(p: Parameters) -> list[tuple[Reading, int]]:
    """What is asked, with how often it passes through the model for one reading by every yardstick."""
    if p["n_copies"]:
        count = len(p["occurrences"]) * p["n_each"]
        return [(Rows(count, PROMPT), TIMES), (Written(count, 1, ANSWER), 2)]
    asked = Items(tuple(p["tasks"]), p["n_items"], p["seed"])
    return [(asked, TIMES), (Written(len(p["tasks"]) * p["n_items"], 1, ANSWER), 2)]


def _prunings(arm: str, p: Parameters) -> list[Single]:
    shape, times = (p["n_calibration"], p["seq_len"]), _n_runs(arm, p["n_draws"])
    return [
        Single(make_request(step.name, step.amount, None, step.pattern, False, 0, {}), shape, times)
        for step in parse_arm(arm)
        if step.prunes
    ]


def _taught(p: Parameters, seed: int) -> Training:
    texts = PlantedTexts(tuple(p["occurrences"]), p["n_each"], p["n_reading"], seed)
    return Training(texts, BATCH, WINDOW)
