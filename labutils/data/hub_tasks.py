"""The registry of hub data sets (data/hub_tasks.yaml): their columns, prompts and answers, read as items of a task."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from labutils.core.paths import DATA
from labutils.core.text_files import read_text
from labutils.core.yaml_text import parse_yaml

REGISTRY = DATA / "hub_tasks.yaml"


@dataclass(frozen=True)
class HubTask:
    """How to read one data set; the header of data/hub_tasks.yaml explains the fields."""

    name: str
    family: str
    template: str | None = None
    test: str | None = None
    revision: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    labels: tuple = ()
    values: tuple = ()
    choices: str | tuple | None = None
    keys: str | None = None
    answer: str | None = None
    score: str | None = None

    def __post_init__(self) -> None:
        places = [self.template, self.test, self.revision, self.label, self.keys, self.answer, self.score]
        columns = [self.choices] if isinstance(self.choices, str | None) else list(self.choices)
        kinds = [self.label is not None, self.choices is not None, self.score is not None]
        rules = {
            "one of label, choices and score says where the answer is": sum(kinds) == 1,
            "similarity has no prompt, and so no template": self.template is None or self.score is None,
            "a label needs the spelling of at least two classes": self.label is None
            or (isinstance(self.labels, tuple) and len(self.labels) > 1),
            "labels are words": isinstance(self.labels, tuple)
            and all(isinstance(label, str) and label.strip() for label in self.labels),
            "labels and values are lists": isinstance(self.labels, tuple) and isinstance(self.values, tuple),
            "fields are a mapping of columns": isinstance(self.fields, Mapping)
            and all(isinstance(name, str) for pair in self.fields.items() for name in pair),
            "a template and the names of columns are texts": all(
                isinstance(each, str | None) for each in [self.family, *places, *columns]
            ),
            "values are as many as labels": not self.values or len(self.values) == len(self.labels),
            "choices need the column of the answer": (self.choices is None) == (self.answer is None),
        }
        if broken := [rule for rule, holds in rules.items() if not holds]:
            raise ValueError(f"task {self.name}: {broken[0]}")

    def read(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """A record in the columns of `labutils.data.tasks`; None where its answer is hidden.

        ValueError naming the column that the record lacks, or an answer that is none of the choices.
        """
        found = {name: self._find(record, place) for name, place in self.fields.items()}
        row = dict(record) | {name: _joined(text) for name, text in found.items()}
        if self.score is not None:
            return row | {"score": self._find(record, self.score)}
        if self.label is not None:
            choices, values = list(self.labels), list(self.values) or list(range(len(self.labels)))
            answer = self._find(record, self.label)
        else:
            choices = self._choices(record)
            values = self._list(record, self.keys) if self.keys else list(range(len(choices)))
            answer = self._find(record, self.answer)
        if answer in (-1, "", None):
            return None
        if answer not in values:
            raise ValueError(f"task {self.name}: the answer {answer!r} is none of {', '.join(map(str, values))}")
        return row | {"choices": choices, "answer": values.index(answer)}

    def _choices(self, record: Mapping[str, Any]) -> list:
        if isinstance(self.choices, str):
            return self._list(record, self.choices)
        return [self._find(record, column) for column in self.choices]

    def _list(self, record: Mapping[str, Any], place: str) -> list:
        if not isinstance(found := self._find(record, place), list):
            raise ValueError(f"task {self.name}: the column {place!r} holds {found!r:.40} instead of a list")
        return found

    def _find(self, record: Mapping[str, Any], place: str) -> Any:
        found: Any = record
        for part in place.split("."):
            if not isinstance(found, Mapping) or part not in found:
                raise ValueError(
                    f"task {self.name}: there is no column {place!r} among {', '.join(record)}; correct its "
                    "entry, or, where the data set has changed, take an earlier revision"
                )
            found = found[part]
        return found

    def draw(self, records: Any, order: Iterable[int], n_items: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Positions and rows of the first `n_items` records (all with None) in this order whose answer is known."""
        found = 0
        for index in order:
            if found == n_items:
                return
            if (row := self.read(records[index])) is not None:
                found += 1
                yield index, row


def _joined(text: Any) -> Any:
    """A list of texts as one."""
    return " ".join(text) if isinstance(text, list) and all(isinstance(part, str) for part in text) else text


def find_hub_task(name: str) -> HubTask | None:
    """The entry of a data set ``<owner>/<name>[/<config>]``, or None."""
    return _registry().get(name)


def list_hub_tasks(family: str | None = None) -> list[str]:
    """Names of all registered data sets, or of those of a family."""
    return [name for name, task in _registry().items() if family in (None, task.family)]


def read_hub_tasks(path: Path) -> dict[str, HubTask]:
    """The entries of a registry file; ValueError names the one that breaks the rules."""
    entries = parse_yaml(path.read_text(encoding="utf-8"), name=path.name)
    return {name: _read_entry(name, entry, path) for name, entry in entries.items()}


def find_file_task(path: Path) -> HubTask | None:
    """What ``<name>.task.yaml`` beside ``<name>.jsonl`` says about it, or None where there is no such file.

        find_file_task(Path("trec.jsonl"))  # of trec.task.yaml: {template: question-type, labels: [place, person]}

    Its fields are those of the registry. Without `label`, `choices` and `score` the answer is where the formats of
    `labutils.data.tasks` have it: in `label` where there are `labels`, else in `choices` and `answer`. Without
    `template` and `family` they are the default for the columns.

    Raises:
        ValueError: the file is no mapping, has an unknown field, or breaks the rules of the registry.
    """
    place = path.with_suffix(".task.yaml")
    if not place.is_file():
        return None
    entry = parse_yaml(read_text(place), name=place.name)
    if not isinstance(entry, dict) or {"test", "revision"} & entry.keys():
        raise ValueError(f"{place.name}: fields such as template and labels are needed, but no test or revision")
    if not {"label", "choices", "score"} & entry.keys():
        entry |= {"label": "label"} if "labels" in entry else {"choices": "choices", "answer": "answer"}
    return _read_entry(place.name, {"family": "", **entry}, place)


def _read_entry(name: str, entry: dict[str, Any], path: Path) -> HubTask:
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    try:
        return HubTask(name, **plain)
    except TypeError as error:
        raise ValueError(f"{path.name}, {name}: a field is missing or unknown: {error}") from error


@cache
def _registry() -> dict[str, HubTask]:
    return read_hub_tasks(REGISTRY)
