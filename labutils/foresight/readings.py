"""What a model reads, by name, and how many tokens that is: known before it is read."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from labutils.data.corpora import load_texts
from labutils.data.tasks import Task, load_task
from labutils.data.words import Terms, find_words
from labutils.evaluation.choice_tokens import Row, encode_choices, plain_rows
from labutils.smaller.routes import draw_paths
from labutils.sweeps.calibration_sets import task_texts
from labutils.yardsticks.planting import BATCH, planting_windows
from labutils.yardsticks.study import PLANTED


class Reading(ABC):
    """Something that is read in one go; equal readings are the same texts.

    Attributes:
        head: whether the model's head reads every token too, as losses need it, or few or none of them.
    """

    head: ClassVar[bool] = False

    @abstractmethod
    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Tokens that pass through the model; what the loaders raise where a source cannot be read."""

    @property
    def n_items(self) -> int:
        """Rows that a sweep keeps of it; all pairs of a source, whose number only reading tells, count as 1000."""
        return 0

    @property
    def n_read(self) -> int:
        """Models that read it in one go: each path through a model's blocks is one."""
        return 1


@dataclass(frozen=True)
class Windows(Reading):
    """Windows of texts, or the sentence pairs of a similarity source: what `sweep` evaluates on.

    >>> Windows(("lab:review",), 64, 128, seed=0).count_tokens(tokenizer)
    8192
    """

    sources: tuple[str, ...]
    n_each: int | None
    seq_len: int
    seed: int
    head: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.n_each is not None and self.n_each < 1) or self.seq_len < 2:
            raise ValueError(f"n_items={self.n_each}, seq_len={self.seq_len}: at least 1 item of 2 tokens can be read")

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        if self.n_each is None:  # all pairs of sources that hold pairs
            return Items(self.sources, None, self.seed).count_tokens(tokenizer)
        return self.n_items * self.seq_len

    @property
    def n_items(self) -> int:
        return len(self.sources) * (self.n_each or 1000)


@dataclass(frozen=True)
class Items(Reading):
    """Items of tasks, prompts read once with all their choices: what `task_sweep` scores.

    Attributes:
        about: what tells apart two choices of tasks of which the notebook makes the second while it runs.
    """

    tasks: tuple[str, ...]
    n_each: int | None
    seed: int
    split: str = "test"
    about: str = ""

    def load(self) -> list[Task]:
        return [load_task(name, n_items=self.n_each, seed=self.seed, split=self.split) for name in self.tasks]

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return sum(_count(tokenizer, _all_texts(task)) for task in self.load())

    @property
    def n_items(self) -> int:
        return len(self.tasks) * (self.n_each or 1000)


@dataclass(frozen=True)
class Passages(Reading):
    """Items of a task, the prompt with the right answer alone: what is attributed."""

    items: Items

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return sum(_count(tokenizer, task_texts(task)) for task in self.items.load())


@dataclass(frozen=True)
class WordsLeftOut(Reading):
    """Every choice item once, and once without each of its words that `min_count` items of the task hold."""

    items: Items
    min_count: int

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return sum(self._count_task(task, tokenizer) for task in self.items.load() if task.kind == "choice")

    def _count_task(self, task: Task, tokenizer: PreTrainedTokenizerBase) -> int:
        words = [{word for word, _, _ in find_words(prompt)} for prompt in task.items["prompt"]]
        held_by = Counter(word for own in words for word in own)
        # Words of all items belong to the prompt's frame, which stays.
        kept = {word for word, count in held_by.items() if self.min_count <= count < len(words)}
        lengths = [_count(tokenizer, [text]) for text in task_texts(task)]
        return sum(length * (1 + len(own & kept)) for length, own in zip(lengths, words, strict=True))


@dataclass(frozen=True)
class AlongPaths(Reading):
    """Items of a choice task, every choice behind its prompt, read along a model's own path and along others.

    >>> AlongPaths(Items(("lab:qa/birthplaces",), 50, seed=0), n_paths=20, draw=0).count_blocks(6)
    """

    items: Items
    n_paths: int
    draw: int

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Of the rows that enter the blocks."""
        return sum(len(row.ids) for row in self._rows(tokenizer))

    def count_predicted(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Tokens of all choices: what the head reads along each path."""
        return sum(len(row.reads) for row in self._rows(tokenizer))

    def count_blocks(self, n_blocks: int) -> int:
        """How many blocks every row goes through: those at which paths begin alike run once.

        Raises:
            ValueError: more paths than there are through so many blocks.
        """
        paths = [tuple(range(n_blocks)), *draw_paths(n_blocks, self.n_paths, seed=self.draw)]
        return len({path[: end + 1] for path in paths for end in range(len(path))})

    @property
    def n_read(self) -> int:
        return self.n_paths + 1

    def _rows(self, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
        records = [record for task in self.items.load() for record in task.items.to_dict("records")]
        limit = tokenizer.model_max_length
        return [row for record in records for row in plain_rows(encode_choices(tokenizer, record, limit)[0])]


@dataclass(frozen=True)
class Texts(Reading):
    """Every `step`-th of the documents of some sources."""

    sources: tuple[str, ...]
    n_each: int
    split: str
    seed: int
    step: int = 1

    def load(self) -> list[str]:
        named = {"n": self.n_each, "split": self.split, "seed": self.seed}
        return [text for source in self.sources for text in load_texts(source, **named)][:: self.step]

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return _count(tokenizer, self.load())


@dataclass(frozen=True)
class TextsAbout(Reading):
    """For every concept of which enough is told, the first texts that hold its words.

    Attributes:
        concepts: of each, its words.
        n_each: texts per concept; twice as many must be there.
        most: tokens of a text that are read; None reads all.
    """

    texts: Texts
    concepts: tuple[tuple[str, ...], ...]
    n_each: int
    most: int | None = None
    head: ClassVar[bool] = True

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        texts, total = self.texts.load(), 0
        lengths = [len(ids[: self.most]) for ids in tokenizer(texts)["input_ids"]]
        for words in self.concepts:
            terms = Terms(words)
            about = [length for text, length in zip(texts, lengths, strict=True) if terms.find(text)]
            total += sum(about[: self.n_each]) if len(about) >= 2 * self.n_each else 0
        return total


@dataclass(frozen=True)
class Rows(Reading):
    """Rows of known number and about known length, of which few places are predicted."""

    n: int
    length: int

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return self.n * self.length


@dataclass(frozen=True)
class Written(Reading):
    """Texts that the model goes on with, token by token, in batches of `BATCH`; at most so many new tokens."""

    n: int
    prompt_len: int
    n_new: int
    BATCH: ClassVar[int] = 32

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return self.n * (self.prompt_len + self.n_new)

    @property
    def steps(self) -> int:
        """Of writing: each is one token of a batch."""
        return -(-self.n // self.BATCH) * self.n_new


@dataclass(frozen=True)
class PlantedTexts(Reading):
    """What a copy of notebook 09 is taught, in windows that are read once."""

    occurrences: tuple[int, ...]
    n_each: int
    n_reading: int
    seed: int

    def count_batches(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return sum(-(-len(windows) // BATCH) for windows, _ in self._stages(tokenizer))

    def count_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return sum(windows.numel() for windows, _ in self._stages(tokenizer))

    def _stages(self, tokenizer: PreTrainedTokenizerBase) -> list:
        sizes = {"n_each": self.n_each, "n_reading": self.n_reading, "n_replayed": self.n_reading // 10}
        asked = {"occurrences": self.occurrences, **sizes, "seed": self.seed}
        return planting_windows(tokenizer, relations=PLANTED, **asked)[1]


def _all_texts(task: Task) -> list[str]:
    """What an item's tokens are: both sentences, or the prompt and all its choices."""
    if task.kind == "similarity":
        return task_texts(task)
    return [" ".join([row.prompt, *row.choices]) for row in task.items.itertuples()]


def _count(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> int:
    return sum(map(len, tokenizer(texts)["input_ids"]))
