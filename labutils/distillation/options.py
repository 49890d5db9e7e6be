"""Everything that training a teacher or a student accepts beyond its named arguments, with units and defaults."""

from dataclasses import dataclass
from typing import Literal

from labutils.distillation.curriculum import CURRICULA
from labutils.distillation.layer_maps import check_layer_map


@dataclass(frozen=True)
class TrainingOptions:
    """Options of `train_teacher` and `distill`.

    Attributes:
        learning_rate: the highest of a run (AdamW); it rises over `warmup_share` of the steps and falls to zero.
        epochs: at most so many passes over the training items.
        patience: stop after so many epochs without a better validation score.
        batch_size: items per step.
        warmup_share: share of all steps.
        weight_decay: AdamW's, of matrices.
        clip_norm: largest norm of the gradient.
        rank: of LoRA adapters; for RAIL-KD the size that both sides are projected to, as in LoRAILD's comparison.
        pooling: the head reads the "mean" over tokens or the state of the "last" token.
        layer_map: "fixed", "average", "random-step" or "random-epoch"; None takes the method's own.
        padding: "masked", or "paper" to average layer losses over padding too, as LoRAILD's official code does.
        curriculum: how layer losses come in, "sharp" or "smooth" (see `loss_weights`).
        ild_start: first epoch (from 0) with a layer loss; the best epoch is looked for from there on.
        temperature: by which the outputs of both models are divided where the student learns from the teacher's.
        keep_zeros: keep the zeros of a pruned student's matrices.
        seed: of head, projections, adapters, order of the items, dropout and random layer maps.
    """

    learning_rate: float = 1e-3
    epochs: int = 10
    patience: int = 3
    batch_size: int = 32
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    rank: int = 8
    pooling: Literal["mean", "last"] = "mean"
    layer_map: str | None = None
    padding: Literal["masked", "paper"] = "masked"
    curriculum: Literal["sharp", "smooth"] = "sharp"
    ild_start: int = 0
    temperature: float = 1.0
    keep_zeros: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.learning_rate <= 0 or not 0 <= self.warmup_share < 1 or self.clip_norm <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate ({self.learning_rate}) and clip_norm ({self.clip_norm}) must be above 0, weight_decay "
                f"({self.weight_decay}) not below, warmup_share ({self.warmup_share}) in [0, 1)."
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be above 0; 1 leaves outputs as they are.")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        if self.layer_map is not None:
            check_layer_map(self.layer_map)
        if not 0 <= self.ild_start < self.epochs:
            raise ValueError(f"ild_start={self.ild_start} must be an epoch of the run: 0 to {self.epochs - 1}.")


_CHOICES = {"pooling": ("mean", "last"), "padding": ("masked", "paper"), "curriculum": CURRICULA}
