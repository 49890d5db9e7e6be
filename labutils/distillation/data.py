"""A task as a model with a head reads it: token rows and targets, in three parts that share no item.

Choice tasks whose items draw on one set of answers become classification by the text of the right choice; similarity
tasks become regression on the standardised score of two sentences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from labutils.data.sources import parse_source, split_pair
from labutils.data.tasks import Task, load_task
from labutils.data.tokens import frame_texts, special_frame, text_room, tokenize

MAX_LABELS = 64
KIND = {"choice": "classification", "similarity": "regression"}


@dataclass(frozen=True)
class Examples:
    """Items of one part.

    `rows` are token ids: one row per item, or, for pairs, all first sentences followed by all second ones. `targets`
    are classes (int64) or standardised scores (float32). `items` are positions in the source.
    """

    rows: list[list[int]]
    targets: Int64[Tensor, " items"] | Float[Tensor, " items"]
    items: list[int]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Sequence[int]) -> "Examples":
        """Some of the items, by their positions here."""
        n = len(self)
        rows = [self.rows[start + index] for start in range(0, len(self.rows), n) for index in indices]
        return Examples(rows, self.targets[list(indices)], [self.items[index] for index in indices])


@dataclass(frozen=True)
class Batch:
    """Rows of some items, right-padded. `rows` are their positions in `Examples.rows`, `items` in `Examples.items`."""

    items: list[int]
    rows: list[int]
    ids: Int64[Tensor, "rows tokens"]
    mask: Int64[Tensor, "rows tokens"]
    targets: Int64[Tensor, " items"] | Float[Tensor, " items"]


@dataclass(frozen=True)
class TaskData:
    """A task with its items in tokens.

    Attributes:
        name: source of the test items.
        training: source of the items for training and validation.
        kind: "classification" or "regression".
        labels: the answers of a classification, in alphabetical order; empty for a regression.
        padding: the token id that fills up batches.
        train, validation, test: the three parts, which share no item.
    """

    name: str
    training: str
    kind: str
    labels: tuple[str, ...]
    padding: int
    train: Examples
    validation: Examples
    test: Examples

    @property
    def n_outputs(self) -> int:
        """Outputs of a head for this task: one per label, or one number."""
        return len(self.labels) or 1

    @property
    def chance(self) -> float:
        """The score of knowing nothing: the share of the commonest test label, or a correlation of zero."""
        if self.kind == "regression":
            return 0.0
        return self.test.targets.bincount().max().item() / len(self.test)


def load_task_data(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_train: int,
    n_validation: int,
    n_test: int,
    max_length: int = 128,
    seed: int = 0,
    revision: str | None = None,
) -> TaskData:
    """The items of a task, ready for training and evaluation.

    >>> task = load_task_data("lab:topic/stories", tokenizer, n_train=200, n_validation=100, n_test=300)

    Args:
        source: as for `load_task`, or "training source → test source" for a task in two files.
        n_train, n_validation: items of the train split; training with more items keeps the ones it had before.
        n_test: items of the test split.
        max_length: tokens per row; a prompt loses its beginning, a sentence of a pair its end.
        seed: decides which items.

    Raises:
        ValueError: a task that is no classification (each item has answers of its own), a test label that the train
            split lacks, scores that are all equal, too few items, or one file that is all train and all test.
        LookupError: the source cannot be found.
    """
    training, testing = split_pair(source)
    if training == testing and parse_source(training).part:
        raise ValueError(
            f"{source}: the same items would train and test; leave out the part behind '#', or name two sources with →"
        )
    options = {"seed": seed, "revision": revision}
    known = load_task(training, n_items=n_validation + n_train, split="train", **options)
    asked = load_task(testing, n_items=n_test, split="test", **options)
    if known.kind != asked.kind:
        raise ValueError(f"{source}: trains on a {known.kind} task and tests on a {asked.kind} task; name one kind")
    labels = _label_names(known) if known.kind == "choice" else ()
    read = _ScaledTargets(known, labels)
    taught, test = (
        Examples(_encode(task, tokenizer, max_length), read(task), task.items["item"].tolist())
        for task in (known, asked)
    )
    validation, train = taught.take(range(n_validation)), taught.take(range(n_validation, len(taught)))
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0  # any id serves: the mask hides it
    return TaskData(asked.name, training, KIND[known.kind], labels, padding, train, validation, test)


def make_batch(data: TaskData, examples: Examples, items: Sequence[int], device: torch.device) -> Batch:
    """The rows of some items, padded to the longest of them."""
    rows = [start + item for start in range(0, len(examples.rows), len(examples)) for item in items]
    longest = max(len(examples.rows[row]) for row in rows)
    ids = torch.full((len(rows), longest), data.padding, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for position, row in enumerate(rows):
        length = len(examples.rows[row])
        ids[position, :length] = torch.tensor(examples.rows[row])
        mask[position, :length] = 1
    return Batch(list(items), rows, ids.to(device), mask.to(device), examples.targets[list(items)].to(device))


def iterate_batches(
    data: TaskData, examples: Examples, order: Sequence[int], batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Batches of items in a given order; the last may be smaller."""
    for start in range(0, len(order), batch_size):
        yield make_batch(data, examples, order[start : start + batch_size], device)


class _ScaledTargets:
    """From items to targets: classes, or scores in standard deviations from the mean of the training items."""

    def __init__(self, training: Task, labels: tuple[str, ...]) -> None:
        self.labels = labels
        if training.kind == "similarity":
            scores = training.items["score"].to_numpy(dtype=float)
            self.centre, self.spread = scores.mean(), scores.std()
            if self.spread == 0:
                raise ValueError(f"{training.name}: all training scores are {self.centre}; there is nothing to learn")

    def __call__(self, task: Task) -> Tensor:
        if task.kind == "similarity":
            scores = task.items["score"].to_numpy(dtype=float)
            return torch.from_numpy(((scores - self.centre) / self.spread).astype(np.float32))
        answers = _answers(task)
        if unknown := sorted(set(answers) - set(self.labels)):
            raise ValueError(
                f"{task.name}: no training item has the answer {unknown[0]!r}; train on more items, or on a task "
                "whose items draw on one set of answers"
            )
        return torch.tensor([self.labels.index(answer) for answer in answers])


def _answers(task: Task) -> list[str]:
    return [choices[gold] for choices, gold in zip(task.items["choices"], task.items["gold"], strict=True)]


def _label_names(task: Task) -> tuple[str, ...]:
    labels = tuple(sorted(set(_answers(task))))
    if not 2 <= len(labels) <= MAX_LABELS:
        raise ValueError(
            f"{task.name} has {len(labels)} different right answers among {len(task.items)} training items; a "
            f"classification head needs 2 to {MAX_LABELS}"
        )
    return labels


def _encode(task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[list[int]]:
    room = text_room(tokenizer, max_length)
    if room < 1:
        raise ValueError(f"max_length={max_length} leaves no room for text beside the special tokens")
    if task.kind == "choice":
        prefix, suffix = special_frame(tokenizer)
        return [prefix + body[-room:] + suffix for body in tokenize(tokenizer, task.items["prompt"].tolist())]
    return frame_texts(tokenizer, [*task.items["sentence1"], *task.items["sentence2"]], max_length)[0]
