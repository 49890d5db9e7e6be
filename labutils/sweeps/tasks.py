"""What pruning does to tasks: calibration sets × draws × methods × sparsities, item by item, as tidy rows.

Every item has a score whose mean is the task's own measure: 1 or 0 for a choice (accuracy), 1 − ½ (difference of
standardised ranks)² for a similarity pair (Spearman's ρ). Calibration draws run through joblib, as in
`labutils.sweeps`.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from joblib import delayed
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils import world
from labutils.core.progress import progress
from labutils.core.separate_tasks import separate_tasks
from labutils.data.hub_tasks import list_hub_tasks
from labutils.data.tasks import Task, load_task
from labutils.evaluation.choices import score_task
from labutils.evaluation.similarity import rank_losses, score_similarity
from labutils.models.loading import load_model, model_name
from labutils.pruning.grid import expand_requests
from labutils.pruning.methods import Request
from labutils.pruning.requests import with_registrations
from labutils.sweeps.announcing import announce_sweep
from labutils.sweeps.calibration_sets import load_calibration
from labutils.sweeps.kept_prunings import KeptPrunings, hash_frame
from labutils.sweeps.losses import SweepSizes


def score_items(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task], *, batch_size: int = 64
) -> pd.DataFrame:
    """The score of every item of every task: ``task, family, item, score, chance, majority``, numbered in their task.

    >>> score_items(model, tokenizer, [lab.load_task("lab:qa/birthplaces", n_items=50)])

    ``chance`` is what guessing is expected to score: one over the number of choices, 0 for similarity. ``majority`` is
    what always giving the most frequent label of these items scores; chance where items have choices of their own.
    """
    frames = []
    for task in tasks:
        if task.kind == "choice":
            scores = score_task(model, tokenizer, task, batch_size=batch_size)["correct"].to_numpy(dtype=float)
            chance = 1 / task.items["choices"].map(len).to_numpy()
            majority = majority_share(task) or chance
        else:
            scored = score_similarity(model, tokenizer, task.items, batch_size=batch_size)
            scores = 1 - rank_losses(scored["gold"].to_numpy(), scored["predicted"].to_numpy()).numpy()
            chance = majority = 0.0
        about = {"task": task.name, "family": task.family, "item": range(len(scores))}
        frames.append(pd.DataFrame({**about, "score": scores, "chance": chance, "majority": majority}))
    return pd.concat(frames, ignore_index=True)


def majority_share(task: Task) -> float | None:
    """The share of the most frequent label of a task whose items have all the same choices; None of other tasks.

    >>> majority_share(lab.load_task("file:qa/boolq_validation.jsonl"))  # 0.62
    """
    choices = task.items["choices"].map(tuple)
    return float(task.items["gold"].value_counts(normalize=True).max()) if choices.nunique() == 1 else None


def expand_tasks(names: Sequence[str]) -> list[str]:
    """Task sources, with a family replaced by its tasks.

    >>> expand_tasks(["lab:sentiment", "file:own.jsonl"])

    ``lab:<family>`` stands for the six of the controlled language, ``hub:<family>`` for those in the registry of hub
    data sets.
    """
    expanded = []
    for name in names:
        scheme, _, family = name.partition(":")
        if family in world.FAMILIES and scheme == "lab":
            expanded += [f"lab:{task}" for task in world.TASKS if task.startswith(f"{family}/")]
        elif family in world.FAMILIES and scheme == "hub":
            expanded += [f"hub:{task}" for task in list_hub_tasks(family)]
        else:
            expanded.append(name)
    return expanded


def task_sweep(
    source: str,
    tasks: Sequence[str],
    *,
    calibrations: Sequence[str] | Mapping[str, Sequence[Tensor]],
    methods: Sequence[str],
    sparsities: Sequence[float],
    n_draws: int,
    sizes: SweepSizes = SweepSizes(),  # noqa: B008 (frozen)
    revision: str | None = None,
    dtype: str = "auto",
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
    **options: object,
) -> pd.DataFrame:
    """Prune one model with every calibration set in every way, and score every item of every task.

    >>> rows = task_sweep("lab-llama", ["lab:qa/birthplaces"], calibrations=["lab:review"], methods=["wanda"],
    ...     sparsities=[0.5], n_draws=2)

    Args:
        source: a model as for `load_model`.
        tasks: task sources as for `load_task`; `sizes.n_items` items of each, drawn by `sizes.seed`.
        calibrations: names of calibration sets as for `load_calibration`, or name → the token ids of each draw.
        n_draws: draw d of a named set takes the sequences of seed d.
        revision, dtype: as for `load_model`.
        loaded: what `load_model` gave for `source`, where it is at hand: a large model need not be in memory twice.
        **options: passed on to `prune`.

    Returns:
        one row per calibration, draw, method, sparsity, task and item: ``model, calibration, draw, method, sparsity,
        task, family, item, score, chance, majority``. The dense model is the method "dense", with sparsity 0, draw −1
        and the calibration "none".

    Raises:
        ValueError, LookupError: as the loaders and `prune` do.
    """
    parallel = separate_tasks()
    model, tokenizer = loaded or load_model(source, revision=revision, dtype=dtype)
    items = [load_task(name, n_items=sizes.n_items, seed=sizes.seed) for name in tasks]
    name = model_name(source)
    kept = KeptPrunings(
        model, tokenizer, {"tasks": [[task.name, task.family, hash_frame(task.items)] for task in items]}
    )
    dense, evaluation_seconds = kept.dense_rows(partial(score_items, model, tokenizer, items))
    dense = dense.assign(calibration="none", draw=-1, method="dense", sparsity=0.0)
    jobs = [(calibration, draw) for calibration in calibrations for draw in range(n_draws)]
    requests = _requests(methods, sparsities, options)
    announce_sweep(
        name, model, (sizes.n_calibration, sizes.seq_len), requests, n_draws=len(jobs),
        evaluation_seconds=evaluation_seconds,
    )  # fmt: skip
    one_draw = with_registrations(_one_draw)
    run = parallel(
        delayed(one_draw)(model, tokenizer, items, calibrations, calibration, kept, draw, requests, sizes)
        for calibration, draw in jobs
    )
    frames = [dense, *progress(run, total=len(jobs), description=f"task sweep {name}", unit="draw")]
    columns = [
        "model",
        "calibration",
        "draw",
        "method",
        "sparsity",
        "task",
        "family",
        "item",
        "score",
        "chance",
        "majority",
    ]
    return pd.concat(frames, ignore_index=True).assign(model=name)[columns]


def _one_draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task],
    calibrations: Sequence[str] | Mapping[str, Sequence[Tensor]], calibration: str, kept: KeptPrunings, draw: int,
    requests: Sequence[Request], sizes: SweepSizes,
) -> pd.DataFrame:  # fmt: skip
    if isinstance(calibrations, Mapping):
        tokens = calibrations[calibration][draw]
    else:
        tokens = load_calibration(
            calibration, tokenizer, n_sequences=sizes.n_calibration, seq_len=sizes.seq_len, seed=draw
        )
    done = kept.rows_of(model, tokens, requests, lambda pruned: score_items(pruned, tokenizer, tasks))
    frame = pd.DataFrame(sum(done, []))[["method", "sparsity", "task", "family", "item", "score", "chance", "majority"]]
    return frame.assign(calibration=calibration, draw=draw)


def _requests(methods: Sequence[str], sparsities: Sequence[float], options: dict) -> list[Request]:
    """Every method at every sparsity, by its own allocation."""
    combinations = [(method, None, "unstructured") for method in methods]
    return sum(expand_requests(combinations, sparsities, options=options), [])
