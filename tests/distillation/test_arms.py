"""Arms of a study, by their names."""

import pytest

from labutils.distillation.arms import Arm, DistillSetting, arms_along, parse_arm
from labutils.distillation.options import TrainingOptions


def test_arms_are_taken_apart() -> None:
    assert parse_arm("kd") == Arm("kd", "kd")
    assert parse_arm("loraild/rank=32") == Arm("loraild/rank=32", "loraild", rank=32)
    assert parse_arm("kd/share=0.5/test-logits") == Arm("kd/share=0.5/test-logits", "kd", None, 0.5, True)
    assert parse_arm("ild/cut") == Arm("ild/cut", "ild", cut=True)
    assert [parse_arm(arm).tuned for arm in ("ild/cut", "ild/rank=2/cut", "ild/share=2")] == [
        "ild/cut",
        "ild/cut",
        "ild",
    ]


@pytest.mark.parametrize("part", ["rank=0", "rank=x", "rank=1.5", "share=0", "share=-1", "share=", "rnak=8", ""])
def test_wrong_parts_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match="is not one of rank=…, share=…, cut, test-logits"):
        parse_arm(f"kd/{part}")


def test_wrong_methods_are_refused() -> None:
    with pytest.raises(LookupError, match="Did you mean 'loraild'"):
        parse_arm("lora-ild/rank=8")
    with pytest.raises(ValueError, match="'test-logits' is not one of"):
        parse_arm("none/test-logits")


def test_settings_give_options_that_training_accepts() -> None:
    setting = DistillSetting(pooling="last", ild_start=3, temperature=4.0)
    student, teacher = (TrainingOptions(**given(16)) for given in (setting.student_options, setting.teacher_options))
    assert (student.rank, student.pooling, student.ild_start, student.temperature) == (16, "last", 3, 4.0)
    assert (teacher.rank, teacher.epochs, teacher.learning_rate) == (16, setting.teacher_epochs, setting.teacher_rate)


def test_arms_along_a_part_leave_the_default_unsaid() -> None:
    names = arms_along(["kd", "loraild"], "rank", [8, 32], default=8)
    assert names == ["kd", "kd/rank=32", "loraild", "loraild/rank=32"]
    assert arms_along(["kd"], "share", [0.25, 1.0, 2], default=1.0) == ["kd/share=0.25", "kd", "kd/share=2"]
    assert [parse_arm(name).rank for name in names] == [None, 32, None, 32]
