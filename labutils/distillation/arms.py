"""Arms and sizes of a distillation study.

An arm is a method and what sets it apart: "kd", "loraild/rank=32", "ild/share=0.5", "kd/cut", "kd/test-logits".
"cut" starts the student from some of the pretrained model's blocks, at full width, instead of from random weights;
`rank` is that of the adapters of teacher and student (and RAIL-KD's size), `share` the training items as a share of
the setting's, and "test-logits" lets the student also learn from the teacher's outputs on the test items: a control
that must help, and no method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labutils.core.options import suggest
from labutils.distillation.matchers import find_method

PARTS = ("rank=…", "share=…", "cut", "test-logits")


@dataclass(frozen=True)
class Arm:
    """One way to train a student; `rank` None takes the setting's."""

    name: str
    method: str
    rank: int | None = None
    share: float = 1.0
    test_logits: bool = False
    cut: bool = False

    @property
    def tuned(self) -> str:
        """The arm on which its learning rate is chosen: the method, with the same kind of student."""
        return f"{self.method}/cut" if self.cut else self.method


@dataclass(frozen=True)
class DistillSetting:
    """Sizes of a study.

    Attributes:
        n_train, n_validation, n_test: items; arms with another share train on more or fewer.
        n_blocks: of the student.
        width: of a new, narrower student; None cuts the student from the teacher's blocks at full width.
        rank: of adapters, and RAIL-KD's common size.
        epochs, patience, batch_size, ild_start, curriculum, layer_map, padding, pooling, temperature: see
            `TrainingOptions`.
        teacher_epochs, teacher_rate: training of the teacher's adapters.
        n_tuning: seeds, of their own, on which the learning rate of each task and method is chosen.
        max_length: tokens per row.
        seed: decides which items, and the teacher's training; students have seeds of their own.
    """

    n_train: int = 128
    n_validation: int = 100
    n_test: int = 300
    n_blocks: int = 2
    width: int | None = 48
    rank: int = 8
    epochs: int = 16
    patience: int = 5
    batch_size: int = 32
    ild_start: int = 2
    curriculum: Literal["sharp", "smooth"] = "sharp"
    layer_map: str | None = None
    padding: Literal["masked", "paper"] = "masked"
    pooling: Literal["mean", "last"] = "mean"
    temperature: float = 1.0
    teacher_epochs: int = 8
    teacher_rate: float = 3e-3
    n_tuning: int = 2
    max_length: int = 128
    seed: int = 0

    def student_options(self, rank: int) -> dict[str, object]:
        """The options of `distill` that all arms of a rank share."""
        names = ("epochs", "patience", "batch_size", "ild_start", "curriculum", "layer_map", "padding", "pooling")
        return {name: getattr(self, name) for name in (*names, "temperature")} | {"rank": rank}

    def teacher_options(self, rank: int) -> dict[str, object]:
        """The options of `train_teacher`."""
        rates = {"learning_rate": self.teacher_rate, "epochs": self.teacher_epochs, "patience": self.teacher_epochs}
        return rates | {"batch_size": self.batch_size, "pooling": self.pooling, "rank": rank, "seed": self.seed}


def parse_arm(name: str) -> Arm:
    """Take an arm apart.

    Raises:
        LookupError: an unknown method.
        ValueError: an unknown part, a rank below 1 or a share of nothing; the nearest known part is named.
    """
    method, *parts = name.split("/")
    teaches = find_method(method).teaches
    given: dict[str, object] = {}
    for part in parts:
        key, _, value = part.partition("=")
        try:
            if key == "rank":
                given["rank"] = _positive(int(value))
            elif key == "share":
                given["share"] = _positive(float(value))
            elif part == "cut":
                given["cut"] = True
            elif part == "test-logits" and teaches:
                given["test_logits"] = True
            else:
                raise ValueError(part)
        except ValueError as error:
            raise ValueError(
                f"arm {name!r}: {part!r} is not one of {', '.join(PARTS)}, with a number above 0.{suggest(part, PARTS)}"
            ) from error
    return Arm(name, method, **given)


def arm_at(method: str, part: Literal["rank", "share"], value: float | int, default: float | int) -> str:
    """The arm of a method at a value of a part; at the setting's own value (`default`) the method alone."""
    return method if value == default else f"{method}/{part}={value:g}"


def arms_along(
    methods: Sequence[str], part: Literal["rank", "share"], values: Sequence[float | int], *, default: float | int
) -> list[str]:
    """Every method at every value of a part: "kd", "kd/rank=32", … with a default rank of 8.

    >>> arms_along("rank", [8, 32], ["loraild"], default=8)
    """
    return [arm_at(method, part, value, default) for method in methods for value in values]


def _positive(number: int | float) -> int | float:
    if not number > 0:
        raise ValueError(number)
    return number
