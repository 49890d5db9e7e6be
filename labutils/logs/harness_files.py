"""Sample logs of lm-evaluation-harness (`--log_samples`), as rows of one value each.

A run writes `samples_<task>_<date>.jsonl` beside `results_<date>.json`, one line per document and filter, in which
every metric of the task is a key of its own. Format: lm-eval 0.4.13, `loggers/evaluation_tracker.py`.
"""

import json
import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import pandas as pd

from labutils.core.text_files import read_text

COLUMNS = ["task", "filter", "metric", "item", "value", "weight", "unit", "item_hash", "prompt_hash"]
HASHES = ("doc_hash", "target_hash", "prompt_hash")
# Of these the harness logs a document's log-likelihood beside its words or bytes; other pairs mean other things.
LIKELIHOODS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
NO_METRIC = "bypass"  # the harness's mark of a task that is only generated


def read_harness_log(place: Path, *, cluster: str | None = None) -> pd.DataFrame:
    """All values of a run's sample logs: a row per task, filter, metric and document.

        read_harness_log(Path("results/my__model"))

    Args:
        place: a `samples_….jsonl`, a folder that holds those of one run, or one with a single such folder in it.
        cluster: a key of the documents, such as "passage"; those that agree in it are one unit.

    Returns:
        ``task, filter, metric, item`` (the document's id), ``value``, ``weight`` (1, or a document's words or bytes,
        where the value is its log-likelihood per word or byte in nats), ``unit``, ``item_hash`` (of document and
        target), ``prompt_hash``. Metrics whose values are no single numbers are in ``attrs["not numbers"]``, each with
        its task.

    Raises:
        LookupError: no sample log there, or several runs of one task.
        ValueError: a line that is no such record, lacks a metric that it names, or repeats a document.
    """
    rows, others = [], set()
    for task, path in _sample_files(place).items():
        for number, record in _records(path):
            where = f"{path.name}, line {number}"
            values = _values(record, where)
            others |= {(task, metric) for metric, value in values.items() if value is None}
            unit = _unit(record, cluster, where)
            about = (unit, record["doc_hash"] + record["target_hash"], record["prompt_hash"])
            rows += [
                (task, record["filter"], metric, record["doc_id"], *value, *about)
                for metric, value in values.items()
                if value is not None
            ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    _reject_repeated(frame, place)
    frame.attrs["not numbers"] = sorted(others)
    return frame


def _sample_files(place: Path) -> dict[str, Path]:
    """Task → its file."""
    if place.is_file():
        return {_task_of(place): place}
    found = sorted(place.glob("samples_*.jsonl"))
    inner = [folder for folder in sorted(place.iterdir()) if folder.is_dir() and any(folder.glob("samples_*.jsonl"))]
    if not found and len(inner) == 1:
        return _sample_files(inner[0])
    if not found:
        there = f"it holds {', '.join(folder.name for folder in inner)}: name one" if inner else "it holds none"
        raise LookupError(
            f"no samples_<task>_<date>.jsonl in {place}; {there}. lm_eval writes them with --log_samples --output_path."
        )
    files: dict[str, Path] = {}
    for path in found:
        task = _task_of(path)
        if task in files:
            raise LookupError(f"{place} holds several runs of {task}: give one file, {files[task].name} or {path.name}")
        files[task] = path
    return files


def _task_of(path: Path) -> str:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise LookupError(f"{path.name} is not named samples_<task>_<date>.jsonl, as lm_eval names its sample logs")
    return match["task"]


def _records(path: Path) -> Iterator[tuple[int, dict]]:
    """The lines of a file, numbered from 1, each an object with all keys that are needed."""
    lines = read_text(path).split("\n")
    empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path.name}, line {number} is not JSON ({error}): the log is damaged or cut off"
            ) from error
        needed = ["doc_id", "filter", "metrics", *HASHES]
        missing = [key for key in needed if not isinstance(record, dict) or record.get(key) is None]
        if missing:
            raise ValueError(
                f"{path.name}, line {number} has no {missing[0]!r}: no sample log of lm-eval 0.4.13. Evaluate once "
                "more with a current version."
            )
        yield number, record
        empty = False
    if empty:
        raise ValueError(f"{path.name} holds no sample at all")


def _values(record: dict, where: str) -> dict[str, tuple[float, float] | None]:
    """Metric → value and weight; None where it is no single number."""
    found = {}
    for metric in record["metrics"]:
        if metric == NO_METRIC:
            continue
        if metric not in record:
            raise ValueError(f"{where}: the metric {metric!r} is named, but has no value")
        found[metric] = _number(metric, record[metric], where)
    return found


def _number(metric: str, value: object, where: str) -> tuple[float, float] | None:
    if metric in LIKELIHOODS and isinstance(value, list) and len(value) == 2:
        total, weight = value
        if not (_is_number(total) and _is_number(weight) and weight > 0):
            raise ValueError(f"{where}: {metric} is {value}, not a log-likelihood and a positive count")
        return total / weight, float(weight)
    if isinstance(value, bool | int | float):
        if not isfinite(value):
            raise ValueError(f"{where}: {metric} is {value}; a comparison needs finite values")
        return float(value), 1.0
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _unit(record: dict, cluster: str | None, where: str) -> str:
    if cluster is None:
        return str(record["doc_id"])
    document = record.get("doc")
    if not isinstance(document, dict) or cluster not in document:
        keys = ", ".join(document) if isinstance(document, dict) else "none"
        raise LookupError(f"{where}: the document has no {cluster!r} to be clustered by; it has {keys}")
    return json.dumps(document[cluster], sort_keys=True)


def _reject_repeated(frame: pd.DataFrame, place: Path) -> None:
    repeated = frame.duplicated(["task", "filter", "metric", "item"])
    if repeated.any():
        first = frame[repeated].iloc[0]
        raise ValueError(
            f"{place}: document {first['item']} of {first['task']} (filter {first['filter']}) stands there "
            f"more than once ({int(repeated.sum())} values are repeated). lm_eval appends to a log of the same name: "
            "keep the lines of one run."
        )
