"""Importance scores that read gradients of the weights: functions of a matrix and its `Statistics`, higher = keep.

Which gradients a score reads is said where it is registered: the model's or the block's, see `gradient_passes`. The
formulas of GBLM, Pruner-Zero, D-Pruner and GAPrune are those of the authors' code where paper and code differ. `gblm`
takes the ℓ2 norm of the gradients over the sequences, `gblm-l1` the ℓ1 norm (GBLM's published number is of that one).
Wanda++ has no released code: its formula is the paper's. D-Pruner and GAPrune mix a domain's text with general text,
which `CalibrationTexts` gives; its `gradients` are another text for the gradients alone, as Pruner-Zero's authors have.

What GBLM and Wanda++ add to Wanda hangs on how large gradients are beside activations. α is 100 in both, chosen on
models of 7 billion parameters and sequences of 2048 tokens; with sequences of 128, the norms x_j are a quarter of that.
`optima.gradient_shares` tells how much of a score is gradient; `alpha` and `average_inputs` of `prune` change it.

Movement (Sanh et al. 2020), −Σ_t g_t W_t over the steps of a training, is no score of a model as it is: it stands with
what trains, as `recovery.prune_while_tuning(score="movement")`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.dual_importance import GENERAL_STRENGTH, LOSS_SCALE
from labutils.pruning.importance import SCORES, Score
from labutils.pruning.statistics import Statistics

ALPHA = 100.0  # of a gradient beside an activation, as GBLM-Pruner's code and Wanda++'s paper have it
OPTIONS = ("alpha", "average_inputs")
MIXED = {"general_weight": 1.0, "alignment_weight": 0.2, "magnitude_weight": 0.5}  # of GAPrune's code and paper
ROOT_FLOOR = 1e-8  # added to |W| under GAPrune's root


def gblm_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, alpha: float = ALPHA, average_inputs: bool = True
) -> Float[Tensor, "out in"]:
    """|W| · (α g + x_j / √N), g = √Σ g_n² or Σ |g_n| over the N sequences, activations averaged (GBLM, 2311.04902).

    So the weight of the gradient beside the activation grows with the number of sequences, as in the authors' code.

    Args:
        average_inputs: False takes x_j, as Wanda has it.
    """
    return _beside_inputs(weight, statistics, alpha, average_inputs)


def pruner_zero_score(weight: Float[Tensor, "out in"], statistics: Statistics) -> Float[Tensor, "out in"]:
    """W² · (g − min g) / (max g − min g) over the matrix, with g = √Σ g² (Pruner-Zero, 2406.02924).

    The weight with the smallest gradient scores zero, whatever its size. Gradients that are all alike tell nothing.
    The authors take gradients on WikiText-2's train part, on which their formula was searched; here they are of the
    calibration, as everything else, or of `CalibrationTexts.gradients`. The score reads nothing but them.
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


def dual_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, general_strength: float = GENERAL_STRENGTH,
    loss_scale: float = LOSS_SCALE,
) -> Float[Tensor, "out in"]:  # fmt: skip
    """Importance for a domain's loss, held back by that for general text (D-Pruner, 2405.06275).

    It is found while the dense model is trained on the domain's text, and that model pruned: see `dual_importance`,
    whose options these are.
    """
    return statistics.gradient.to(weight.dtype)


def mixture_score(
    weight: Float[Tensor, "out in"], statistics: Statistics, *, general_weight: float = MIXED["general_weight"],
    alignment_weight: float = MIXED["alignment_weight"], magnitude_weight: float = MIXED["magnitude_weight"],
    normalise: bool = False,
) -> Float[Tensor, "out in"]:  # fmt: skip
    """(F_dom − β F_gen) |W| (1 + α agreement) + γ √|W|, F of a domain's and of general text (GAPrune, 2509.10844).

    F is a mean of squared gradients, so that |W| F is far below √|W| in most models, and the ranks are then those of
    magnitude. The agreement of two gradients, entry by entry of matrices of norm 1, is about 1 / (out · in).

    Args:
        general_weight, alignment_weight, magnitude_weight: β, α, γ.
        normalise: True scales both F by one factor, for which |W| times the mean of F_dom is as large as √|W| on
            average. It is ours.
    """
    domain, general, agreement = statistics.gradient
    size = weight.abs()
    root = (size + ROOT_FLOOR).sqrt()
    signal = (domain - general_weight * general) * (1 + alignment_weight * agreement)
    if normalise:
        signal = signal * (root.mean() / (size.mean() * domain.mean()).clamp(min=torch.finfo(torch.float32).tiny))
    return signal.to(weight.dtype) * size + magnitude_weight * root


def _beside_inputs(weight: Tensor, statistics: Statistics, alpha: float, average_inputs: bool) -> Tensor:
    norms = statistics.norms / statistics.n_sequences**0.5 if average_inputs else statistics.norms
    return weight.abs() * (alpha * statistics.gradient + norms).to(weight.dtype)


SCORES.add("gblm", Score(gblm_score, "row", of_package=True, gradients="model", options=OPTIONS))
SCORES.add("gblm-l1", Score(gblm_score, "row", of_package=True, gradients="absolute", options=OPTIONS))
SCORES.add("pruner-zero", Score(pruner_zero_score, "row", of_package=True, gradients="model"))
SCORES.add("rgs", Score(regional_score, "row", of_package=True, gradients="block", options=OPTIONS))
SCORES.add(
    "d-pruner",
    Score(dual_score, "matrix", of_package=True, gradients="dual", options=("general_strength", "loss_scale")),
)
SCORES.add(
    "gaprune", Score(mixture_score, "matrix", of_package=True, gradients="mixture", options=(*MIXED, "normalise"))
)
