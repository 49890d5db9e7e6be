"""How far the masks of several ways of pruning differ."""

import copy
from collections.abc import Mapping

import pandas as pd
import torch
from torch import nn

from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning import prune
from labutils.pruning.inputs import Calibration


def mask_differences(
    model: nn.Module,
    calibration: Calibration,
    arms: Mapping[str, tuple[str, Mapping[str, object]]],
    *,
    sparsity: float,
) -> pd.DataFrame:
    """The share of the weights dropped by one way of pruning that another keeps; the model stays dense.

    >>> arms = {"both": ("gaprune", {}), "magnitude": ("magnitude", {})}
    >>> mask_differences(model, CalibrationTexts(domain, general=general), arms, sparsity=0.5)

    Args:
        arms: name → method and options of `prune`.

    Returns:
        a row per ordered pair of names: first, second, other.
    """
    dropped: dict[str, torch.Tensor] = {}
    for name, (method, options) in arms.items():
        if twin := next((known for known in dropped if arms[known] == arms[name]), None):
            dropped[name] = dropped[twin]
            continue
        pruned = copy.deepcopy(model)
        prune(pruned, calibration, method=method, sparsity=sparsity, **options)
        layers = [layer for block in find_blocks(pruned)[1] for layer in prunable_layers(block).values()]
        dropped[name] = torch.cat([(weight_matrix(layer) == 0).flatten() for layer in layers])
    rows = [
        {"first": first, "second": second, "other": (own & ~other).sum().item() / max(int(own.sum()), 1)}
        for first, own in dropped.items()
        for second, other in dropped.items()
        if first != second
    ]
    return pd.DataFrame(rows, columns=["first", "second", "other"])
