"""The jobs of a study: which runs there are, what each depends on, and how one is done."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from labutils.adaptation.configurations import Adaptation, Tuning
from labutils.adaptation.correlations import fold_correlations
from labutils.adaptation.samples import Sample
from labutils.adaptation.similarity_tuning import tune_similarity
from labutils.adaptation.training import AdaptationRecord, Base, adapt_model, load_base
from labutils.core.files import hash_json
from labutils.core.progress import progress
from labutils.core.provenance import hash_tokenizer, hash_weights
from labutils.core.seeding import generator
from labutils.data.corpora import load_tokens
from labutils.data.tasks import Task
from labutils.runner.finished_runs import FinishedRuns, Key

NO_SAMPLE, NO_ADAPTATION = "base", "none"
FORMAT = 2  # of `FinishedRuns`: raise it when the same inputs come to give other numbers


@dataclass(frozen=True)
class StudySetting:
    """Sizes of a study.

    `n_folds` of the cross-validation; `n_base` runs of the base model per fine-tuning, each with a seed of its own;
    tokens per window (`seq_len`), and windows of unseen domain text on which adaptations are read (`n_heldout`).
    """

    n_folds: int = 5
    n_base: int = 30
    seq_len: int = 128
    n_heldout: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """One fine-tuning, its seed, and all that its numbers depend on."""

    tuning: Tuning
    seed: int
    key: Key


@dataclass(frozen=True)
class Job:
    """The runs that start from the same weights: those adapted on one sample in one way, or the base model's own."""

    sample: Sample | None
    adaptation: Adaptation | None
    replicate: int
    seed: int
    weights: Key
    runs: list[Run]

    @property
    def name(self) -> str:
        """For progress and errors."""
        return f"{self.sample.name}, {self.adaptation}" if self.sample else f"{NO_SAMPLE} {self.replicate}"


@dataclass(frozen=True)
class Inputs:
    """What all jobs share. It travels to the workers; the model itself is loaded there."""

    source: str
    revision: str | None
    task: Task
    heldout: Int64[Tensor, "n_heldout seq_len"]
    setting: StudySetting
    finished: FinishedRuns
    hashes: Key


def gather_inputs(
    source: str, task: Task, *, heldout: str, setting: StudySetting, finished: FinishedRuns, revision: str | None
) -> Inputs:
    """Load and fingerprint what a study reads; see `run_study`."""
    base = load_base(source, revision=revision)
    tokens = load_tokens(heldout, base.tokenizer, n_sequences=setting.n_heldout, seq_len=setting.seq_len, split="test")
    hashes = {
        "model": hash_weights(base.model),
        "tokenizer": hash_tokenizer(base.tokenizer),
        "pairs": hash_json(task.items.to_json(orient="split")),
        "n_folds": setting.n_folds,
        "fold_seed": setting.seed,
    }
    return Inputs(source, revision, task, tokens, setting, finished, hashes)


def plan_jobs(
    inputs: Inputs, samples: Sequence[Sample], adaptations: Sequence[Adaptation], tunings: Sequence[Tuning]
) -> list[Job]:
    """All jobs of a study with all their runs: samples × adaptations, then the replicates of the base model."""
    groups: list[tuple[Sample | None, Adaptation | None, int]]
    groups = [(sample, adaptation, 0) for sample in samples for adaptation in adaptations]
    groups += [(None, None, replicate) for replicate in range(inputs.setting.n_base)]
    return [_plan_job(inputs, *group, tunings) for group in groups]


def _plan_job(
    inputs: Inputs, sample: Sample | None, adaptation: Adaptation | None, replicate: int, tunings: Sequence[Tuning]
) -> Job:
    """Seeds depend on names and settings alone: a run stays the same whatever else its study contains."""

    def seed_of(*what: object) -> int:
        group = sample.name if sample else f"{NO_SAMPLE} {replicate}"
        return int(generator(inputs.setting.seed, group, adaptation, *what).integers(2**30))

    weights: Key = {"model": inputs.hashes["model"], "adaptation": None}
    if sample is not None:
        weights |= {"adaptation": str(adaptation), "seed": seed_of(), "texts": hash_json(sample.texts)}
        weights |= {"tokenizer": inputs.hashes["tokenizer"], "heldout": hash_json(inputs.heldout.tolist())}
    runs = []
    for tuning in tunings:
        seed = seed_of(tuning)
        runs.append(Run(tuning, seed, {**inputs.hashes, "weights": weights, "tuning": str(tuning), "seed": seed}))
    return Job(sample, adaptation, replicate, seed_of(), weights, runs)


def unfinished(inputs: Inputs, job: Job) -> Job:
    """The job with only the runs that are not finished yet."""
    return replace(job, runs=[run for run in job.runs if not inputs.finished.has(run.key)])


def finish_job(inputs: Inputs, job: Job) -> int:
    """Do and store the job's runs, one after the other; returns their number. An error tells which run it was."""
    base, record = None, None
    for run in progress(job.runs, description=job.name, unit="run"):
        try:
            if base is None:
                base, record = _adapted(inputs, job)
            inputs.finished.write(run.key, _tune(inputs, base, run) | {"adaptation": record and asdict(record)})
        except ValueError as error:
            raise ValueError(f"run {job.name}; {run.tuning}: {error}") from error
    inputs.finished.drop_weights(job.weights)
    return len(job.runs)


def _adapted(inputs: Inputs, job: Job) -> tuple[Base, AdaptationRecord | None]:
    """The job's model: adapted now, or, after an interruption, with the weights that were stored then."""
    base = load_base(inputs.source, revision=inputs.revision)
    if job.sample is None or job.adaptation is None:
        return base, None
    if stored := inputs.finished.load_weights(job.weights, base.model):
        return base, AdaptationRecord(**stored)
    record = adapt_model(
        base, job.sample.texts, job.adaptation, heldout=inputs.heldout, seq_len=inputs.setting.seq_len, seed=job.seed
    )
    inputs.finished.save_weights(job.weights, base.model, asdict(record))
    return base, record


def _tune(inputs: Inputs, base: Base, run: Run) -> dict[str, Any]:
    """One run's numbers; predictions in the order of the task's items."""
    started = time.monotonic()
    found = tune_similarity(
        base.model, base.tokenizer, inputs.task.items, run.tuning,
        n_folds=inputs.setting.n_folds, fold_seed=inputs.setting.seed, seed=run.seed,
    )  # fmt: skip
    pearson, spearman = fold_correlations(found.predictions)
    zero_shot, _ = fold_correlations(found.predictions.assign(predicted=found.predictions["cosine"]))
    return {
        "finetuning_loss": found.training_loss,
        "pearson": pearson,
        "spearman": spearman,
        "zero_shot": zero_shot,
        "seconds": time.monotonic() - started,
        "fold": found.predictions["fold"].tolist(),
        "predicted": found.predictions["predicted"].tolist(),
    }
