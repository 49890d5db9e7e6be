"""How much the task, the teacher's outputs and its layers weigh in the loss, epoch by epoch."""

from typing import NamedTuple


class LossWeights(NamedTuple):
    """Weights of the three parts of the loss; they sum to one."""

    task: float
    outputs: float
    layers: float


TASK_ONLY = LossWeights(1.0, 0.0, 0.0)
OUTPUTS = LossWeights(0.5, 0.5, 0.0)
LAYERS = LossWeights(1 / 3, 1 / 3, 1 / 3)
CURRICULA = ("sharp", "smooth")


def loss_weights(epoch: int, *, epochs: int, ild_start: int, curriculum: str) -> LossWeights:
    """The weights of an epoch (from 0) for a method that aligns layers.

    Task and outputs share the loss until epoch `ild_start`; from then on all three parts weigh alike, at once ("sharp")
    or after a linear change that ends with the last epoch ("smooth"). These are the stages of LoRAILD's official code.
    The learning rate that it has for the second stage is left out: the code compares where it should assign, and so
    never applies it.
    """
    if epoch < ild_start:
        return OUTPUTS
    if curriculum == "sharp":
        return LAYERS
    share = min(1.0, (epoch - ild_start + 1) / (epochs - ild_start))
    return LossWeights(*((1 - share) * before + share * after for before, after in zip(OUTPUTS, LAYERS, strict=True)))
