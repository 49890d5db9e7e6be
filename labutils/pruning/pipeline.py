"""Prune a model in place: calibration, allocation, and one method for each block.

The order of work in every block follows SparseGPT and Wanda: statistics of all its matrices from the block as it is,
then every matrix pruned, then the pruned block's outputs as inputs of the next one. A failure at any point leaves the
model as it was. (`sequential=False` departs from it: all statistics are then the dense model's.)
"""

import dataclasses
import time

from torch import nn
from transformers import PreTrainedModel

from labutils.core.profiling import keep_freed_memory
from labutils.models.structure import check_finite
from labutils.models.wrappers import bare_model
from labutils.pruning.blocks import prune_walk
from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.forecast.advice import announce, explain_out_of_memory
from labutils.pruning.methods import Request
from labutils.pruning.report import PruneReport
from labutils.pruning.requests import AllocationName, Whole, check_widths, make_request
from labutils.pruning.restoring import WeightSnapshot


def prune(
    model: nn.Module,
    calibration: Calibration,
    *,
    method: str = "optiprune",
    sparsity: float,
    allocation: AllocationName = None,
    pattern: str = "unstructured",
    permute: bool = False,
    seed: Whole = 0,
    **options: object,
) -> PruneReport:
    """Set a share of the weights of a model's blocks to zero, in place; embeddings, norms and head stay as they are.

    A model whose blocks, run one after the other, do not give what it computes itself is refused; one sequence tells.
    What takes more than ten seconds is told beforehand, by the logger `labutils`; see `labutils.forecast`.

    >>> tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=32, seq_len=128)
    >>> report = lab.prune(model, tokens, method="wanda", sparsity=0.5)

    Args:
        model: a model of transformers, with any head. Of one that reads images too, the language part is pruned. Of a
            PEFT model, the base's weights are: adapters stay as they are, and take part in what the base reads.
        calibration: int64 token ids [n, seq_len], or a mapping with `input_ids` and `attention_mask`.
        method: a score, alone or with a mask search and a reconstruction (`wanda`, `ria+obs`, `wanda+swaps+ls`), or
            `sparsegpt`, `admm`, `alps`, `optiprune`, `optiprune-auto`; `list_methods` tells them all.
        sparsity: share of zeros over all block matrices, in [0, 1); for an N:M pattern it must be 1 − N/M.
        allocation: how the sparsity is spread over the blocks: `uniform`, `owl`, `alpha`, `dlp`, `arithmetic`,
            `global`, `global-raw`, `optiprune`, `measured`, `evopress`, or one number per block, such as a
            report's `block_sparsity`. Default: the method's own, which is uniform for most.
        pattern: "unstructured", or "N:M" to keep N of every M consecutive inputs.
        permute: search a channel permutation for the N:M pattern.
        seed: which sequences `measured` reads the model on, and what `evopress` tries; nothing else is random.
        **options: see `PruneOptions`; those of the method and of the allocation stand in `list_methods`.

    Raises:
        ValueError, LookupError: an argument that cannot be used, or weights or activations that are not finite, or a
            model that cannot be pruned block by block. The message names it and the way out.
        MemoryError: out of memory; the message says what would use less.
            In all cases the model is as it was, unless `restorable=False` gave that up.
    """
    model = bare_model(model)
    request = make_request(method, sparsity, allocation, pattern, permute, seed, options)
    _check_in_memory(model)
    check_finite(model)
    with explain_out_of_memory(model, calibration, request), keep_freed_memory():
        walk = BlockWalk(model, calibration, batch_size=request.options.batch_size)
        announce(model, walk.inputs, request)
        with WeightSnapshot(walk.blocks if request.options.restorable else []):
            return prune_request(DenseStatistics(walk), request)


def prune_request(statistics: DenseStatistics, request: Request) -> PruneReport:
    """Prune the dense model that the statistics belong to; they serve any number of requests, the model dense again."""
    started = time.perf_counter()
    check_widths(statistics.walk, request.pattern)
    request = request.method.fit_to(statistics.walk, request)
    plan = request.method.plan(statistics, request)
    tried = request.allocation.tried(request.method.dense_model(statistics, request))
    report = prune_walk(statistics.walk, *plan, request)
    return dataclasses.replace(report, candidates=tried, seconds=time.perf_counter() - started)


def _check_in_memory(model: PreTrainedModel) -> None:
    offloaded = next((name for name, parameter in model.named_parameters() if parameter.is_meta), None)
    if offloaded:
        raise ValueError(
            f"{offloaded} is not in memory: the model is offloaded to another place. Prune its folder from disk to "
            "disk with `prune_checkpoint`, or load it with a device_map that keeps every weight on a device."
        )
