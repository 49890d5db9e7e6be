"""How much of a score that weighs gradients beside activations is gradient: without it, it is Wanda's."""

from collections.abc import Sequence

import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor, nn

from labutils.core.progress import progress
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradient_passes import find_gradients, keep_gradients
from labutils.pruning.importance import SCORES
from labutils.pruning.matrices import ScoreMethod
from labutils.pruning.patterns import unstructured_mask


def gradient_shares(
    model: nn.Module,
    calibration: Int64[Tensor, "n seq_len"],
    *,
    scores: Sequence[str] = ("gblm", "rgs"),
    sparsity: float = 0.5,
    blocks: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Of every matrix of the dense model: how far a score with gradients differs from the same score without.

    >>> gradient_shares(model, tokens).groupby("score")["share"].median()

    Args:
        scores: that take `alpha`, the weight of the gradient.
        sparsity: at which masks are compared.
        blocks: their numbers, where not all are wanted.

    Returns:
        a row per matrix and score: block, layer, kind, score, share (median over weights of the gradient's part of the
        score), like_inputs and like_gradient (Spearman's ρ with either part alone, a mean over the rows, in which
        weights compete), and other (share of the weights that it drops and Wanda keeps).

    Raises:
        ValueError: a score without that option.
    """
    for name in scores:
        if "alpha" not in SCORES[name].options:
            fitting = ", ".join(other for other in SCORES if "alpha" in SCORES[other].options)
            raise ValueError(f"{name!r} weighs no gradient by alpha; give of these: {fitting}.")
    walk, rows = BlockWalk(model, calibration), []
    methods = {name: ScoreMethod(name) for name in scores}
    keep_gradients(walk, methods.values())
    for index in progress(range(len(walk.blocks)), description="shares of gradients", unit="block"):
        wanted = blocks is None or index in blocks
        gradients = {name: find_gradients(walk, index, each) for name, each in methods.items()} if wanted else {}
        statistics = walk.collect_and_advance(index, hessian=False)
        for layer_name, layer in prunable_layers(walk.block(index)).items() if wanted else ():
            own, weight = statistics[layer_name], weight_matrix(layer).float()
            if not own.n_tokens:
                continue
            place = {"block": index, "layer": f"{index}.{layer_name}", "kind": layer_name.rpartition(".")[2]}
            for name in scores:
                own.gradient = gradients[name][layer_name]
                whole, without = (SCORES[name].function(weight, own, **alpha) for alpha in ({}, {"alpha": 0.0}))
                rows.append({**place, "score": name, **_differences(whole, without, sparsity)})
    return pd.DataFrame(rows)


def _differences(whole: Tensor, without: Tensor, sparsity: float) -> dict[str, float]:
    part = whole - without
    some, n_drop = whole > 0, round(sparsity * whole.numel())
    masks = [unstructured_mask(score, n_drop, group="row") for score in (whole, without)]
    return {
        "share": (part[some] / whole[some]).median().item() if some.any() else float("nan"),
        "like_inputs": _row_correlation(whole, without),
        "like_gradient": _row_correlation(whole, part),
        "other": (masks[1] & ~masks[0]).sum().item() / max(n_drop, 1),
    }


def _row_correlation(first: Float[Tensor, "out in"], second: Float[Tensor, "out in"]) -> float:
    """Spearman's ρ of every row, on average; equal values rank by their place."""
    ranks = [values.argsort(dim=1, stable=True).argsort(dim=1).double() for values in (first, second)]
    ranks = [values - values.mean(dim=1, keepdim=True) for values in ranks]
    products = (ranks[0] * ranks[1]).sum(dim=1) / (ranks[0].norm(dim=1) * ranks[1].norm(dim=1)).clamp(min=1e-12)
    return products.mean().item()
