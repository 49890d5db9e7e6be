"""A whole grid over one calibration: methods × sparsities × allocations × patterns, sharing what can be shared."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import pandas as pd
from torch import nn
from transformers import PreTrainedModel

from labutils.core.profiling import keep_freed_memory
from labutils.core.progress import progress
from labutils.models.structure import check_finite
from labutils.models.wrappers import bare_model
from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.forecast.advice import explain_out_of_memory
from labutils.pruning.grid_entries import GridEntries
from labutils.pruning.methods import Request
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.requests import AllocationName, Whole, check_widths, fits_pattern, make_request, request_kinds
from labutils.pruning.restoring import WeightSnapshot

Evaluate = Callable[[PreTrainedModel], Mapping[str, object] | pd.DataFrame]


def prune_grid(
    model: nn.Module,
    calibration: Calibration,
    *,
    methods: Sequence[str],
    sparsities: Sequence[float],
    evaluate: Evaluate,
    allocations: Sequence[AllocationName] = (None,),
    patterns: Sequence[str] = ("unstructured",),
    permute: bool = False,
    seed: Whole = 0,
    **options: object,
) -> Iterator[dict]:
    """Prune, evaluate, put the weights back, for every combination; yields the rows of `evaluate`, one dict each.

    Every row carries `method`, `allocation` (the one used), `pattern`, `sparsity` (asked), `reached` and `seconds` (of
    the pruning; what is shared counts for the first that needs it). N:M patterns are run at their own sparsity,
    whatever `sparsities` holds. All arguments are checked and all budgets settled before anything is pruned, and the
    model is dense again whenever the iterator is exhausted, closed or fails.

    The models are those of separate calls of `prune`, bit for bit, in less time. Shared are: the calibration's way to
    the first block; what allocations read of the dense model; the first block's statistics and factorised Hessians,
    since it is the only block that has the same predecessors in every pruning; one sort of a matrix's scores for all
    sparsities where a score reads the weights alone (`magnitude`, `ri`), for which no tokens are run at all; and
    combinations that come to the same model, as `optiprune` and `ria` do at low sparsities. From the second block on
    the papers' protocol leaves nothing to share: every pruning has its own inputs there. So prunings follow one
    another, and memory is that of one pruning plus the first block's statistics and factors, however large the grid.

    With `sequential=False` all prunings read the dense model: tokens are run once for the whole grid (twice where some
    methods need Hessians and others do not), and each Hessian is factorised once. Then the statistics of all blocks
    are in memory together; with Hessians they take about as much as the blocks' weights in float32, and the factors as
    much again.

    >>> rows = lab.prune_grid(
    ...     model, tokens, methods=["wanda", "sparsegpt"], sparsities=[0.5, 0.7], allocations=[None, "owl"],
    ...     evaluate=lambda pruned: {"loss": lab.sequence_losses(pruned, held_out).mean().item()},
    ... )
    >>> pd.DataFrame(rows)

    Args:
        evaluate: called with the pruned model, once for every distinct one; returns a mapping (one row) or a DataFrame.
        permute: search a channel permutation for the N:M patterns.
        **options: see `prune`; an option must belong to at least one of the methods and allocations.
    """
    combinations = [(method, allocation, p) for p in patterns for method in methods for allocation in allocations]
    requests = expand_requests(combinations, sparsities, permute=permute, seed=seed, options=options)
    for rows in run_requests(model, calibration, sum(requests, []), evaluate):
        yield from rows


def expand_requests(
    combinations: Iterable[tuple[str, AllocationName, str]],
    sparsities: Sequence[float],
    *,
    permute: bool = False,
    seed: Whole = 0,
    options: dict,
) -> list[list[Request]]:
    """Per combination of method, allocation and pattern, its requests: at all sparsities, or N:M at its own alone.

    An allocation that an N:M pattern does not admit is left out; a ValueError says so where nothing else was asked
    for. An option must belong to one of the combinations.
    """
    combinations = list(combinations)
    kinds, found = [request_kinds(*combination) for combination in combinations], []
    for method, allocation, pattern in combinations:
        asked, permuted = sparsities, False
        if parsed := parse_pattern(pattern):
            asked = [1 - parsed[0] / parsed[1]] if fits_pattern(allocation) else []
            allocation, permuted = None, permute
        found.append([
            make_request(method, sparsity, allocation, pattern, permuted, seed, options, beside=kinds)
            for sparsity in asked
        ])  # fmt: skip
    if combinations and len(sparsities) and not any(found):
        raise ValueError("Nothing is left to prune: an N:M pattern admits no allocation but uniform. Leave it out.")
    return found


def run_requests(
    model: nn.Module, calibration: Calibration, requests: Sequence[Request], evaluate: Evaluate
) -> Iterator[list[dict]]:
    """Carry out requests as `prune_grid` does, all with the same options; yields the rows of each, in the order given.

    Raises:
        ValueError, MemoryError: as for `prune`.
    """
    if not requests:
        return
    bare = bare_model(model)
    check_finite(bare)
    walk = BlockWalk(bare, calibration, batch_size=requests[0].options.batch_size)
    for pattern in dict.fromkeys(request.pattern for request in requests):
        check_widths(walk, pattern)
    unstructured = {request.sparsity for request in requests if request.pattern == "unstructured"}
    with WeightSnapshot(walk.blocks) as dense, keep_freed_memory(), ExitStack() as stack:
        with explain_out_of_memory(bare, walk.inputs, requests[0]):
            entries = GridEntries(DenseStatistics(walk, sorted(unstructured)), requests)
            started = time.perf_counter()
            stack.enter_context(walk.inputs_kept(hessian=entries.read_of_dense_model))
        entries.count_shared(time.perf_counter() - started)
        yield from _evaluated_rows(entries, dense, lambda: evaluate(model))


def _evaluated_rows(
    entries: GridEntries, dense: WeightSnapshot, evaluate: Callable[[], Mapping[str, object] | pd.DataFrame]
) -> Iterator[list[dict]]:
    walk, rows_of = entries.statistics.walk, {}
    last = {entry: number for number, (_, entry) in enumerate(entries)}
    shown = progress(entries, total=len(entries), description="prune grid", unit="pruning")
    for number, (request, entry) in enumerate(shown):
        if entry not in rows_of:
            started = time.perf_counter()
            with explain_out_of_memory(walk.model, walk.inputs, request):
                reached = entries.carry_out(entry)
            seconds = entry.planning_seconds + time.perf_counter() - started
            found = evaluate()
            dense.restore()
            rows = found.to_dict("records") if isinstance(found, pd.DataFrame) else [dict(found)]
            rows_of[entry] = [{"reached": reached, "seconds": seconds, **row} for row in rows]
        common = {
            "method": request.method.name, "allocation": request.allocation.name, "pattern": request.pattern,
            "sparsity": request.sparsity,
        }  # fmt: skip
        rows = rows_of.pop(entry) if last[entry] == number else rows_of[entry]
        yield [{**common, **row} for row in rows]
