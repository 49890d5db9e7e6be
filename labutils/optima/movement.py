"""What one way of pruning does to a model beyond another: which weights it keeps, and how far they move.

Movement pruning, a score that comes of training, is another thing: `recovery.prune_while_tuning`.
"""

import copy

import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning import prune


def weight_movement(
    model: nn.Module, calibration: Int64[Tensor, "n seq_len"], first: str, second: str, *, sparsity: float,
    **options: object,
) -> pd.DataFrame:  # fmt: skip
    """Every matrix pruned in two ways: what the second changes; the model stays dense.

    >>> weight_movement(model, tokens, "rgs", "rgs+regional", sparsity=0.5)["moved"].median()

    Args:
        **options: of `prune`.

    Returns:
        a row per matrix: block, layer, moved (the root mean square of the difference over that of the weights, of those
        that both keep), still (share of them that are the same number) and other (share of the weights kept by the
        first that the second drops).
    """
    pruned = []
    for method in (first, second):
        pruned.append(copy.deepcopy(model))
        prune(pruned[-1], calibration, method=method, sparsity=sparsity, **options)
    rows = []
    for index, pair in enumerate(zip(*(find_blocks(each)[1] for each in pruned), strict=True)):
        layers = [prunable_layers(block) for block in pair]
        for name in layers[0]:
            old, new = (weight_matrix(each[name]).float() for each in layers)
            both = (old != 0) & (new != 0)
            kept = int((old != 0).sum())
            moved = (new - old)[both].norm() / old[both].norm().clamp(min=torch.finfo(torch.float32).tiny)
            rows.append({
                "block": index, "layer": f"{index}.{name}", "moved": moved.item(),
                "still": (old == new)[both].float().mean().item(), "other": 1 - int(both.sum()) / max(kept, 1),
            })  # fmt: skip
    return pd.DataFrame(rows)
