"""How allocations would spread a sparsity over a model's blocks, without pruning it."""

from collections.abc import Sequence

import pandas as pd
from transformers import PreTrainedModel

from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.requests import AllocationName, make_request


def spread_sparsity(
    model: PreTrainedModel,
    calibration: Calibration,
    *,
    allocations: Sequence[AllocationName],
    sparsity: float,
    method: str = "magnitude",
    **options: object,
) -> pd.DataFrame:
    """The sparsity of every block under each allocation; the model stays as it is.

    >>> spread_sparsity(model, tokens, allocations=["uniform", "owl"], sparsity=0.7)["owl"]

    What the allocations read of the dense model is gathered once for all.

    Args:
        allocations, method, options: as for `prune`.

    Returns:
        one row per block, one column per allocation.

    Raises:
        ValueError: what `prune` refuses; LookupError: an unknown name.
    """
    requests = {
        str(allocation): make_request(method, sparsity, allocation, "unstructured", False, 0, options)
        for allocation in allocations
    }
    walk = BlockWalk(model, calibration, batch_size=next(iter(requests.values())).options.batch_size)
    statistics = DenseStatistics(walk, [sparsity])
    sizes = statistics.sizes.tolist()
    spread = {}
    for name, request in requests.items():
        _, budgets = request.method.plan(statistics, request.method.fit_to(walk, request))
        dropped = [0] * len(sizes)
        for (block, _), count in budgets.items():
            dropped[block] += count
        spread[name] = [count / size for count, size in zip(dropped, sizes, strict=True)]
    return pd.DataFrame(spread).rename_axis("block")
