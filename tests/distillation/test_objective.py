"""The loss of each method: its parts, and where its gradients go — and nowhere else."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from labutils.distillation import METHODS, TaskData, losses, train_teacher
from labutils.distillation.curriculum import LAYERS, OUTPUTS, TASK_ONLY, LossWeights
from labutils.distillation.data import make_batch
from labutils.distillation.matchers import Sizes
from labutils.distillation.objective import Objective
from labutils.distillation.options import TrainingOptions
from labutils.distillation.students import cut_student
from labutils.distillation.targets import TeacherTargets
from labutils.distillation.task_models import TaskModel

CPU = torch.device("cpu")
OPTIONS = TrainingOptions(rank=2, epochs=4, ild_start=1)
LAYER_METHODS = ["ild", "rail-l", "rail-c", "loraild"]


@pytest.fixture
def teacher(tiny_llama: PreTrainedModel, moods: TaskData) -> TaskModel:
    return train_teacher(tiny_llama, moods, rank=2, epochs=1)


def build(name: str, teacher: TaskModel, model: PreTrainedModel, data: TaskData, options=OPTIONS):
    """A student of two blocks and the objective of a method."""
    torch.manual_seed(1)
    method = METHODS[name]
    student = TaskModel(cut_student(model, [0, 2]), data, adapter_rank=2 if name == "loraild" else None)
    student.requires_grad_(True).eval()
    sizes = Sizes(teacher.n_blocks, teacher.width, student.n_blocks, student.width, 2)
    matcher = method.matcher(sizes) if method.matcher else nn.Module()
    padded = options.padding == "paper"
    known = (
        TeacherTargets(teacher, data, data.train, states=method.states, with_padding=padded) if method.teaches else None
    )
    return student, Objective(method, options, matcher, sizes, known)


def parts_of(student: TaskModel, objective: Objective, data: TaskData, weights: LossWeights) -> dict:
    batch = make_batch(data, data.train, [0, 1, 2, 3], CPU)
    return objective.losses(student(batch.ids, batch.mask), batch, weights, objective.layer_map(2, 0))


@pytest.mark.parametrize("name", METHODS)
def test_the_parts_are_those_of_the_method(
    name: str, teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    student, objective = build(name, teacher, tiny_llama, moods)
    expected = [TASK_ONLY] * 2 if name == "none" else [OUTPUTS] * 2 if name == "kd" else [OUTPUTS, LAYERS]
    assert [objective.weights(0), objective.weights(1)] == expected
    found = parts_of(student, objective, moods, objective.weights(1))
    wanted = (
        {"task", "outputs", "layers"} if name in LAYER_METHODS else {"task"} if name == "none" else {"task", "outputs"}
    )
    assert found.keys() == wanted | {"total"}
    weights = objective.weights(1)._asdict()
    total = sum(weights[part] * loss.item() for part, loss in found.items() if part != "total")
    assert found["total"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_and_its_mapping_and_nothing_else(
    name: str, teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    student, objective = build(name, teacher, tiny_llama, moods)
    parts_of(student, objective, moods, objective.weights(1))["total"].backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.grad is None for p in tiny_llama.parameters())
    for name_, parameter in [*student.named_parameters(), *objective.matcher.named_parameters()]:
        if name == "rail-l" and name_.startswith("teacher."):
            continue  # the next test
        silent = ".lora_A." in name_ and name != "loraild"  # B is zero at first
        assert parameter.grad is not None and (silent or parameter.grad.abs().sum() > 0), name_


def test_only_the_chosen_teacher_layers_train_their_projections(
    teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    student, objective = build("rail-l", teacher, tiny_llama, moods, replace(OPTIONS, layer_map="fixed"))
    parts_of(student, objective, moods, LAYERS)["total"].backward()
    reached = [bool(layer.weight.grad.abs().sum() > 0) for layer in objective.matcher.teacher]
    assert reached == [True, False, True]  # 3 teacher blocks in 2 groups end with blocks 0 and 2


def test_the_layer_loss_of_loraild_trains_a_matrices_and_what_is_below_them(
    teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    """B matrices and the last block's own weights come after what is compared; the head too."""
    student, objective = build("loraild", teacher, tiny_llama, moods)
    parts_of(student, objective, moods, LAYERS)["layers"].backward()
    grads = {n: p.grad is not None and bool(p.grad.abs().sum() > 0) for n, p in student.named_parameters()}
    assert all(reached for n, reached in grads.items() if ".lora_A." in n)
    assert any(reached for n, reached in grads.items() if "layers.0.mlp" in n)
    assert not any(reached for n, reached in grads.items() if "layers.1.mlp" in n or n.startswith("head"))
    assert not any(reached for n, reached in grads.items() if "layers.1" in n and ".lora_B." in n)


@pytest.mark.parametrize("name", ["ild", "loraild"])
def test_padding_counts_in_paper_mode_alone(
    name: str, teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    """The published form averages over all positions of the batch, padding included."""
    found = {}
    for padding in ("masked", "paper"):
        student, objective = build(name, teacher, tiny_llama, moods, replace(OPTIONS, padding=padding))
        found[padding] = parts_of(student, objective, moods, LAYERS)["layers"].item()
    batch = make_batch(moods, moods.train, [0, 1, 2, 3], CPU)
    assert batch.mask.min() == 0
    states = METHODS[name].states
    table = objective.layer_map(2, 0)
    teaching = torch.tensordot(table, getattr(teacher.read(batch.ids, batch.mask), states), dims=1)
    given = getattr(student(batch.ids, batch.mask), states)
    if name == "ild":
        given = torch.stack([layer(each) for layer, each in zip(objective.matcher.projections, given, strict=True)])
    loss = losses.ild_loss if name == "ild" else losses.loraild_loss
    assert found["paper"] == pytest.approx(loss(teaching, given, torch.ones_like(batch.mask)).item(), rel=1e-4)
    assert found["masked"] == pytest.approx(loss(teaching, given, batch.mask).item(), rel=1e-4)
    assert found["masked"] != pytest.approx(found["paper"], rel=1e-4)


def test_random_maps_follow_seed_epoch_and_step(
    teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    def chosen(kind: str, epoch: int, step: int, seed: int = 0) -> list[int]:
        options = replace(OPTIONS, layer_map=kind, seed=seed)
        objective = replace(base, options=options, sizes=replace(base.sizes, teacher_blocks=24))
        return objective.layer_map(epoch, step).argmax(dim=1).tolist()

    _, base = build("ild", teacher, tiny_llama, moods)
    assert chosen("random-epoch", 1, 0) == chosen("random-epoch", 1, 9)
    assert len({tuple(chosen("random-epoch", epoch, 0)) for epoch in range(12)}) > 6
    assert len({tuple(chosen("random-step", 1, step)) for step in range(12)}) > 6
    assert chosen("random-step", 1, 4) == chosen("random-step", 1, 4) != chosen("random-step", 1, 4, seed=1)
