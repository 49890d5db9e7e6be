"""Step 1: which words the answers hang on. Leave each word out, and see how much less likely the right answer gets.

I(w) = mean over the items that contain w of log p(gold | x) − log p(gold | x without w), in nats, where p(gold | x) is
the model's probability of the right choice, all its tokens together, after the prompt x. Influential-word selection is
the first step of Neuron Semantic Attribution (arXiv 2503.01542); the formula is this project's own reading of it.
"""

from collections.abc import Sequence
from os.path import commonprefix
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.passages import Passage, gold_passage, passage_log_likelihoods
from labutils.attribution.words import encode_texts
from labutils.core.progress import progress
from labutils.data.tasks import Task
from labutils.data.tokens import special_frame
from labutils.data.words import find_words
from labutils.evaluation.batching import context_length
from labutils.models.structure import check_causal

LEVEL = 0.95
COLUMNS = ["word", "influence", "low", "high", "count"]


def influential_words(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    top_k: int = 50,
    min_count: int = 5,
    batch_size: int = 32,
) -> pd.DataFrame:
    """The words of a choice task whose absence costs the right answer most.

        lab.influential_words(model, tokenizer, lab.load_task("lab:sentiment/products"), top_k=20)

    All occurrences of a word in an item go at once, each with the blanks before it. The words of the prompt's frame
    ("Review:", "Sentiment:") stay: see `frame_of`. Of a prompt longer than the context only the end is read, and only
    its words count.

    Args:
        top_k: how many words, the most influential first.
        min_count: items that must contain a word for it to be listed.
        batch_size: prompts per forward pass; speed and memory only.

    Returns:
        one row per word: ``word`` (in lower case), ``influence`` (nats), ``low`` and ``high`` (95 % interval of the
        mean over items, Student's t; NaN for a single item), ``count`` (items that contain it).
        ``attrs["truncated_prompts"]`` counts the items whose prompt lost its beginning.

    Raises:
        ValueError: a similarity task, an encoder, `top_k` or `min_count` below 1, no word in `min_count` items, or
            what `encode_choices` refuses.
    """
    check_causal(model, "the influence of words")
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task without choices: influence needs a right choice per item")
    if top_k < 1 or min_count < 1:
        raise ValueError(f"top_k={top_k} and min_count={min_count} must be at least 1")
    trials, truncated = _trials(model, tokenizer, task)
    counts = pd.Series([word for trial in trials for word in trial.words]).value_counts()
    kept = set(counts.index[counts >= min_count])
    if not kept:
        raise NoRecurringWord(
            f"no word occurs in {min_count} or more of the {len(trials)} items of {task.name} (most: "
            f"{int(counts.max()) if len(counts) else 0}); lower min_count or load more items"
        )
    frame = influence_table(_differences(model, tokenizer, trials, kept, batch_size)).head(top_k)
    frame.attrs["truncated_prompts"] = truncated
    return frame


def words_of_tasks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task], **options: int
) -> pd.DataFrame:
    """The influential words of several choice tasks: the columns of `influential_words`, whose options it takes, and
    ``task``.

        words_of_tasks(model, tokenizer, [first, second], top_k=20)

    Tasks in which no word recurs often enough are left out; ``attrs["without_words"]`` names them.
    """
    frames, without = [], []
    for task in progress(tasks, description="influential words", unit="task"):
        try:
            frames.append(influential_words(model, tokenizer, task, **options).assign(task=task.name))
        except NoRecurringWord:
            without.append(task.name)
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*COLUMNS, "task"])
    frame.attrs = {"without_words": without}
    return frame


def usable_words(influence: pd.DataFrame, tasks: Sequence[str], *, fewest: int = 3) -> pd.DataFrame:
    """Which tasks hang on words at all, by a rule that knows nothing of what pruning does to them.

        usable_words(words_of_tasks(model, tokenizer, tasks), [task.name for task in tasks])

    A word counts where the whole 95 % interval of its influence lies above zero; a task, where at least `fewest` words
    count. A word found in every item of a task with an influence of 0.000 carries nothing.

    Args:
        influence: of `words_of_tasks`.
        tasks: names of all tasks, so that one without any word has a row as well.

    Returns:
        one row per task: ``task, words`` (list of those that count, most influential first), ``n_words, usable``.
    """
    counted = influence[influence["low"] > 0]
    words = {task: counted[counted["task"] == task]["word"].tolist() for task in tasks}
    frame = pd.DataFrame({"task": list(words), "words": list(words.values())})
    n_words = frame["words"].map(len)
    return frame.assign(n_words=n_words, usable=n_words >= fewest)


def influence_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval per word of `difference` (nats), from one row per item and word; the largest mean first."""
    grouped = differences.groupby("word")["difference"]
    frame = grouped.agg(influence="mean", spread="std", count="size").reset_index()
    with np.errstate(invalid="ignore"):  # one item has no spread: no interval
        half = frame["spread"] / np.sqrt(frame["count"]) * student.ppf((1 + LEVEL) / 2, frame["count"] - 1)
    frame = frame.assign(low=frame["influence"] - half, high=frame["influence"] + half)
    return frame.sort_values(["influence", "word"], ascending=[False, True], ignore_index=True)[COLUMNS]


def remove_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without the characters of the spans (in order) and the blanks before each, or after one at the start."""
    kept, position = "", 0
    for first, last in spans:
        kept += text[position:first].rstrip(" ")
        position = last
    kept += text[position:]
    return kept.lstrip(" ") if spans and spans[0][0] == 0 else kept


def frame_of(prompts: Sequence[str]) -> tuple[int, int, frozenset[str]]:
    """What a template wrote into all prompts: length of the common beginning and end, and words before a colon.

    A single prompt has no frame. The labels are words that a colon follows in every prompt, as in "Hypothesis:".
    """
    if len(set(prompts)) < 2:
        return 0, 0, frozenset()
    beginning = commonprefix(list(prompts))
    end = commonprefix([prompt[::-1] for prompt in prompts])[::-1]
    labels = [{word for word, _, last in find_words(prompt) if prompt[last : last + 1] == ":"} for prompt in prompts]
    return len(beginning), len(end), frozenset(set.intersection(*labels))


class NoRecurringWord(ValueError):
    """A task whose items share too few words for any to be judged."""


class Trial(NamedTuple):
    """An item with the words that may be left out, each with its spans in the prompt."""

    item: dict
    passage: Passage
    words: dict[str, list[tuple[int, int]]]


def _trials(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task) -> tuple[list[Trial], int]:
    """Every item as the model reads it, and how many prompts lost their beginning."""
    limit = context_length(model, tokenizer)
    frame = frame_of(task.items["prompt"].tolist())
    trials, truncated = [], 0
    for item in task.items.to_dict("records"):
        words = _free_words(item["prompt"], *frame)
        passage, shortened = gold_passage(tokenizer, item, limit)
        if shortened:
            truncated += 1
            start = _visible_from(tokenizer, item["prompt"], passage)
            moved = {word: [(a - start, b - start) for a, b in spans if a >= start] for word, spans in words.items()}
            words = {word: spans for word, spans in moved.items() if spans}
            item = item | {"prompt": item["prompt"][start:]}
            passage = gold_passage(tokenizer, item, limit)[0] if words else passage
        trials.append(Trial(item, passage, words))
    return trials, truncated


def _free_words(prompt: str, beginning: int, end: int, labels: frozenset[str]) -> dict[str, list[tuple[int, int]]]:
    """The words outside the frame, with their spans in order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for word, first, last in find_words(prompt):
        is_label = word in labels and prompt[last : last + 1] == ":"
        if last > beginning and first < len(prompt) - end and not is_label:
            found.setdefault(word, []).append((first, last))
    return found


def _visible_from(tokenizer: PreTrainedTokenizerBase, prompt: str, passage: Passage) -> int:
    """The first character of a prompt of which the passage still holds the token."""
    starts = encode_texts(tokenizer, [prompt])[0].starts
    n_read = passage.first_target - len(special_frame(tokenizer)[0])
    return starts[-n_read] if 0 < n_read <= len(starts) else len(prompt)


def _differences(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trials: list[Trial], kept: set[str], batch_size: int
) -> pd.DataFrame:
    """log p(gold) with the word minus without it, one row per item and word."""
    limit = context_length(model, tokenizer)
    passages, rows = [trial.passage for trial in trials], []
    for index, trial in enumerate(trials):
        for word in sorted(kept & trial.words.keys()):
            shorter = trial.item | {"prompt": remove_spans(trial.item["prompt"], trial.words[word])}
            passages.append(gold_passage(tokenizer, shorter, limit)[0])
            rows.append((index, word))
    scores = passage_log_likelihoods(
        model, tokenizer, passages, batch_size=batch_size, description="leave words out"
    ).numpy()
    frame = pd.DataFrame(rows, columns=["item", "word"])
    return frame.assign(difference=scores[frame["item"]] - scores[len(trials) :])
