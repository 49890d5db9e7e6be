"""Parts of a model's matrices that are small enough for the best of all masks to be known."""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.best_masks import best_mask
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import prune_matrix
from labutils.pruning.reconstruction import damped_hessian, factor_hessian
from labutils.pruning.requests import matrix_method
from labutils.pruning.statistics import Statistics


def small_optima(
    model: nn.Module,
    calibration: Int64[Tensor, "n seq_len"],
    *,
    methods: Sequence[str],
    n_inputs: int = 14,
    n_outputs: int = 16,
    damping: float = 0.01,
) -> pd.DataFrame:
    """Half of the weights of small parts of a model's matrices dropped, by methods and in the best of all ways.

    A part takes evenly spaced inputs and outputs of a matrix, as if it were the whole of it. Every row loses half of
    its weights, under all methods, so that all search the same set of masks.

    >>> small_optima(model, tokens, methods=["wanda+ls", "wanda+swaps+ls"])

    Args:
        methods: scores with what follows them; their weights compete in each row.

    Returns:
        a row per matrix and method: block, layer, kind, method, error (damped, over that of the output), and ratio, the
        error over the smallest that any mask has.
    """
    walk, rows = BlockWalk(model, calibration), []
    for index in range(len(walk.blocks)):
        statistics = walk.collect_and_advance(index, hessian=True)
        for name, layer in prunable_layers(walk.block(index)).items():
            if not statistics[name].n_tokens:
                continue
            weight, own = _part(weight_matrix(layer).float(), statistics[name], n_inputs, n_outputs)
            place = {"block": index, "layer": f"{index}.{name}", "kind": name.rpartition(".")[2]}
            rows += [{**place, **row} for row in _compare(weight, own, methods, damping)]
    return pd.DataFrame(rows)


def _part(weight: Tensor, own: Statistics, n_inputs: int, n_outputs: int) -> tuple[Tensor, Statistics]:
    outputs, inputs = (
        torch.linspace(0, size - 1, min(count, size)).round().long()
        for size, count in zip(weight.shape, (n_outputs, n_inputs), strict=True)
    )
    inputs, outputs = inputs.to(weight.device), outputs.to(weight.device)
    return weight[outputs][:, inputs], own.permuted(inputs)


def _compare(weight: Tensor, own: Statistics, methods: Sequence[str], damping: float) -> list[dict]:
    n_drop = weight.shape[1] // 2
    hessian = own.hessian.double()
    damped = damped_hessian(hessian, damping)
    lowest = best_mask(weight, own.hessian, n_drop, damping=damping).errors.sum().item()
    total = ((weight.double() @ damped) * weight.double()).sum().item()
    rows = []
    for name in methods:
        method = matrix_method(name)
        factor = factor_hessian(hessian.to(method.precision), damping=damping) if method.needs_factor else None
        result = prune_matrix(weight, own, method, n_drop=n_drop * len(weight), factor=factor, group="row", ties=False)
        lost = weight.double() - result.weight.double()
        error = ((lost @ damped) * lost).sum().item()
        rows.append({"method": name, "error": error / total, "ratio": error / lowest if lowest > 0 else float("nan")})
    return rows
