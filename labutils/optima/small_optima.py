"""How near methods come to the best of all masks: where that is known, and where a lower bound of its error is."""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from labutils.core.progress import progress
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.best_masks import best_mask
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.error_bounds import least_errors
from labutils.pruning.matrices import prune_matrix
from labutils.pruning.reconstruction import damped_hessian, factor_hessian
from labutils.pruning.requests import matrix_method
from labutils.pruning.statistics import Statistics


def small_optima(
    model: nn.Module,
    calibration: Int64[Tensor, "n seq_len"],
    *,
    methods: Sequence[str],
    n_inputs: Sequence[int | None] = (14,),
    chosen: Sequence[str] = ("spaced",),
    n_outputs: int = 16,
    blocks: Sequence[int] | None = None,
    damping: float = 0.01,
) -> pd.DataFrame:
    """Half of the weights of parts of a model's matrices dropped, by methods, in the best of all ways, and at least.

    A part takes some inputs and evenly spaced outputs of a matrix, as if it were the whole of it. Every row loses half
    of its weights, under all methods, so that all search the same set of masks.

    >>> small_optima(model, tokens, methods=["wanda+ls", "wanda+swaps+ls"], n_inputs=[8, 14, None])

    Args:
        methods: scores with what follows them; their weights compete in each row.
        n_inputs: of the parts, at most some sixteen; None for the whole matrix, whose optimum is not known.
        chosen: "spaced" inputs are spread evenly over the matrix; "alike" are those most correlated with each other,
            one after the other, beginning with the most correlated pair.
        blocks: their numbers, where not all are wanted.

    Returns:
        a row per matrix, part and method: block, layer, kind, n_inputs (NaN of the whole), chosen, method, error
        (damped, over that of the output), ratio (the error over the smallest that any mask has; NaN of the whole),
        over_bound (the error over what every mask loses at least, see `error_bounds`).
    """
    walk, rows = BlockWalk(model, calibration), []
    for index in progress(range(len(walk.blocks)), description="optima of parts", unit="block"):
        statistics = walk.collect_and_advance(index, hessian=True)
        layers = prunable_layers(walk.block(index)) if blocks is None or index in blocks else {}
        for name, layer in progress(list(layers.items()), description="search", unit="matrix"):
            if not statistics[name].n_tokens:
                continue
            weight, own = weight_matrix(layer).float(), statistics[name]
            place = {"block": index, "layer": f"{index}.{name}", "kind": name.rpartition(".")[2]}
            for count, way in _parts(n_inputs, chosen):
                part = (weight, own) if count is None else _part(weight, own, count, way, n_outputs)
                found = _compare(*part, methods, damping, optimum=count is not None)
                rows += [{**place, "n_inputs": count, "chosen": way, **row} for row in found]
    return pd.DataFrame(rows)


def _parts(n_inputs: Sequence[int | None], chosen: Sequence[str]) -> list[tuple[int | None, str]]:
    known = {"spaced", "alike"}
    if unknown := set(chosen) - known:
        raise ValueError(f"chosen={sorted(unknown)} must be of {', '.join(sorted(known))}.")
    small = [(count, way) for count in n_inputs if count is not None for way in chosen]
    return small + ([(None, "all")] if None in n_inputs else [])


def _part(weight: Tensor, own: Statistics, n_inputs: int, chosen: str, n_outputs: int) -> tuple[Tensor, Statistics]:
    outputs, inputs = (_spaced(size, count) for size, count in zip(weight.shape, (n_outputs, n_inputs), strict=True))
    if chosen == "alike":
        inputs = alike_inputs(own.hessian, n_inputs)
    inputs, outputs = inputs.to(weight.device), outputs.to(weight.device)
    return weight[outputs][:, inputs], own.permuted(inputs)


def _spaced(size: int, count: int) -> Int[Tensor, " count"]:
    return torch.linspace(0, size - 1, min(count, size)).round().long()


def alike_inputs(hessian: Float[Tensor, "in in"], count: int) -> Int[Tensor, " count"]:
    """The most correlated pair of inputs, and one after the other that most correlated with those so far on average.

    >>> alike_inputs(inputs.T @ inputs, 14)
    """
    sizes = hessian.double().diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    likeness = (hessian.double() / torch.outer(sizes, sizes)).abs().fill_diagonal_(-1.0)
    found = [int(likeness.amax(dim=1).argmax())]
    while len(found) < min(count, len(hessian)):
        mean = likeness[found].mean(dim=0)
        mean[found] = -torch.inf
        found.append(int(mean.argmax()))
    return torch.tensor(sorted(found))


def _compare(weight: Tensor, own: Statistics, methods: Sequence[str], damping: float, *, optimum: bool) -> list[dict]:
    n_drop = weight.shape[1] // 2
    hessian = own.hessian.double()
    damped = damped_hessian(hessian, damping)
    lowest = best_mask(weight, own.hessian, n_drop, damping=damping).errors.sum().item() if optimum else float("nan")
    bound = least_errors(weight, own.hessian, n_drop, damping=damping).sum().item()
    total = ((weight.double() @ damped) * weight.double()).sum().item()
    rows = []
    for name in methods:
        method = matrix_method(name)
        factor = factor_hessian(hessian.to(method.precision), damping=damping) if method.needs_factor else None
        result = prune_matrix(weight, own, method, n_drop=n_drop * len(weight), factor=factor, group="row", ties=False)
        lost = weight.double() - result.weight.double()
        error = ((lost @ damped) * lost).sum().item()
        ratios = {"ratio": lowest, "over_bound": bound}
        over = {each: error / least if least > 0 else float("nan") for each, least in ratios.items()}
        rows.append({"method": name, "error": error / total, **over})
    return rows
