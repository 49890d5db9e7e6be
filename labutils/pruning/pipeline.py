"""Prune a model in place: calibration, allocation, and one method for each block.

The order of work in every block follows SparseGPT and Wanda: statistics of all its matrices from the block as it is,
then every matrix pruned, then the pruned block's outputs as inputs of the next one. A failure at any point leaves the
model as it was. (`sequential=False` departs from it: all statistics are then the dense model's.)
"""

import dataclasses
import time
from collections.abc import Sequence

import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel

from labutils.measuring import freed_memory_kept
from labutils.models import check_finite, prunable_layers, weight_matrix
from labutils.progress import progress
from labutils.pruning.budgets import Budgets, DenseModel, DenseStatistics, matrix_budgets
from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.matrices import MatrixMethod, matrix_method, output_error, prune_matrix
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.report import PruneReport, Request, layer_row, make_report
from labutils.pruning.requests import check_widths, make_request
from labutils.pruning.restoring import restored_on_failure


def prune(
    model: PreTrainedModel,
    calibration: Calibration,
    *,
    method: str = "optiprune",
    sparsity: float,
    allocation: str | Sequence[float] | None = None,
    pattern: str = "unstructured",
    permute: bool = False,
    seed: int = 0,
    **options: object,
) -> PruneReport:
    """Set a share of the weights of a model's blocks to zero, in place; embeddings, norms and head stay as they are.

    What takes more than ten seconds is told beforehand, see `labutils.forecast`.

    Args:
        calibration: int64 token ids [n, seq_len], or a mapping with `input_ids` and `attention_mask`.
        method: `magnitude`, `wanda`, `ri`, `ria`, `sparsegpt`, a score with `+obs`, `optiprune`, `optiprune-auto`.
        sparsity: share of zeros over all block matrices, in [0, 1); for an N:M pattern it must be 1 − N/M.
        allocation: how the sparsity is spread over the blocks: `uniform`, `owl`, `alpha`, `dlp`, `arithmetic`,
            `global`, `optiprune`, or one number per block. Default: `optiprune` for OptiPrune's methods, else uniform.
        pattern: "unstructured", or "N:M" to keep N of every M consecutive inputs.
        permute: search a channel permutation for the N:M pattern.
        seed: which sequences `optiprune-auto` reads the model on; nothing else is random.
        **options: see `PruneOptions`.

    Raises:
        ValueError, LookupError: an argument that cannot be used, or weights or activations that are not finite. The
            message names it and the way out.
        MemoryError: memory was not enough; the message says what would need less.
            In all cases the model is as it was, unless `restorable=False` gave that up.
    """
    request = make_request(method, sparsity, allocation, pattern, permute, seed, options)
    _check_in_memory(model)
    check_finite(model)
    from labutils.forecasting.advice import advice_when_memory_ends, announce  # they build on this package

    with advice_when_memory_ends(model, calibration, request), freed_memory_kept():
        walk = BlockWalk(model, calibration, batch_size=request.options.batch_size)
        announce(model, walk.inputs, request)
        with restored_on_failure(walk.blocks if request.options.restorable else []):
            return prune_request(DenseStatistics(walk), request)


def prune_request(statistics: DenseStatistics, request: Request) -> PruneReport:
    """Prune the dense model that the statistics belong to; they serve any number of requests, the model dense again."""
    started = time.perf_counter()
    report = _carry_out(statistics, request)
    return dataclasses.replace(report, seconds=time.perf_counter() - started)


def _carry_out(statistics: DenseStatistics, request: Request) -> PruneReport:
    check_widths(statistics.walk, request.pattern)
    if request.method == "optiprune-auto":
        from labutils.pruning.selection import prune_by_measurement  # it builds on this module

        return prune_by_measurement(statistics, request)
    methods, budgets = plan_pruning(statistics, request)
    return prune_walk(statistics.walk, methods, budgets, request)


def plan_pruning(statistics: DenseStatistics, request: Request) -> tuple[list[MatrixMethod], Budgets]:
    """The method of each block, and how many weights each matrix drops, keyed by (block index, layer name)."""
    options, allocation, chosen = request.options, request.allocation, request.method
    if request.method == "optiprune":
        chosen = options.below if request.sparsity < options.threshold else options.above
        allocation = allocation or ("optiprune" if request.pattern == "unstructured" else None)
    dense = DenseModel(statistics, matrix_method(chosen), request.sparsity, options)
    budgets = matrix_budgets(dense, allocation or "uniform")
    methods = [dense.method] * len(statistics.walk.blocks)
    if request.method == "optiprune" and options.threshold_on == "layer":
        methods = _methods_by_block(dense, budgets)
    return methods, budgets


def prune_walk(
    walk: BlockWalk, methods: list[MatrixMethod], budgets: Budgets, request: Request, *, errors: bool = True
) -> PruneReport:
    """Prune every block of a walk with its method and budgets, from the first to the last; returns the report.

    In sequence, a pruned block makes the next one's inputs; else the dense block does, before it is pruned. Without
    `errors`, the layers' output errors, which only a report needs, are left out.
    """
    rows, permutations = [], {}
    walk.rewind()
    for index in progress(range(len(walk.blocks)), description=f"prune {request.method}", unit="block"):
        found, orders = prune_block(walk, index, methods[index], budgets, request, errors=errors)
        rows += found
        permutations |= orders
        if request.options.sequential and index + 1 < len(walk.blocks):
            walk.advance(index)
    return make_report(rows, strategy_table(methods), request, permutations)


def prune_block(
    walk: BlockWalk, index: int, method: MatrixMethod, budgets: Budgets, request: Request, *, errors: bool = True
) -> tuple[list[dict], dict[str, Tensor]]:
    """Prune the block that the walk has come to; returns the report's rows, and channel orders by layer name.

    Without `errors`, the layers' output errors are left out.
    """
    options, rows, permutations = request.options, [], {}
    inputs = walk.inputs_of(index, move_on=not options.sequential)
    statistics = inputs.statistics(hessian=method.needs_hessian)
    factors = inputs.factors(options.damping) if method.needs_hessian else {}
    for name, layer in prunable_layers(walk.blocks[index]).items():
        started = time.perf_counter()
        own, weight, full_name = statistics[name], weight_matrix(layer), f"{walk.prefix}.{index}.{name}"
        result = prune_matrix(
            weight, own, method, n_drop=budgets[index, name], pattern=parse_pattern(request.pattern),
            permute=request.permute, factor=factors.get(id(own)), block_size=options.block_size, group=options.group,
        )  # fmt: skip
        if result.order is not None:
            permutations[full_name] = result.order.cpu()
        error = output_error(weight, result.weight, own) if errors else float("nan")
        weight.copy_(result.weight)
        rows.append(
            layer_row(full_name, index, result, own, factors.get(id(own)), budgets[index, name], error, started)
        )
    return rows, permutations


def strategy_table(methods: list[MatrixMethod]) -> pd.DataFrame:
    """Which method prunes each block."""
    return pd.DataFrame({"block": range(len(methods)), "method": [method.name for method in methods]})


def _methods_by_block(dense: DenseModel, budgets: Budgets) -> list[MatrixMethod]:
    """OptiPrune's threshold applied to each block's own sparsity."""
    methods = []
    for index, size in enumerate(dense.sizes.tolist()):
        share = sum(count for (block, _), count in budgets.items() if block == index) / size
        methods.append(matrix_method(dense.options.below if share < dense.options.threshold else dense.options.above))
    return methods


def _check_in_memory(model: PreTrainedModel) -> None:
    offloaded = next((name for name, parameter in model.named_parameters() if parameter.is_meta), None)
    if offloaded:
        raise ValueError(
            f"{offloaded} is not in memory: the model is offloaded to another place. Prune its folder from disk to "
            "disk with `prune_checkpoint`, or load it with a device_map that keeps every weight on a device."
        )
