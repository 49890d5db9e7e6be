"""Prune a model in place: calibration, allocation, and one method for each block.

The order of work in every block follows SparseGPT and Wanda: statistics of all its matrices from the block as it is,
then every matrix pruned, then the pruned block's outputs as inputs of the next one. A failure at any point leaves the
model as it was. (`sequential=False` departs from it: all statistics are then the dense model's.)
"""

import dataclasses
import time
from collections.abc import Sequence

from transformers import PreTrainedModel

from labutils.core.profiling import freed_memory_kept
from labutils.models.structure import check_finite
from labutils.pruning.blocks import prune_walk
from labutils.pruning.budgets import Budgets, DenseModel, DenseStatistics, matrix_budgets
from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.forecast.advice import advice_when_memory_ends, announce
from labutils.pruning.matrices import MatrixMethod, matrix_method
from labutils.pruning.report import PruneReport
from labutils.pruning.requests import Request, check_widths, make_request
from labutils.pruning.restoring import restored_on_failure
from labutils.pruning.selection import prune_by_measurement


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
