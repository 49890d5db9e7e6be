"""A whole sweep over one calibration: methods × sparsities × allocations × patterns, sharing the dense statistics."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
from transformers import PreTrainedModel

from labutils.models import check_finite
from labutils.progress import progress
from labutils.pruning.budgets import DenseStatistics
from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.pipeline import make_request, prune_request, restored_on_failure

Evaluate = Callable[[PreTrainedModel], Mapping[str, object] | pd.DataFrame]


def prune_grid(
    model: PreTrainedModel,
    calibration: Calibration,
    *,
    methods: Sequence[str],
    sparsities: Sequence[float],
    evaluate: Evaluate,
    allocations: Sequence[str | None] = (None,),
    patterns: Sequence[str] = ("unstructured",),
    permute: bool = False,
    seed: int = 0,
    **options: object,
) -> Iterator[dict]:
    """Prune, evaluate, put the weights back, for every combination; yields the rows of `evaluate`, one dict each.

    Every row carries `method`, `allocation` (the one used), `pattern`, `sparsity` (asked), `reached` and `seconds` (of
    the pruning). N:M patterns are run at their own sparsity, whatever `sparsities` holds. All arguments are checked
    before anything runs, and the model is dense again whenever the iterator is exhausted, closed or fails.

    Args:
        evaluate: called with the pruned model; returns a mapping (one row) or a DataFrame (several).
        permute: search a channel permutation for the N:M patterns.
        **options: see `prune`.
    """
    requests = []
    for pattern, method, allocation in itertools.product(patterns, methods, allocations):
        if parsed := parse_pattern(pattern):
            if allocation in (None, "uniform"):
                requests.append(make_request(method, 1 - parsed[0] / parsed[1], None, pattern, permute, seed, options))
        else:
            requests += [make_request(method, s, allocation, pattern, False, seed, options) for s in sparsities]
    check_finite(model)
    walk = BlockWalk(model, calibration, batch_size=int(options.get("batch_size", 8)))
    statistics = DenseStatistics(walk)
    with restored_on_failure(walk.blocks) as dense:
        for request in progress(requests, description="prune grid", unit="pruning"):
            report = prune_request(statistics, request)
            found = evaluate(model)
            dense.restore()
            rows = found.to_dict("records") if isinstance(found, pd.DataFrame) else [dict(found)]
            common = {
                "method": request.method, "allocation": request.allocation or _default_allocation(request.method),
                "pattern": request.pattern, "sparsity": request.sparsity, "reached": report.sparsity,
                "seconds": report.seconds,
            }  # fmt: skip
            yield from ({**common, **row} for row in rows)


def _default_allocation(method: str) -> str:
    return {"optiprune": "optiprune", "optiprune-auto": "measured"}.get(method, "uniform")
