"""Evaluation by the standard of others: EleutherAI's lm-evaluation-harness on a model that is in memory.

The harness scores the model object as it is, pruned or not, so that nothing has to be saved first; its tasks, prompts
and metrics are its own. A task of this collection can be written in its format, which lets both score the same items.
Source: Gao et al., lm-evaluation-harness (the package `lm_eval`).
"""

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core import paths
from labutils.core.extras import import_optional
from labutils.data.tasks import Task
from labutils.models.structure import check_causal

COLUMNS = ["task", "metric", "filter", "value", "stderr", "n_items"]


def evaluate_outside(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    task_folder: str | Path | None = None,
    n_items: int | None = None,
    n_fewshot: int | None = None,
    batch_size: int = 8,
) -> pd.DataFrame:
    """Hand a model to lm-evaluation-harness and return its scores as a table.

        lab.evaluate_outside(model, tokenizer, ["hellaswag"], n_items=100)

    Args:
        tasks: names of the harness, such as `hellaswag`, or of tasks in `task_folder`.
        task_folder: folder with task files (YAML) of your own. They may name Python functions, which then run: use no
            folder that you do not trust.
        n_items: only the first of each task; None takes all.
        n_fewshot: solved examples in the prompt; None takes each task's own number.

    Returns:
        one row per task, metric and filter: `task, metric, filter, value, stderr` (NaN where the harness gives none),
        `n_items`.

    Raises:
        LookupError: the harness is not installed, or knows no task of that name.
        ValueError: the model is not a causal language model.
    """
    harness = import_optional("lm_eval", purpose="Evaluation by lm-evaluation-harness", extra="harness")
    check_causal(model, "lm-evaluation-harness")
    with _quiet():
        manager = _task_manager(list(tasks), task_folder)
        from lm_eval.models.huggingface import HFLM

        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        found = harness.simple_evaluate(
            model=wrapped, tasks=list(tasks), task_manager=manager, limit=n_items, num_fewshot=n_fewshot,
            log_samples=False, bootstrap_iters=0,
        )  # fmt: skip
    return _as_table(found)


def _task_manager(tasks: list[str], folder: str | Path | None) -> object:
    """The harness's index of tasks: of the folder alone where that holds them all, since its own are very many."""
    from lm_eval.tasks import TaskManager

    place = None if folder is None else str(folder)
    for with_own in (False, True) if place else (True,):
        manager = TaskManager(include_path=place, include_defaults=with_own)
        missing = [name for name in tasks if name not in manager.all_tasks]
        if not missing:
            return manager
    raise LookupError(
        f"lm-evaluation-harness knows no task {missing[0]!r}; `lm_eval ls tasks` lists its own"
        + (f", and {place} holds none of that name." if place else ", and `task_folder` brings yours.")
    )


def _as_table(found: dict) -> pd.DataFrame:
    rows = []
    for task, scores in found["results"].items():
        for key, value in scores.items():
            metric, _, name = key.partition(",")
            if not name or metric.endswith("_stderr"):  # "alias" and the like; errors stand beside their metric
                continue
            error = scores.get(f"{metric}_stderr,{name}")
            n_items = found.get("n-samples", {}).get(task, {}).get("effective")
            stderr = error if isinstance(error, int | float) else float("nan")
            rows.append(dict(zip(COLUMNS, (task, metric, name, value, stderr, n_items), strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def write_harness_task(task: Task, folder: str | Path) -> str:
    """Write the items of a choice task in the harness's format and return the name by which it is asked for.

        name = lab.evaluation.write_harness_task(task, "tasks")
        lab.evaluate_outside(model, tokenizer, [name], task_folder="tasks")

    The harness then scores each choice after the prompt and a blank: `acc` by the sum of its tokens' log-likelihoods,
    `acc_norm` by the sum divided by its length in characters.

    Raises:
        ValueError: a similarity task, which has no choices.
    """
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task without choices; the harness's format needs them.")
    folder = paths.expand(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", task.name).strip("_")
    records = task.items[["prompt", "choices", "gold"]].to_dict("records")
    lines = [json.dumps({**record, "choices": list(record["choices"])}) + "\n" for record in records]
    (folder / f"{name}.jsonl").write_text("".join(lines))
    config = {
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "prompt", "doc_to_choice": "choices",
        "doc_to_target": "gold", "target_delimiter": " ", "num_fewshot": 0,
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}
                        for metric in ("acc", "acc_norm")],
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The harness tells at length what it does, with bars of its own; exceptions and errors in the log pass."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
