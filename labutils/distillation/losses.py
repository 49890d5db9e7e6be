"""The losses of distillation: outputs (KD) and intermediate layers (ILD, RAIL-KD, LoRAILD), as functions on tensors.

Teacher tensors come first. Rows are token sequences; a mask is 1 on tokens and 0 on padding. Passing a mask of ones
averages over padding as well, as the published LoRAILD code does.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def task_loss(
    outputs: Float[Tensor, "items outputs"], targets: Int64[Tensor, " items"] | Float[Tensor, " items"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) where the targets are classes, mean squared error where they are real numbers."""
    if targets.is_floating_point():
        return F.mse_loss(outputs[:, 0], targets)
    return F.cross_entropy(outputs, targets)


def output_loss(
    teacher: Float[Tensor, "items outputs"], student: Float[Tensor, "items outputs"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Plain knowledge distillation: T² · KL(teacher ‖ student) of the softmax outputs over T in nats, mean over items.

    The temperature T flattens both distributions, so that the student sees how a teacher that is sure of its answer
    ranks the others; T² keeps the gradients of one size (Hinton, Vinyals & Dean 2015, arXiv:1503.02531). T = 1 is
    LoRAILD's (Suzuki et al. 2025). One output means regression: the mean squared difference, whatever T.
    """
    if student.shape[1] == 1:
        return F.mse_loss(student, teacher)
    soft = [(outputs / temperature).log_softmax(dim=1) for outputs in (student, teacher)]
    return temperature**2 * F.kl_div(*soft, reduction="batchmean", log_target=True)


def direction_gap(
    teacher: Float[Tensor, "*positions width"], student: Float[Tensor, "*positions width"]
) -> Float[Tensor, "*positions"]:
    """‖t/|t| − s/|s|‖², between 0 (same direction) and 4 (opposite); a zero vector stays zero."""
    return (F.normalize(teacher, dim=-1) - F.normalize(student, dim=-1)).square().sum(-1)


def mean_over_tokens(values: Float[Tensor, "rows tokens"], mask: Int64[Tensor, "rows tokens"]) -> Float[Tensor, ""]:
    """The mean of the values where the mask is 1, every token counting alike."""
    return (values * mask).sum() / mask.sum()


def ild_loss(
    teacher: Float[Tensor, "pairs rows tokens width"],
    student: Float[Tensor, "pairs rows tokens width"],
    mask: Int64[Tensor, "rows tokens"],
) -> Float[Tensor, ""]:
    """Conventional intermediate-layer distillation: the direction gap of hidden states, mean over tokens and pairs.

    `student` holds the student's states after their learned projections to the teacher's width (TinyBERT, Jiao et al.
    2020); comparing directions instead of values is patient distillation's (Sun et al. 2019), and keeps the term on
    one scale with the other layer losses.
    """
    return mean_over_tokens(direction_gap(teacher, student).mean(0), mask)


def loraild_loss(
    teacher: Float[Tensor, "pairs rows tokens features"],
    student: Float[Tensor, "pairs rows tokens features"],
    mask: Int64[Tensor, "rows tokens"],
) -> Float[Tensor, ""]:
    """LoRAILD (Suzuki et al. 2025): the direction gap of all adapters' outputs as one vector per token, token mean.

    `features` are the outputs of the A matrices of query, key and value, side by side; the pairs are joined before the
    vector is normalised, so that layers with larger outputs weigh more.
    """
    joined = [states.permute(1, 2, 0, 3).flatten(2) for states in (teacher, student)]
    return mean_over_tokens(direction_gap(*joined), mask)


def rail_l_loss(
    teacher: Float[Tensor, "pairs rows size"], student: Float[Tensor, "pairs rows size"]
) -> Float[Tensor, ""]:
    """RAIL-KD, layer by layer (Haidar et al. 2022): ‖t/|t| − s/|s|‖, not squared, mean over rows and pairs.

    Both sides are mean-pooled states after learned projections to a common size.
    """
    gap = F.normalize(teacher, dim=-1) - F.normalize(student, dim=-1)
    return torch.linalg.vector_norm(gap, dim=-1).mean()


def rail_c_loss(teacher: Float[Tensor, "rows size"], student: Float[Tensor, "rows size"]) -> Float[Tensor, ""]:
    """RAIL-KD, concatenated: as `rail_l_loss`, with all chosen layers joined before one projection per side."""
    return rail_l_loss(teacher[None], student[None])
