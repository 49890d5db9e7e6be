"""The 24 tasks of the controlled language, six in each of four families."""

from collections.abc import Iterator

import pandas as pd

from labutils.world import tasks_inference, tasks_qa, tasks_sentiment, tasks_topic
from labutils.world.documents import check_name
from labutils.world.items import Choice, Pair, TaskSpec
from labutils.world.seeding import Draws, belongs, check_split

TASKS: dict[str, TaskSpec] = {
    spec.name: spec for room in (tasks_sentiment, tasks_qa, tasks_inference, tasks_topic) for spec in room.SPECS
}
PATIENCE = 2000  # items in a row that were all written before: the task has no more


def write_items(task: str, n: int, *, seed: int = 0, split: str = "test") -> pd.DataFrame:
    """Write `n` different items of a task, such as "qa/birthplaces".

    >>> write_items("qa/birthplaces", 100, seed=1)[["prompt", "choices", "gold"]]

    Returns:
        One row per item. Choice tasks: item, prompt, choices (list of str), gold (position of the right choice).
        Similarity tasks: item, sentence1, sentence2, score.

    Raises:
        LookupError: an unknown task.
        ValueError: an unknown split, or more items than the task has.
    """
    check_name("task", task, tuple(TASKS))
    check_split(split)
    seen: dict[str, Choice | Pair] = {}
    repeats = 0
    for item in stream_items(task, seed=seed, split=split):
        if len(seen) >= n:
            break
        repeats = repeats + 1 if _wording(item) in seen else 0
        if repeats > PATIENCE:
            raise ValueError(
                f"task {task!r} has about {len(seen)} different items in split {split!r}; ask for fewer than {n}."
            )
        seen.setdefault(_wording(item), item)
    return _tabulate(list(seen.values()), TASKS[task].kind)


def stream_items(task: str, *, seed: int, split: str) -> Iterator[Choice | Pair]:
    """Items without end; wordings may repeat."""
    spec = TASKS[task]
    draws = Draws(seed, "items", task, split)
    while True:
        item = spec.write(draws, split)
        if spec.splits_by == "entity" or belongs(_wording(item), split):
            yield item


def _wording(item: Choice | Pair) -> str:
    return item.prompt if isinstance(item, Choice) else f"{item.sentence1} {item.sentence2}"


def _tabulate(items: list[Choice | Pair], kind: str) -> pd.DataFrame:
    if kind == "similarity":
        rows = [(item.sentence1, item.sentence2, item.score) for item in items]
        frame = pd.DataFrame(rows, columns=["sentence1", "sentence2", "score"])
    else:
        rows = [(item.prompt, list(item.choices), item.gold) for item in items]
        frame = pd.DataFrame(rows, columns=["prompt", "choices", "gold"])
    frame.insert(0, "item", range(len(frame)))
    return frame
