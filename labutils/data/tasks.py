"""Tasks with a right answer per item, choice or similarity, from files, the hub, or the controlled language.

Formats of ``file:<path>.jsonl`` and ``hub:<data set>`` (columns; others are ignored):

- classification: ``text, label, label_name``; pairs and inference: ``premise, hypothesis, label, label_name`` or
  ``sentence1, sentence2, label, label_name``; on the hub a `ClassLabel` stands in for ``label_name``. The choices are
  the label names in the order of the labels.
- multiple choice: ``question, choices, answer`` (the position of the right choice), with ``context`` or ``support`` (a
  passage) or ``relation`` (cause or effect) where there is one, or with ``label, label_name`` for the answer.
- similarity: ``sentence1, sentence2, score``.

Sources, splits and ``#all`` are those of `labutils.data.corpora`. Prompts and label words are in
`labutils.data.prompts`; ``<name>.task.yaml`` beside ``<name>.jsonl`` gives a file its own. Data sets with other columns
are read as the registry (`labutils.data.hub_tasks`), or that file, says.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import pandas as pd

from labutils import world
from labutils.core import paths
from labutils.data.corpora import draw_order, read_units
from labutils.data.hub_tasks import HubTask, find_file_task, find_hub_task
from labutils.data.prompts import choose_template, fill_prompt
from labutils.data.sources import parse_source

KINDS = ("choice", "similarity")
LAB_ITEMS = 200  # items written for a lab: task when the caller does not say how many
SIMILARITY_COLUMNS = {"sentence1", "sentence2", "score"}


@dataclass(frozen=True)
class Task:
    """Items with a right answer.

    `items` has one row per item. Kind "choice": ``item`` (position in the source), ``prompt``, ``choices`` (list of
    strings), ``gold`` (position of the right choice). Kind "similarity": ``item, sentence1, sentence2, score``.
    """

    name: str
    family: str
    kind: str
    items: pd.DataFrame

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if len(self.items) == 0:
            raise ValueError(f"task {self.name!r} has no items")
        if self.kind == "choice":
            _check_choices(self.items, self.name)


def _check_choices(items: pd.DataFrame, name: str) -> None:
    """ValueError naming a missing column, or the first item without texts or with an answer that is no choice."""
    if missing := [column for column in ("item", "prompt", "choices", "gold") if column not in items]:
        raise ValueError(f"task {name!r}: items of a choice task need the column {missing[0]!r}")
    for row in items.itertuples():
        texts = [row.prompt, *row.choices] if isinstance(row.choices, list | tuple) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"task {name!r}, item {row.item}: the prompt and each of the choices must be a text")
        gold = row.gold
        if isinstance(gold, bool) or not isinstance(gold, Integral) or not 0 <= gold < len(row.choices):
            raise ValueError(
                f"task {name!r}, item {row.item}: the answer {gold!r} is no position among {len(row.choices)} choices"
            )


def _label_names(records: list[dict], source: str) -> dict[int, str]:
    """Label → name in label order; ValueError when a label has no name, or two."""
    names: dict[int, str] = {}
    for record in records:
        if not isinstance(record.get("label"), int) or not isinstance(record.get("label_name"), str):
            raise ValueError(
                f"{source}: a classification item needs an integer 'label' and a string 'label_name', a choice item "
                f"'choices' and 'answer', a similarity item 'score'; found the columns {', '.join(record)}. "
                "Hidden labels (−1) have no name: take another split with '#<split>'"
            )
        if names.setdefault(record["label"], record["label_name"]) != record["label_name"]:
            raise ValueError(
                f"{source}: label {record['label']} is called {names[record['label']]!r} and {record['label_name']!r}"
            )
    if len(set(names.values())) < len(names):
        raise ValueError(f"{source}: two labels have one name ({names}), so that no answer could tell them apart")
    return dict(sorted(names.items()))


def _named_rows(records: Any) -> list[dict]:
    """The records as dictionaries; a hub `ClassLabel` gets its name written out."""
    features = getattr(records, "features", {})
    names = getattr(features.get("label"), "names", None)
    rows = list(records)
    if names is None or "label_name" in features:
        return rows
    return [row | {"label_name": names[row["label"]]} if row["label"] >= 0 else row for row in rows]


def _choice_items(rows: list[dict], order: list[int], template: str | None, source: str) -> tuple[str, pd.DataFrame]:
    """Family and items; the set of label names is taken from all rows, so that it does not depend on the draw."""
    multiple = all("choices" in row and "answer" in row for row in rows)
    labels = {} if multiple else _label_names(rows, source)
    shared = list(labels.values())
    chosen = choose_template(template, rows[0], shared or _choice_texts(rows[0]["choices"], source, 0), source)
    position = {label: index for index, label in enumerate(labels)}
    items = []
    for index in order:
        row = rows[index]
        choices = _choice_texts(row["choices"], source, index) if multiple else shared
        gold = row["answer"] if multiple else position[row["label"]]
        if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices) or len(choices) < 2:
            raise ValueError(
                f"{source}, item {index}: answer {gold!r} is no position among {len(choices)} choices (≥ 2)"
            )
        items.append({"item": index, "prompt": fill_prompt(row, chosen, source), "choices": choices, "gold": gold})
    return chosen.family, pd.DataFrame(items)


def _choice_texts(choices: Any, source: str, index: int) -> list[str]:
    """The choices of an item as texts; numbers are written out."""
    if not isinstance(choices, list) or not all(type(choice) in (str, int, float) for choice in choices):
        raise ValueError(f"{source}, item {index}: choices must be a list of texts, not {choices!r}")
    return [str(choice) for choice in choices]


def _similarity_items(rows: list[dict] | dict[int, dict], order: list[int], source: str) -> pd.DataFrame:
    items = []
    for index in order:
        row = rows[index]
        sentences, score = [row.get("sentence1"), row.get("sentence2")], _as_number(row.get("score"))
        if not all(isinstance(sentence, str) for sentence in sentences) or not math.isfinite(score):
            raise ValueError(f"{source}, item {index}: sentence1, sentence2 and a numeric score are needed")
        items.append({"item": index, "sentence1": sentences[0], "sentence2": sentences[1], "score": score})
    return pd.DataFrame(items)


def _as_number(value: Any) -> float:
    """A number, also one that is written as text; NaN for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _registered_task(
    entry: HubTask, source: str, drawn: list[tuple[int, dict]], template: str | None, n_items: int | None
) -> Task:
    """Items of a data set that the registry describes, from the positions and rows that were drawn."""
    if len(drawn) < (n_items or 1):
        raise ValueError(
            f"{source} has {len(drawn)} items with a known answer, {n_items or 'at least one'} wanted: ask for fewer, "
            "or take another split with '#<split>'"
        )
    order, rows = [index for index, _ in drawn], [row for _, row in drawn]
    if entry.score is not None:
        return Task(source, entry.family, "similarity", _similarity_items(dict(drawn), order, source))
    family, items = _choice_items(rows, list(range(len(rows))), template or entry.template, source)
    return Task(source, entry.family or family, "choice", items.assign(item=order))


def _load_lab_task(name: str, n_items: int, seed: int, split: str) -> Task:
    items = world.write_items(name, n_items, seed=seed, split=split)
    return Task(f"lab:{name}", name.partition("/")[0], world.TASKS[name].kind, items)


def _check_classes(records: Sequence[dict], indices: range, entry: HubTask | None, source: str, split: str) -> None:
    """Refuse a split of one class out of several of a file in which every class stands together."""
    first, column = records[0], entry.label if entry else "label"
    has_own = first.keys() >= {"choices", "answer"} or first.keys() >= SIMILARITY_COLUMNS
    labels = [] if column is None or (entry is None and has_own) else [record.get(column) for record in records]
    if not all(type(label) is int and label >= 0 for label in labels):
        return  # no classes, or none that can be read; what is wrong with them is said elsewhere
    runs = sum(one != other for one, other in itertools.pairwise(labels)) + 1
    if 1 < runs == len(set(labels)) and len({labels[index] for index in indices}) == 1:
        raise ValueError(
            f"{source}: all {len(indices)} items of its {split!r} split have the label {labels[indices[0]]}, but "
            "the file holds others: it is sorted by its labels. Shuffle its lines, or append '#all' to draw from all"
        )


def load_task(
    source: str,
    *,
    n_items: int | None = None,
    seed: int = 0,
    split: str = "test",
    template: str | None = None,
    labels: Sequence[str] | None = None,
    revision: str | None = None,
) -> Task:
    """`n_items` items of a task, drawn by `seed` from a split.

        task = lab.load_task("lab:sentiment/products", n_items=100)

    Args:
        source: ``lab:<family>/<name>``, ``file:<path>.jsonl[#all]`` or ``hub:<data set>[/<config>][#<split>]``.
        n_items: how many; None takes the whole split of a file or hub data set, and `LAB_ITEMS` of a lab task.
        seed: decides which items, and their order.
        split: "train" or "test".
        template: name of the prompt in `labutils.data.prompts.TEMPLATES`, or a prompt with columns in braces, such as
            ``"{text} It was"``; None infers it from the columns and the set of label names.
        labels: words for the classes 0, 1, … of the column `label`, instead of its names.
        revision: branch, tag or commit of a hub data set.

    Raises:
        ValueError: no items, fewer than asked for, an unknown template, labels where there are no classes, rows in
            none of the formats, or a file that is sorted by its labels, so that a split holds one class.
        LookupError: no such file, data set or lab task.
    """
    if n_items is not None and n_items < 1:
        raise ValueError(f"n_items must be at least 1, not {n_items}")
    parsed = parse_source(source)
    if parsed.scheme == "lab":
        if template is not None or labels is not None:
            raise ValueError(f"{source} writes its own prompts and choices: leave template and labels out")
        return _load_lab_task(parsed.name, n_items or LAB_ITEMS, seed, split)
    entry = find_hub_task(parsed.name) if parsed.scheme == "hub" else find_file_task(paths.find_file(parsed.name))
    if labels is not None:
        if entry is not None and entry.label is None:
            raise ValueError(f"{source} has choices of its own in every item: leave labels out")
        words = {"label": "label", "labels": tuple(labels)}
        entry = HubTask(source, "", **words) if entry is None else replace(entry, labels=tuple(labels))
    own_test = f"#{entry.test}" if entry and entry.test and split == "test" and not parsed.part else ""
    records, indices = read_units(source + own_test, split, revision=revision or (entry and entry.revision))
    if n_items is not None and n_items > len(indices):
        raise ValueError(f"{source} has {len(indices)} items in {split!r}, {n_items} were asked for: ask for fewer")
    if parsed.scheme == "file":
        _check_classes(records, indices, entry, source, split)
    order = draw_order(indices, seed)
    if entry:
        return _registered_task(entry, source, list(entry.draw(records, order, n_items)), template, n_items)
    order = order[:n_items]
    rows = _named_rows(records)
    if rows[0].keys() >= SIMILARITY_COLUMNS:
        return Task(source, "topic", "similarity", _similarity_items(rows, order, source))
    family, items = _choice_items(rows, order, template, source)
    return Task(source, family, "choice", items)
