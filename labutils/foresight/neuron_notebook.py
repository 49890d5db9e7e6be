"""What notebooks 05 and 05b will do, from their parameters, cell by cell.

Their prunings are counted; what they read beside them is counted in tokens, for the concepts and words that their texts
hold.
"""

from labutils import world
from labutils.data.words import read_concepts
from labutils.foresight.readings import Items, Passages, Texts, TextsAbout, WordsLeftOut
from labutils.foresight.task_notebook import CHOSEN, task_sweep
from labutils.foresight.work import (
    Draw,
    Parameters,
    Pass,
    Single,
    StudyWork,
    Sweep,
    Work,
    draws_of,
    model_of,
    requests_of,
)
from labutils.sweeps.tasks import expand_tasks

COVERED_FROM, POOL = 100, 8  # seeds of the pools that `covering_calibration` chooses from, and their size
HURT, AMOUNTS = 5, 4  # texts that neurons are brought back on, and how many numbers of neurons are
POINTS = 33  # of a path, where it bends about as much as those of small models; it may take up to `n_steps`
REFERENCE_POINTS = 200  # of captum's path


def plan_neurons(parameters: Parameters) -> StudyWork:
    """05: words and their neurons, planted and real, ablations and attributions."""
    p = parameters
    works = [Work(model_of(p), (), (), (*_words(p), *_ablations(p), *_attributions(p)), copies=2)]
    if p["second_model"]:
        second = model_of(p, p["second_model"])._replace(revision=None, dtype="auto")
        works.append(Work(second, (), (), (Pass(_texts(p, "train")),)))
    return StudyWork(tuple(works), "words, ablations and attributions to a factor of about two")


def plan_meanings(parameters: Parameters) -> StudyWork:
    """05b: influential words, and what pruning does to concepts and tasks."""
    p = parameters
    checks = (Pass(_items(p, p["n_checked"])), Pass(WordsLeftOut(_items(p, p["n_influence"]), min_count=5)))
    work = Work(model_of(p), tuple(_sweeps(p)), (_closely(p),), (*checks, *_pruned(p)), copies=2)
    return StudyWork((work,), "words to a factor of about two")


def _texts(p: Parameters, split: str, step: int = 1) -> Texts:
    return Texts(tuple(p["sources"]), p["n_texts"], split, p["seed"], step)


def _items(p: Parameters, n_each: int, about: str = "") -> Items:
    return Items(tuple(expand_tasks(p["tasks"])), n_each, p["seed"], about=about)


def _sweeps(p: Parameters) -> list[Sweep]:
    """Concepts and tasks over draws × methods × sparsities, and covering calibration."""
    shape, n_draws, last = (p["n_calibration"], p["seq_len"]), p["n_draws"], p["sparsities"][-1]
    draws = draws_of(p["calibration"], *shape, n_draws)
    requests = requests_of(p["methods"], p["sparsities"])
    with_words = _items(p, p["n_items"], about="those with influential words")
    covering = [Draw(f"{arm} pool", *shape, COVERED_FROM + n) for arm in ("even", "covering") for n in range(n_draws)]
    reading_methods = [method for method in p["methods"] if method != "magnitude"]
    return [
        Sweep(requests, draws, _texts(p, "test", 2), kept=False),
        Sweep(requests, draws, with_words, kept=False),  # the prompts, about as long as items with their choices
        task_sweep(draws, with_words, methods=p["methods"], sparsities=p["sparsities"]),
        task_sweep(covering, _items(p, p["n_items"], about=CHOSEN), methods=reading_methods, sparsities=[last]),
    ]


def _closely(p: Parameters) -> Single:
    (request,) = requests_of([p["method"]], p["sparsities"][-1:])
    return Single(request, (p["n_calibration"], p["seq_len"]))


def _words(p: Parameters) -> list[Pass]:
    """Activations on words: matched, planted, and by source."""
    return [
        Pass(_texts(p, "train"), 4),  # concepts, all words, stability on everything, and on every source
        Pass(_texts(p, "test"), 2),  # planted neurons, stability
        Pass(_texts(p, "train", 8), each_block=True),  # neurons are planted block after block
    ]


def _ablations(p: Parameters) -> list[Pass]:
    """The model as it is, with the chosen neurons off, and with random ones off."""
    times = 2 + p["n_random"]
    concepts, shown = _concepts(p)
    testing = _texts(p, "test")
    domains = Items((p["attributed"], p["elsewhere"]), p["n_ablated"], p["seed"])
    return [
        Pass(TextsAbout(testing, concepts, p["n_about"]), times),
        Pass(TextsAbout(testing, shown, p["n_about"]), times),
        Pass(domains, 1 + times * len(p["n_attributed"])),
    ]


def _attributions(p: Parameters) -> list[Pass]:
    """Conductance, by gradients at the points of a path: of concepts, of a task, of one short text."""
    _, shown = _concepts(p)
    points = min(p["n_steps"], POINTS)
    task = Passages(Items((p["attributed"],), p["n_about"], p["seed"], split="train"))
    one = Texts(tuple(p["sources"][:1]), 1, "test", p["seed"])
    return [
        Pass(TextsAbout(_texts(p, "test"), shown, p["n_about"], p["n_tokens"]), points, gradients=True),
        Pass(task, points, gradients=True),
        Pass(one, points + REFERENCE_POINTS, gradients=True),
    ]


def _pruned(p: Parameters) -> list[Pass]:
    """One pruned model beside the dense one: words, predictions, neurons brought back."""
    hurt = Texts(tuple(p["sources"][:1]), min(HURT, p["n_texts"]), "test", p["seed"])
    return [
        Pass(_texts(p, "train"), 3),
        Pass(_texts(p, "test"), 2),
        Pass(_texts(p, "test", 2), 2),
        Pass(hurt, 2 + AMOUNTS * (1 + p["n_random"])),
    ]


def _concepts(p: Parameters) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """The words of all concepts, and of those that are shown."""
    known = read_concepts(p["concepts"]) if p["concepts"] else world.CONCEPTS
    shown = [name for name in p["shown"] if name in known] or list(known)[:1]
    return tuple(map(tuple, known.values())), tuple(tuple(known[name]) for name in shown)
