"""One task with its trained teacher, and the rows of one student on it."""

import time
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.files import hash_json
from labutils.core.provenance import hash_tokenizer, hash_weights
from labutils.distillation.arms import Arm, DistillSetting
from labutils.distillation.data import Examples, TaskData, load_task_data
from labutils.distillation.layer_analysis import cluster_layers, probe_layers
from labutils.distillation.layer_maps import group_ends
from labutils.distillation.pipeline import distill, train_teacher
from labutils.distillation.scoring import UNITS, predict, score_items
from labutils.distillation.students import cut_student, narrow_student
from labutils.distillation.task_models import TaskModel
from labutils.models.loading import load_model, model_name
from labutils.models.structure import find_blocks
from labutils.runner.finished_runs import FinishedRuns, Frames

FORMAT = 2  # of `FinishedRuns`: raise it when the same inputs come to give other numbers


@dataclass(frozen=True)
class Bench:
    """A task's items, enough for the largest share, and the teacher that was trained on the setting's share of them.

    `key` is a hash of everything that both depend on; `teacher_score` is the teacher's on the validation items, and
    `teacher_frames` are its own rows.
    """

    model: str
    backbone: PreTrainedModel
    data: TaskData
    rank: int
    teacher: TaskModel
    key: str
    teacher_score: float
    teacher_frames: Frames = field(repr=False)


@dataclass(frozen=True)
class Backbone:
    """The backbone of all teachers, and hashes of everything that a teacher depends on besides its task."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    hashes: dict[str, str]
    revision: str | None


def load_backbone(source: str, *, revision: str | None) -> Backbone:
    """Load a backbone as `load_model` does."""
    model, tokenizer = load_model(source, revision=revision)
    hashes = {"model": hash_weights(model), "tokenizer": hash_tokenizer(tokenizer)}
    return Backbone(model_name(source), model, tokenizer, hashes, revision)


def prepare_bench(
    backbone: Backbone, task: str, rank: int, largest: float, setting: DistillSetting, finished: FinishedRuns
) -> Bench:
    """Load a task and train its teacher, or take a finished one; `largest` is the largest share of any arm."""
    data = load_task_data(
        task, backbone.tokenizer, n_train=round(largest * setting.n_train), n_validation=setting.n_validation,
        n_test=setting.n_test, max_length=setting.max_length, seed=setting.seed, revision=backbone.revision,
    )  # fmt: skip
    options, taught = setting.teacher_options(rank), take_share(data, 1.0, setting)
    key = finished.name({**backbone.hashes, "items": hash_items(taught), "teacher": options})
    checkpoint = None if finished.folder is None else finished.folder / "teachers" / key
    teacher = train_teacher(backbone.model, taught, checkpoint=checkpoint, **options)
    score = 1 - float(score_items(teacher, data, data.validation)["loss"].mean())
    bench = Bench(backbone.name, backbone.model, data, rank, teacher, key, score, {})
    return replace(bench, teacher_frames=_teacher_rows(bench))


def hash_items(data: TaskData) -> str:
    """A hash of a task's rows, targets and labels."""
    parts = [[part.rows, part.targets.tolist()] for part in (data.train, data.validation, data.test)]
    return hash_json([parts, data.labels, data.padding])


def take_share(data: TaskData, share: float, setting: DistillSetting) -> TaskData:
    """The task with its first `share` · n_train training items."""
    n = max(1, round(share * setting.n_train))
    if n > len(data.train):
        raise ValueError(f"share={share} needs {n} training items of {data.name}, which has {len(data.train)} here")
    return replace(data, train=data.train.take(range(n)))


def add_test_items(data: TaskData, teacher: TaskModel) -> TaskData:
    """The task with its test items among the training items, labelled by the teacher: a control, never a method."""
    outputs = predict(teacher, data, data.test)
    targets = outputs[:, 0] if data.kind == "regression" else outputs.argmax(dim=1)
    known, asked, halves = data.train, data.test, (2 if data.kind == "regression" else 1)
    rows = [
        row
        for half in range(halves)
        for part in (known, asked)
        for row in part.rows[half * len(part) : (half + 1) * len(part)]
    ]
    train = Examples(rows, torch.cat([known.targets, targets.to(known.targets.dtype)]), known.items + asked.items)
    return replace(data, train=train)


def make_student(model: PreTrainedModel, setting: DistillSetting, seed: int, *, cut: bool = False) -> PreTrainedModel:
    """A narrower network drawn from the seed, or, if `cut`, the pretrained model's blocks of the fixed layer map."""
    if setting.width is not None and not cut:
        return narrow_student(model, n_blocks=setting.n_blocks, width=setting.width, seed=seed)
    return cut_student(model, group_ends(len(find_blocks(model)[1]), setting.n_blocks))


def measure_run(bench: Bench, arm: Arm, seed: int, rate: float, setting: DistillSetting) -> Frames:
    """Train one student and read it: items, run, probes and, for a classification, clusters."""
    started = time.perf_counter()
    data = take_share(bench.data, arm.share, setting)
    if arm.test_logits:
        data = add_test_items(data, bench.teacher)
    options = setting.student_options(bench.rank) | {"learning_rate": rate, "seed": seed}
    student = make_student(bench.backbone, setting, seed, cut=arm.cut)
    result = distill(bench.teacher, student, data, method=arm.method, **options)
    names = _names(bench, arm.name, arm.method, seed)
    run = names | {
        "rank": bench.rank, "share": arm.share, "rate": rate, **result.scores, "chance": data.chance,
        "best_epoch": result.best_epoch, "epochs": len(result.history), **result.parameters,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip
    return _analysed(result.student, data, names) | {
        "items": result.items[["item", "loss"]].assign(**names),
        "run": pd.DataFrame([run]),
    }


def measure_untrained(bench: Bench, seed: int, setting: DistillSetting) -> Frames:
    """The layers of a student before it is trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = TaskModel(make_student(bench.backbone, setting, seed), bench.data, pooling=setting.pooling)
    names = _names(bench, "untrained", "untrained", seed)
    return _analysed(student, bench.data, names)


def _teacher_rows(bench: Bench) -> Frames:
    names = _names(bench, "teacher", "teacher", 0)
    items = score_items(bench.teacher, bench.data, bench.data.test)[["item", "loss"]].assign(**names)
    return _analysed(bench.teacher, bench.data, names) | {"items": items}


def _analysed(model: TaskModel, data: TaskData, names: dict[str, object]) -> Frames:
    about = names | {"blocks": model.n_blocks}
    frames = {"probes": probe_layers(model, data).assign(**about)}
    if data.kind == "classification":
        frames["clusters"] = cluster_layers(model, data).assign(**about)
    return frames


def _names(bench: Bench, arm: str, method: str, seed: int) -> dict[str, object]:
    return {
        "model": bench.model, "calibration": bench.data.training, "evaluation": bench.data.name, "arm": arm,
        "method": method, "seed": seed, "unit": UNITS[bench.data.kind],
    }  # fmt: skip
