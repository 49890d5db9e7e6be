"""Pruning and quantising one model, in either order."""

import torch
from torch import nn

from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning.calibration import Calibration
from labutils.pruning.pipeline import prune
from labutils.pruning.restoring import WeightSnapshot
from labutils.quantisation.quantise import QuantisationReport, quantise

ORDERS = ("prune first", "quantise first")
TIE = 1e-3  # share of the original weight by which weights that rounding made equal are told apart


def prune_and_quantise(
    model: nn.Module,
    calibration: Calibration,
    *,
    order: str,
    method: str,
    sparsity: float,
    kind: str,
    group_size: int | None = None,
    **options: object,
) -> QuantisationReport:
    """Prune and quantise a model in place, in one of the `ORDERS`; its zeros stay zeros.

    >>> prune_and_quantise(model, tokens, order="prune first", method="wanda", sparsity=0.5, kind="rtn4")

    "prune first": the survivors are rounded, each group's levels spanning what is left of it. "quantise first": the
    rounded model is pruned by its own weights and activations; weights that rounding made equal rank by the original
    ones. Both end with survivors on the levels of the format and with the same number of zeros or more.
    Source of the question: Harma et al. 2024 (2405.20935), prune first; 2603.18426, the weaker change first.

    Args:
        method: of `prune`; in the order "quantise first" one that leaves kept weights as they are.
        kind, group_size: as for `quantise`.
        options: of `prune`.

    Raises:
        ValueError: another order, a method that changes what it keeps, or as `prune` and `quantise`. The model is as it
            was.
    """
    if order not in ORDERS:
        raise ValueError(f"order={order!r} is not one of {', '.join(map(repr, ORDERS))}")
    blocks = find_blocks(model)[1]
    with WeightSnapshot(blocks):
        if order == "prune first":
            prune(model, calibration, method=method, sparsity=sparsity, **options)
            return quantise(model, kind, group_size=group_size, keep_zeros=True)
        weights = [weight_matrix(layer) for block in blocks for layer in prunable_layers(block).values()]
        original = [weight.clone() for weight in weights]
        report = quantise(model, kind, group_size=group_size)
        rounded = [weight.clone() for weight in weights]
        with torch.no_grad():
            for weight, dense in zip(weights, original, strict=True):
                weight.lerp_(dense, TIE)
        ranked = [weight.clone() for weight in weights]
        prune(model, calibration, method=method, sparsity=sparsity, **options)
        with torch.no_grad():
            for weight, before, values in zip(weights, ranked, rounded, strict=True):
                kept = weight != 0
                if not torch.equal(weight[kept], before[kept]):
                    raise ValueError(
                        f"{method} changes the weights that it keeps, which takes them off the levels of {kind}; "
                        "quantise first with a method that only removes, such as wanda, or prune first."
                    )
                weight.copy_(values * kept)
        return report
