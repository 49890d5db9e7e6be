"""Importance scores that read gradients of the weights: functions of a matrix and its `Statistics`, higher = keep.

Which gradients a score reads is said where it is registered: the model's or the block's, see `gradients`. GBLM's and
Pruner-Zero's formulas are those of the authors' code where paper and code differ, with the ℓ2 norm of the gradients
over the sequences (GBLM's published number is of its ℓ1 variant). Wanda++ has no released code: its formula is the
paper's.

What GBLM and Wanda++ add to Wanda hangs on how large gradients are beside activations. α is 100 in both, chosen on
models of 7 billion parameters and sequences of 2048 tokens; with sequences of 128, the norms x_j are a quarter of that.
`optima.gradient_shares` tells how much of a score is gradient; `alpha` and `average_inputs` of `prune` change it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.importance import SCORES, Score
from labutils.pruning.statistics import Statistics

ALPHA = 100.0  # of a gradient beside an activation, as GBLM-Pruner's code and Wanda++'s paper have it
OPTIONS = ("alpha", "average_inputs")


def gblm_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, alpha: float = ALPHA, average_inputs: bool = True
) -> Float[Tensor, "out in"]:
    """|W| · (α √Σ g² + x_j / √N), gradients summed over the N sequences and activations averaged (GBLM, 2311.04902).

    So the weight of the gradient beside the activation grows with the number of sequences, as in the authors' code.

    Args:
        average_inputs: False takes x_j, as Wanda has it.
    """
    return _beside_inputs(weight, statistics, alpha, average_inputs)


def pruner_zero_score(weight: Float[Tensor, "out in"], statistics: Statistics) -> Float[Tensor, "out in"]:
    """W² · (g − min g) / (max g − min g) over the matrix, with g = √Σ g² (Pruner-Zero, 2406.02924).

    The weight with the smallest gradient scores zero, whatever its size. Gradients that are all alike tell nothing.
    The authors take gradients on WikiText-2's train part, on which their formula was searched; here they are of the
    calibration, as everything else.
    """
    gradient = statistics.gradient
    lowest, highest = gradient.min(), gradient.max()
    share = (gradient - lowest) / (highest - lowest) if highest > lowest else torch.ones_like(gradient)
    return weight.square() * share.to(weight.dtype)


def regional_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, alpha: float = ALPHA, average_inputs: bool = False
) -> Float[Tensor, "out in"]:
    """|W| · (α √(mean G²) + x_j), with G the gradient of the norm of the block's output (Wanda++, 2503.04992).

    Args:
        average_inputs: True takes x_j / √N, a mean over sequences as that of the gradients.
    """
    return _beside_inputs(weight, statistics, alpha, average_inputs)


def _beside_inputs(weight: Tensor, statistics: Statistics, alpha: float, average_inputs: bool) -> Tensor:
    norms = statistics.norms / statistics.n_sequences**0.5 if average_inputs else statistics.norms
    return weight.abs() * (alpha * statistics.gradient + norms).to(weight.dtype)


SCORES.add("gblm", Score(gblm_score, "row", of_package=True, gradients="model", options=OPTIONS))
SCORES.add("pruner-zero", Score(pruner_zero_score, "row", of_package=True, gradients="model"))
SCORES.add("rgs", Score(regional_score, "row", of_package=True, gradients="block", options=OPTIONS))
