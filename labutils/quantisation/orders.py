"""Pruning and quantising one model, in either order."""

from collections.abc import Iterator
from contextlib import contextmanager

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
    symmetric: bool = False,
    **options: object,
) -> QuantisationReport:
    """Prune and quantise a model in place, in one of the `ORDERS`; its zeros stay zeros.

    >>> prune_and_quantise(model, tokens, order="prune first", method="wanda", sparsity=0.5, kind="rtn4")

    "prune first": the survivors are rounded, each group's levels spanning what is left of it. "quantise first": the
    rounded model is pruned by its own weights and activations; weights that rounding made equal rank by the original
    ones. Both end with survivors on the levels of the format and with the same number of zeros or more. All of it is
    computed in float32, for in 16 bits weights on one level could not be told apart; at the end the values take the
    model's own type again.
    Source of the question: Harma et al. 2024 (2405.20935), prune first, proved for magnitude and formats that each
    block's largest weight scales ("Q8_0", "Q4_0", "sym"); 2603.18426, the weaker change first.

    Args:
        method: of `prune`; in the order "quantise first" one that leaves kept weights as they are.
        kind, group_size, symmetric: as for `quantise`.
        options: of `prune`.

    Raises:
        ValueError: another order, a method that changes what it keeps, or as `prune` and `quantise`. The model is as it
            was.
    """
    if order not in ORDERS:
        raise ValueError(f"order={order!r} is not one of {', '.join(map(repr, ORDERS))}")
    rounding = {"kind": kind, "group_size": group_size, "symmetric": symmetric}
    with in_float32(model), WeightSnapshot(find_blocks(model)[1]):
        if order == "prune first":
            prune(model, calibration, method=method, sparsity=sparsity, **options)
            return quantise(model, **rounding, keep_zeros=True)
        return _quantise_first(model, calibration, {"method": method, "sparsity": sparsity, **options}, rounding)


def _quantise_first(
    model: nn.Module, calibration: Calibration, pruning: dict[str, object], rounding: dict[str, object]
) -> QuantisationReport:
    weights = [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    original = [weight.clone() for weight in weights]
    report = quantise(model, **rounding)
    rounded = [weight.clone() for weight in weights]
    with torch.no_grad():
        for weight, dense in zip(weights, original, strict=True):
            weight.lerp_(dense, TIE)
    ranked = [weight.clone() for weight in weights]
    prune(model, calibration, **pruning)
    with torch.no_grad():
        for weight, before, values in zip(weights, ranked, rounded, strict=True):
            kept = weight != 0
            if not torch.equal(weight[kept], before[kept]):
                raise ValueError(
                    f"{pruning['method']} changes the weights that it keeps, which takes them off the levels of "
                    f"{rounding['kind']}; quantise first with a method that only removes, such as wanda, or prune "
                    "first."
                )
            weight.copy_(values * kept)
    return report


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Within it all floating-point parameters and buffers of a model are float32; at the end each has its own type.

    >>> with in_float32(model):
    ...     lab.prune(model, tokens, method="wanda", sparsity=0.5)
    """
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()]
    types = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in zip(tensors, types, strict=True):
            tensor.data = tensor.data.to(dtype)
