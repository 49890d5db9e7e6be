"""distill() end to end: every method learns, leaves its inputs alone, counts its mapping, and refuses misfits."""

import copy

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from labutils.distillation import METHODS, TaskData, cut_student, distill, pipeline, train_teacher
from labutils.distillation.scoring import score_items
from labutils.distillation.task_models import TaskModel
from labutils.models.structure import find_blocks, prunable_layers

OPTIONS = {"rank": 2, "epochs": 3, "batch_size": 8, "learning_rate": 3e-3}


@pytest.fixture
def teacher(tiny_llama: PreTrainedModel, moods: TaskData) -> TaskModel:
    return train_teacher(tiny_llama, moods, **OPTIONS)


@pytest.mark.parametrize("method", METHODS)
def test_methods_leave_teacher_and_student_as_they_were(
    method: str, teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    student = cut_student(tiny_llama, [0, 2])
    before = [copy.deepcopy(model.state_dict()) for model in (teacher, student)]
    found = distill(teacher, student, moods, method=method, **OPTIONS)
    for model, state in zip((teacher, student), before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not found.student.training and not any(p.requires_grad for p in found.student.parameters())
    trained = found.student.backbone.state_dict()
    assert trained.keys() == student.base_model.state_dict().keys()  # nothing of the mapping is left in the student
    assert not torch.equal(trained["layers.0.mlp.up_proj.weight"], student.model.layers[0].mlp.up_proj.weight)
    assert set(found.scores) == {"validation", "test"} and len(found.items) == len(moods.test)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("tiny_llama", "moods"), ("tiny_gpt2", "pairs"), ("tiny_opt", "moods"), ("tiny_bert", "pairs")],
)
def test_every_family_and_kind_goes_through_loraild(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    model, data = request.getfixturevalue(name), request.getfixturevalue(kind)
    # given a backbone, it trains the teacher first
    found = distill(model, cut_student(model, [0, 2]), data, method="loraild", **(OPTIONS | {"epochs": 1}))
    assert found.history["layers_loss"].between(0, 4).all() and found.parameters["thrown away"] == 0


def test_a_student_can_learn_the_task(tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    options = {"epochs": 30, "patience": 30, "batch_size": 8, "learning_rate": 1e-2}
    found = distill(None, cut_student(tiny_llama, [0]), moods, method="none", **options)
    assert found.scores["test"] >= 0.75 > moods.chance
    assert found.history["task_loss"].iloc[-1] < 0.2 < found.history["task_loss"].iloc[0]


def test_no_teacher_is_trained_for_a_student_that_learns_from_labels(
    tiny_llama: PreTrainedModel, moods: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, options = cut_student(tiny_llama, [0, 2]), OPTIONS | {"epochs": 1}
    alone = distill(None, student, moods, method="none", **options)
    monkeypatch.setattr(pipeline, "train_teacher", lambda *_, **__: pytest.fail("a teacher was trained"))
    beside = distill(tiny_llama, student, moods, method="none", **options)
    assert beside.history["total_loss"].tolist() == alone.history["total_loss"].tolist()


def test_a_layer_loss_brings_the_layers_together(
    teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    for method in ("ild", "rail-l", "rail-c", "loraild"):
        options = OPTIONS | {"epochs": 6, "patience": 6, "learning_rate": 1e-2, "layer_map": "fixed"}
        history = distill(teacher, cut_student(tiny_llama, [0, 2]), moods, method=method, **options).history
        assert history["layers_loss"].iloc[-1] < 0.8 * history["layers_loss"].iloc[0], method


def test_a_merged_teacher_says_the_same(teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    merged = train_teacher(tiny_llama, moods, merge=True, **OPTIONS)
    first, second = (score_items(model, moods, moods.test) for model in (teacher, merged))
    assert first["prediction"].tolist() == second["prediction"].tolist()
    student = cut_student(tiny_llama, [0, 2])
    losses = [
        distill(model, student, moods, method="ild", **OPTIONS).history["total_loss"].tolist()
        for model in (teacher, merged)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    with pytest.raises(ValueError, match="merge=False"):
        distill(merged, student, moods, method="loraild", **OPTIONS)


def test_parameters_are_counted(teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    student = cut_student(tiny_llama, [0, 2])
    size = sum(p.numel() for p in student.base_model.parameters()) + 2 * (16 + 1)  # and the head
    expected = {
        "none": (0, 0), "kd": (0, 0), "ild": (2 * 16 * 16, 0), "rail-l": (5 * 17 * 2, 0),
        "rail-c": (2 * (2 * 16 + 1) * 2, 0), "loraild": (0, 2 * 3 * 2 * (16 + 16)),
    }  # fmt: skip
    for method, (thrown_away, merged) in expected.items():
        found = distill(teacher, student, moods, method=method, **(OPTIONS | {"epochs": 1})).parameters
        assert found == {"student": size, "thrown away": thrown_away, "merged": merged}


@pytest.mark.parametrize("method", ["none", "ild"])
def test_the_zeros_of_a_pruned_student_are_kept(
    method: str, teacher: TaskModel, tiny_llama: PreTrainedModel, moods: TaskData
) -> None:
    student = cut_student(tiny_llama, [0, 2])
    masks = {}
    for number, block in enumerate(find_blocks(student)[1]):
        for name, layer in prunable_layers(block).items():
            masks[number, name] = torch.rand_like(layer.weight) < 0.5
            nn.init.zeros_(layer.weight[0])
            layer.weight.data[masks[number, name]] = 0.0
    for keep in (True, False):
        found = distill(teacher, student, moods, method=method, keep_zeros=keep, **OPTIONS)
        for (number, name), mask in masks.items():
            weight = prunable_layers(find_blocks(found.student.backbone)[1][number])[name].weight
            assert bool((weight[mask] == 0).all()) == keep
            assert (weight[1:][~mask[1:]] != 0).all()
    with pytest.raises(ValueError, match="would fill the zeros"):
        distill(teacher, student, moods, method="loraild", keep_zeros=True, **OPTIONS)


def test_what_does_not_go_together_is_refused(
    teacher: TaskModel, tiny_llama: PreTrainedModel, tiny_gpt2: PreTrainedModel, moods: TaskData, pairs: TaskData
) -> None:
    student = cut_student(tiny_llama, [0, 2])
    for name, given, wanted, message in [
        ("kd", None, {}, "pass what train_teacher returns"),
        ("loraild", teacher, {"rank": 3}, "same rank"),
        ("kd", teacher, {"epoch": 3}, "Did you mean 'epochs'"),
        ("kd", teacher, {"learning_rate": 0.0}, "must be above 0"),
        ("kd", teacher, {"epochs": 0}, "epochs=0 must be at least 1"),
        ("ild", teacher, {"ild_start": 3}, "0 to 2"),
        ("ild", teacher, {"layer_map": "fixd"}, "Did you mean 'fixed'"),
    ]:
        with pytest.raises(ValueError, match=message):
            distill(given, student, moods, method=name, **(OPTIONS | wanted))
    with pytest.raises(LookupError, match="Did you mean 'rail-c'"):
        distill(teacher, student, moods, method="rail_c", **OPTIONS)
    with pytest.raises(ValueError, match="train the teacher on this task"):
        distill(teacher, student, pairs, method="kd", **OPTIONS)
    with pytest.raises(ValueError, match="on models of one family"):
        distill(teacher, cut_student(tiny_gpt2, [0, 2]), moods, method="loraild", **OPTIONS)
    broken = cut_student(tiny_llama, [0])
    next(broken.parameters()).data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        distill(teacher, broken, moods, method="kd", **OPTIONS)


def test_a_student_with_more_blocks_than_its_teacher_is_refused(tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    small = train_teacher(cut_student(tiny_llama, [1]), moods, rank=2, epochs=1)
    with pytest.raises(ValueError, match="student of 3 blocks"):
        distill(small, tiny_llama, moods, method="ild", **OPTIONS)
    assert distill(small, tiny_llama, moods, method="kd", **OPTIONS).best_epoch >= 0
