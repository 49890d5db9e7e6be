"""Importance scores that read gradients of the weights: functions of a matrix and its `Statistics`, higher = keep.

Which gradients a score reads is said where it is registered: the model's or the block's, see `gradients`. Each formula
is the one of the authors' code where paper and code differ.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.importance import SCORES, Score
from labutils.pruning.statistics import Statistics

ALPHA = 100.0  # of a gradient beside an activation, as GBLM-Pruner's and Wanda++'s code has it


def gblm_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, alpha: float = ALPHA
) -> Float[Tensor, "out in"]:
    """|W| · (α √Σ g² + x_j / √N), gradients summed over the N sequences and activations averaged (GBLM, 2311.04902).

    So the weight of the gradient beside the activation grows with the number of sequences, as in the authors' code.
    """
    norms = statistics.norms / statistics.n_sequences**0.5
    return weight.abs() * (alpha * statistics.gradient + norms).to(weight.dtype)


def pruner_zero_score(weight: Float[Tensor, "out in"], statistics: Statistics) -> Float[Tensor, "out in"]:
    """W² · (g − min g) / (max g − min g) over the matrix, with g = √Σ g² (Pruner-Zero, 2406.02924).

    The weight with the smallest gradient scores zero, whatever its size. Gradients that are all alike tell nothing.
    """
    gradient = statistics.gradient
    lowest, highest = gradient.min(), gradient.max()
    share = (gradient - lowest) / (highest - lowest) if highest > lowest else torch.ones_like(gradient)
    return weight.square() * share.to(weight.dtype)


def regional_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, alpha: float = ALPHA
) -> Float[Tensor, "out in"]:
    """|W| · (α √(mean G²) + x_j / √N), with G the gradient of the norm of the block's output (Wanda++, 2503.04992)."""
    norms = statistics.norms / statistics.n_sequences**0.5
    return weight.abs() * (alpha * statistics.gradient + norms).to(weight.dtype)


SCORES.add("gblm", Score(gblm_score, "row", of_package=True, gradients="model"))
SCORES.add("pruner-zero", Score(pruner_zero_score, "row", of_package=True, gradients="model"))
SCORES.add("rgs", Score(regional_score, "row", of_package=True, gradients="block"))
