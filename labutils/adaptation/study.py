"""The study: samples × adaptations × fine-tunings, and the base model fine-tuned without adaptation, as tidy rows."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from joblib import delayed

from labutils.adaptation.configurations import Adaptation, Tuning
from labutils.adaptation.correlations import pearson_contributions
from labutils.adaptation.jobs import (
    FORMAT,
    NO_ADAPTATION,
    NO_SAMPLE,
    Inputs,
    Job,
    StudySetting,
    finish_job,
    gather_inputs,
    plan_jobs,
    unfinished,
)
from labutils.adaptation.samples import Sample, describe_samples
from labutils.core import paths
from labutils.core.progress import progress
from labutils.core.separate_tasks import separate_tasks
from labutils.data.sources import short_source
from labutils.data.tasks import Task
from labutils.models.loading import model_name
from labutils.runner.finished_runs import FinishedRuns
from labutils.stats.pairing import require_columns

GAIN_UNITS = ("sentence pair", "sample of texts")  # items and draws of `adaptation_gain`
RUN = ["sample", "adaptation", "finetuning", "replicate"]


class StudyRows(NamedTuple):
    """What a study found: `runs` has a row per run, `predictions` a row per run and sentence pair."""

    runs: pd.DataFrame
    predictions: pd.DataFrame


def run_study(
    source: str,
    samples: Sequence[Sample],
    task: Task,
    *,
    adaptations: Sequence[str],
    finetunings: Sequence[str],
    heldout: str,
    setting: StudySetting = StudySetting(),  # noqa: B008 (frozen)
    folder: Path | None = None,
    revision: str | None = None,
    n_jobs: int | None = None,
) -> StudyRows:
    """Adapt a model on every sample in every way, fine-tune each result in every way, and score it by cross-validation.

    >>> rows = run_study("lab-llama", samples, task, adaptations=["full"], finetunings=["head"], heldout="lab:review")

    Jobs run through joblib: a Dask backend with a folder that all workers see moves a study without a change here.

    Args:
        source: a model as for `load_base`.
        samples: as drawn by `draw_samples`.
        task: sentence pairs with scores; all runs share the folds.
        adaptations: lines as "lora rate=1e-3 steps=40", see `Adaptation`.
        finetunings: lines as "full rate=3e-4 epochs=3", see `Tuning`.
        heldout: text source whose test split tells what an adaptation does to the language-model loss.
        folder: where finished runs are kept; a study that finds them there goes on from them. None keeps nothing.
        n_jobs: parallel processes; None leaves it to `joblib.parallel_config`.

    Returns:
        `runs`: ``model, task, sample, adaptation`` (D1, D2, … in the order given), ``finetuning`` (H1, …),
        ``replicate``; ``adaptation_line, finetuning_line, adaptation_seed, finetuning_seed``; ``pearson, spearman``
        (cross-validated, see `fold_correlations`), and ``zero_shot``, Pearson's r of the cosines before fine-tuning,
        over the same folds; the losses ``adaptation_loss, heldout_before, heldout_after`` (nats per token) and
        ``finetuning_loss`` (the scores' variance is 1); ``tokens`` and ``passes`` over the sample;
        ``adaptation_seconds, seconds``; and what `describe_samples` tells of the sample. Runs of the base model have
        the sample "base", the adaptation "none", and nothing in the columns that only an adaptation fills.
        `predictions`: the four columns that name a run, then ``item, fold, gold, predicted``.

    Raises:
        ValueError, LookupError: as the loaders, `adapt_model` and `tune_similarity` do; a task of another kind; no
            samples or configurations, or two of the same name or meaning.
    """
    separate_tasks(n_jobs)
    ways, tunings = [Adaptation.read(line) for line in adaptations], [Tuning.read(line) for line in finetunings]
    if task.kind != "similarity":
        raise ValueError(f"{task.name} is a {task.kind} task; give one of sentence pairs with scores")
    for what, given in (("sample", [s.name for s in samples]), ("adaptation", ways), ("fine-tuning", tunings)):
        if not given or len(set(given)) < len(given):
            raise ValueError(f"a study needs at least one {what} and none twice, not {', '.join(map(str, given))}")
    with tempfile.TemporaryDirectory() as temporary:
        finished = FinishedRuns(paths.expand(folder or temporary), FORMAT)
        inputs = gather_inputs(source, task, heldout=heldout, setting=setting, finished=finished, revision=revision)
        jobs = plan_jobs(inputs, samples, ways, tunings)
        _finish(inputs, [job for job in (unfinished(inputs, job) for job in jobs) if job.runs], n_jobs)
        return _collect(inputs, jobs, samples, _labels("D", ways), _labels("H", tunings))


def adaptation_gain(rows: StudyRows) -> pd.DataFrame:
    """What adaptation changes: correlation of the adapted minus that of the base model, pair by pair.

    >>> gains = adaptation_gain(plan.load("data:adaptation_runs"))

    Both are fine-tuned in the same way with the same folds. A `value` is the difference of `pearson_contributions`, so
    its mean over pairs is a difference of cross-validated correlations. An adapted run is compared with every replicate
    of the base model, since a single fine-tuning is in part luck.

    Returns:
        ``model, evaluation`` (the task), ``draw`` (the sample), ``seed`` (the base model's replicate), ``adaptation,
        finetuning, item, value``; resample them with `crossed_bootstrap(…, cells=["adaptation", "finetuning"],
        units=GAIN_UNITS)`, whose interval then holds the luck of pairs, samples and of the base model's seeds.

    Raises:
        LookupError: a column is missing. ValueError: no runs of the base model, or none of an adapted one.
    """
    require_columns(rows.predictions, [*RUN, "item", "fold", "gold", "predicted"])
    parts = rows.predictions.groupby(RUN, sort=False)
    values = rows.predictions.assign(
        value=pd.concat([pearson_contributions(part) for _, part in parts]).reindex(rows.predictions.index)
    )
    is_base = values["sample"] == NO_SAMPLE
    if is_base.all() or not is_base.any():
        raise ValueError(f"a gain needs runs of the base model (sample {NO_SAMPLE!r}) and of adapted ones")
    base = values[is_base].rename(columns={"value": "base", "replicate": "seed"})
    base = base[["finetuning", "item", "seed", "base"]]
    gains = values[~is_base].merge(base, on=["finetuning", "item"], validate="many_to_many")
    gains = gains.assign(value=gains["value"] - gains["base"], draw=gains["sample"])
    about = {"model": rows.runs["model"].iloc[0], "evaluation": rows.runs["task"].iloc[0]}
    return gains.assign(**about)[[*about, "draw", "seed", "adaptation", "finetuning", "item", "value"]]


def _finish(inputs: Inputs, jobs: list[Job], n_jobs: int | None) -> None:
    """Do the jobs in parallel and show how many of their runs are done."""
    parallel = separate_tasks(n_jobs, return_as="generator_unordered")
    work = parallel(delayed(finish_job)(inputs, job) for job in jobs)
    runs = (run for finished in work for run in range(finished))
    total = sum(len(job.runs) for job in jobs)
    for _ in progress(runs, total=total, description=f"study on {model_name(inputs.source)}", unit="run"):
        pass


def _collect(
    inputs: Inputs, jobs: list[Job], samples: Sequence[Sample], ways: dict[object, str], tunings: dict[object, str]
) -> StudyRows:
    """All runs of the plan as they are kept, named and joined with what is known of their samples."""
    runs, predictions = [], []
    items = inputs.task.items[["item", "score"]].rename(columns={"score": "gold"}).reset_index(drop=True)
    for job in jobs:
        for run in job.runs:
            result = inputs.finished.read(run.key)
            name = {
                "sample": job.sample.name if job.sample else NO_SAMPLE,
                "adaptation": ways[job.adaptation] if job.adaptation else NO_ADAPTATION,
                "finetuning": tunings[run.tuning],
                "replicate": job.replicate,
            }
            lines = {"adaptation_line": str(job.adaptation or NO_ADAPTATION), "finetuning_line": str(run.tuning)}
            seeds = {"adaptation_seed": job.seed if job.sample else None, "finetuning_seed": run.seed}
            runs.append({**name, **lines, **seeds, **_numbers(result)})
            predictions.append(items.assign(**name, fold=result["fold"], predicted=result["predicted"]))
    about = {"model": model_name(inputs.source), "task": short_source(inputs.task.name)}
    table = pd.DataFrame(runs).astype({"adaptation_seed": "Int64"})
    table = table.merge(describe_samples(samples), on="sample", how="left", validate="many_to_one")
    table = table[RUN].assign(**about)[[*about, *RUN]].join(table.drop(columns=RUN))
    columns = [*RUN, "item", "fold", "gold", "predicted"]
    return StudyRows(table, pd.concat(predictions, ignore_index=True)[columns])


def _numbers(result: dict[str, Any]) -> dict[str, float | None]:
    """A stored result as columns of the runs."""
    record = result["adaptation"] or {}
    names = {"adaptation_loss": "training_loss", "adaptation_seconds": "seconds"}
    names |= {name: name for name in ("heldout_before", "heldout_after", "tokens", "passes")}
    scores = {name: result[name] for name in ("pearson", "spearman", "zero_shot", "finetuning_loss", "seconds")}
    return scores | {column: record.get(name) for column, name in names.items()}


def _labels(letter: str, configurations: Sequence[object]) -> dict[object, str]:
    return {configuration: f"{letter}{number}" for number, configuration in enumerate(configurations, start=1)}
