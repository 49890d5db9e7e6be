"""Training: the same rows from the same seed, after a kill too; early stopping, and the best epoch's weights."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import stop_training_at
from transformers import PreTrainedModel

from labutils.distillation import Distillation, TaskData, cut_student, distill, loop, train_teacher
from labutils.distillation.options import TrainingOptions
from labutils.distillation.scoring import item_losses, predict
from labutils.distillation.task_models import TaskModel

OPTIONS = {"rank": 2, "epochs": 4, "patience": 4, "batch_size": 8, "learning_rate": 3e-3, "ild_start": 1}


@pytest.fixture
def teacher(tiny_gpt2: PreTrainedModel, moods: TaskData) -> TaskModel:
    return train_teacher(tiny_gpt2, moods, rank=2, epochs=2, learning_rate=3e-3)


def run(teacher: TaskModel, model: PreTrainedModel, data: TaskData, method: str, **changes: object) -> Distillation:
    return distill(teacher, cut_student(model, [0, 2]), data, method=method, **(OPTIONS | changes))


def assert_same(first: Distillation, second: Distillation) -> None:
    pd.testing.assert_frame_equal(first.history, second.history)
    pd.testing.assert_frame_equal(first.items, second.items)
    assert first.scores == second.scores and first.best_epoch == second.best_epoch
    for name, tensor in first.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name


@pytest.mark.parametrize("method", ["kd", "rail-l", "loraild"])
def test_a_seed_decides_every_row(method: str, teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData) -> None:
    """GPT-2 drops out at three places, the adapters at a fourth; RAIL-KD draws layers."""
    torch.manual_seed(1)
    first = run(teacher, tiny_gpt2, moods, method)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = run(teacher, tiny_gpt2, moods, method)
    assert torch.equal(state, torch.get_rng_state())  # the caller's own randomness goes on undisturbed
    assert_same(first, second)
    other = run(teacher, tiny_gpt2, moods, method, seed=1)
    assert not first.history["total_loss"].equals(other.history["total_loss"])


@pytest.mark.parametrize("method", ["none", "rail-c", "loraild"])
def test_a_killed_run_goes_on_to_the_same_rows(
    method: str, teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    undisturbed = run(teacher, tiny_gpt2, moods, method)
    for epoch in (1, 3):
        with monkeypatch.context() as patch:
            stop_training_at(patch, 3 * epoch + 1)
            with pytest.raises(KeyboardInterrupt):
                run(teacher, tiny_gpt2, moods, method, checkpoint=tmp_path / "run")
        assert json.loads((tmp_path / "run/state.json").read_text())["epoch"] == epoch
    assert_same(undisturbed, run(teacher, tiny_gpt2, moods, method, checkpoint=tmp_path / "run"))
    assert not [path for path in tmp_path.iterdir() if path.name != "run"]
    patch_nothing_left_to_do(monkeypatch)
    assert_same(undisturbed, run(teacher, tiny_gpt2, moods, method, checkpoint=tmp_path / "run"))


def patch_nothing_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)


def test_a_kill_between_the_renames_loses_nothing(
    teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(teacher, tiny_gpt2, moods, "kd", checkpoint=tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "run.old")
    patch_nothing_left_to_do(monkeypatch)
    assert_same(first, run(teacher, tiny_gpt2, moods, "kd", checkpoint=tmp_path / "run"))


def test_a_checkpoint_of_another_run_is_refused(
    teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData, tmp_path: Path
) -> None:
    run(teacher, tiny_gpt2, moods, "kd", checkpoint=tmp_path / "run", epochs=2)
    with pytest.raises(ValueError, match="was made with seed=0"):
        run(teacher, tiny_gpt2, moods, "kd", checkpoint=tmp_path / "run", epochs=2, seed=3)
    with pytest.raises(ValueError, match="was made with stage=kd"):
        run(teacher, tiny_gpt2, moods, "none", checkpoint=tmp_path / "run", epochs=2)


def test_the_kept_weights_are_those_of_the_best_epoch(
    teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData
) -> None:
    found = run(teacher, tiny_gpt2, moods, "loraild", epochs=6, learning_rate=1e-2)
    counted = found.history[found.history["epoch"] >= 1]  # from ild_start on
    best = counted.sort_values(["validation_score", "validation_loss"], ascending=[False, True]).iloc[0]
    assert found.best_epoch == best["epoch"] and found.scores["validation"] == best["validation_score"]
    outputs = predict(found.student, moods, moods.validation)
    score = 1 - item_losses(moods.validation.targets, outputs).mean()
    assert score == pytest.approx(best["validation_score"])
    assert found.scores["test"] == pytest.approx(1 - found.items["loss"].mean())


def test_training_stops_when_validation_no_longer_improves(
    teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData
) -> None:
    found = run(teacher, tiny_gpt2, moods, "none", learning_rate=1e-12, epochs=40, patience=3)
    assert len(found.history) == found.best_epoch + 1 + 3 < 40


def test_the_history_tells_the_curriculum(teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData) -> None:
    history = run(teacher, tiny_gpt2, moods, "ild", ild_start=2).history
    assert history["weight_layers"].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3])
    assert history["layers_loss"].isna().tolist() == [True, True, False, False]
    assert (history["total_loss"] > 0).all() and history["epoch"].tolist() == [0, 1, 2, 3]


def test_the_learning_rate_rises_and_falls() -> None:
    options = TrainingOptions(learning_rate=1.0, warmup_share=0.1)
    rates = [loop.learning_rate(step, steps=100, options=options) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1 and rates[55] == pytest.approx(0.5) and rates[99] == pytest.approx(1 / 90)
    assert loop.learning_rate(0, steps=1, options=replace(options, warmup_share=0.0)) == 1


def test_a_loss_that_is_not_finite_stops_with_advice(
    teacher: TaskModel, tiny_gpt2: PreTrainedModel, moods: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Objective, "losses", lambda *_: {"total": torch.tensor(float("nan"))})
    with pytest.raises(ValueError, match="lower the learning rate"):
        run(teacher, tiny_gpt2, moods, "none")
