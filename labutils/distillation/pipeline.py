"""Train a teacher on a task, and distil it into a student: `train_teacher` and `distill`."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedModel

from labutils.core.options import read_options
from labutils.distillation.adapters import adapter_matrices, has_adapters
from labutils.distillation.data import TaskData
from labutils.distillation.loop import fit
from labutils.distillation.matchers import METHODS, Method, Sizes, find_method
from labutils.distillation.objective import Objective
from labutils.distillation.options import TrainingOptions
from labutils.distillation.scoring import score_items
from labutils.distillation.targets import TeacherTargets
from labutils.distillation.task_models import TaskModel
from labutils.models.structure import check_finite, find_blocks, prunable_layers


@dataclass(frozen=True)
class Distillation:
    """A trained student and how it came about.

    Attributes:
        method: name of the method.
        options: what it was trained with.
        student: the student, its adapters merged, with the weights of its best epoch.
        history: one row per epoch: learning rate, weights and mean training losses of the parts (`task`, `outputs`,
            `layers`, `total`; NaN where a part did not count), and the validation score and loss.
        best_epoch: the epoch, from 0, whose weights were kept.
        scores: "validation" and "test": accuracy or Spearman's ρ.
        items: the test items, as `score_items` gives them.
        parameters: numbers of parameters: "student" (backbone and head), "thrown away" (the learned mapping, of no use
            after training) and "merged" (adapters, added to the student's weights).
    """

    method: str
    options: TrainingOptions
    student: TaskModel
    history: pd.DataFrame
    best_epoch: int
    scores: dict[str, float]
    items: pd.DataFrame
    parameters: dict[str, int]


def train_teacher(
    model: PreTrainedModel,
    task: TaskData,
    *,
    merge: bool = False,
    checkpoint: Path | None = None,
    **options: object,
) -> TaskModel:
    """Train LoRA adapters on a backbone's query, key and value, and a head, on a task.

    >>> teacher = train_teacher(model, task, rank=8)

    Args:
        merge: add the adapters to the weights. Outputs and hidden states stay as they are, and each pass costs less;
            LoRAILD needs a teacher that has kept them.
        checkpoint: see `distill`.
        **options: see `TrainingOptions`; `rank` is the adapters'.

    Raises:
        ValueError, LookupError: an option or a backbone that cannot be used.
    """
    settings = read_options(TrainingOptions, options, of="training")
    check_finite(model)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        teacher = TaskModel(model, task, pooling=settings.pooling, adapter_rank=settings.rank)
    objective = Objective(METHODS["none"], settings, nn.Module())
    fit(teacher, objective, task, about={"stage": "teacher", "task": task.name}, checkpoint=checkpoint)
    if merge:
        teacher.merge()
    return teacher.eval().requires_grad_(False)


def distill(
    teacher: TaskModel | PreTrainedModel | None,
    student: PreTrainedModel,
    task: TaskData,
    *,
    method: str,
    checkpoint: Path | None = None,
    **options: object,
) -> Distillation:
    """Train a student on a task with the help of a teacher.

    >>> result = distill(teacher, cut_student(model, [2, 5]), task, method="loraild", rank=8)

    The loss is l0 · task + l1 · outputs + l2 · layers: labels, the teacher's outputs, and what the method compares of
    the layers (`labutils.distillation.losses`), weighed by `loss_weights`. All weights of the student are trained; the
    teacher is frozen. Neither of the two models that are passed is changed.

    Args:
        teacher: what `train_teacher` returned, or a backbone to be trained so first with the same options; the method
            "none" needs none and passes it over.
        student: a backbone, for instance from `cut_student` or `narrow_student`; it is copied.
        task: from `load_task_data`, with the tokenizer that both share.
        method: "none" (labels alone), "kd", "ild", "rail-l", "rail-c" or "loraild".
        checkpoint: a folder that is written after every epoch; a run that finds its own checkpoint there goes on from
            it and ends with the same rows as one that was never stopped.
        **options: see `TrainingOptions`.

    Raises:
        LookupError: an unknown method, or no peft for adapters.
        ValueError: an option outside its range; a teacher that is missing, was trained for another task, has merged the
            adapters that the method needs, or has adapters of another rank; a student that has more blocks than the
            teacher, or a pruned one whose zeros adapters would fill; weights that are not finite.
    """
    chosen, settings = find_method(method), read_options(TrainingOptions, options, of="training")
    if not chosen.teaches:
        teacher = None  # nothing would be learned from it, so it is not trained either
    elif isinstance(teacher, PreTrainedModel):
        teacher = train_teacher(teacher, task, **options)
    check_finite(student)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        rank = settings.rank if chosen.states == "adapters" else None
        model = TaskModel(student, task, pooling=settings.pooling, adapter_rank=rank)
        sizes = _check_pair(teacher, model, task, method, chosen, settings)
        matcher = chosen.matcher(sizes).to(model.device) if chosen.matcher else nn.Module()
    model.requires_grad_(True)
    if settings.keep_zeros:
        _keep_zeros(model)
    objective = Objective(chosen, settings, matcher, sizes, _targets(teacher, task, chosen, settings))
    record = fit(model, objective, task, about={"stage": method, "task": task.name}, checkpoint=checkpoint)
    parameters = _count_parameters(model, matcher)
    model.merge()
    items = score_items(model, task, task.test)
    history = pd.DataFrame(record.history)
    scores = {
        "validation": float(history["validation_score"][record.best_epoch]),
        "test": 1 - float(items["loss"].mean()),
    }
    model.eval().requires_grad_(False)
    return Distillation(method, settings, model, history, record.best_epoch, scores, items, parameters)


def _targets(
    teacher: TaskModel | None, task: TaskData, method: Method, options: TrainingOptions
) -> TeacherTargets | None:
    if teacher is None:
        return None
    with_padding = options.padding == "paper"
    return TeacherTargets(teacher, task, task.train, states=method.states, with_padding=with_padding)


def _check_pair(
    teacher: TaskModel | None, student: TaskModel, task: TaskData, name: str, method: Method, options: TrainingOptions
) -> Sizes | None:
    """Whether teacher and student go together under a method, and their sizes if layers are compared."""
    if not method.teaches:
        return None
    if teacher is None:
        raise ValueError(f"the method {name!r} learns from a teacher: pass what train_teacher returns")
    if teacher.head.out_features != task.n_outputs or teacher.paired != student.paired:
        raise ValueError(
            f"the teacher's head has {teacher.head.out_features} outputs, {task.name} needs {task.n_outputs}: train "
            "the teacher on this task"
        )
    if method.states is None:
        return None
    if method.states == "adapters":
        _check_adapters(teacher, student, name, options)
    return Sizes(teacher.n_blocks, teacher.width, student.n_blocks, student.width, options.rank)


def _check_adapters(teacher: TaskModel, student: TaskModel, name: str, options: TrainingOptions) -> None:
    if options.keep_zeros:
        raise ValueError(
            f"merging the adapters of {name!r} would fill the zeros of a pruned student: choose another method, or "
            "keep_zeros=False"
        )
    if not has_adapters(teacher.backbone):
        raise ValueError(f"{name!r} reads the teacher's adapters, which were merged: train it with merge=False")
    sizes = [sum(a.out_features for a in adapter_matrices(model.backbone)[0]) for model in (teacher, student)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the teacher's adapters put out {sizes[0]} numbers per block, the student's {sizes[1]} (rank "
            f"{options.rank}): train both with the same rank, on models of one family"
        )


def _keep_zeros(model: TaskModel) -> None:
    """Zero the gradient wherever a matrix of the blocks is zero: AdamW then leaves these weights at zero."""
    for block in find_blocks(model.backbone)[1]:
        for layer in prunable_layers(block).values():
            mask = (layer.weight.detach() != 0).to(layer.weight.dtype)
            layer.weight.register_hook(lambda gradient, mask=mask: gradient * mask)


def _count_parameters(model: TaskModel, matcher: nn.Module) -> dict[str, int]:
    adapters = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    student = sum(p.numel() for p in model.parameters()) - adapters
    thrown_away = sum(p.numel() for p in matcher.parameters())
    return {"student": student, "thrown away": thrown_away, "merged": adapters}
