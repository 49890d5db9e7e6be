"""The options of `prune` that no method and no allocation owns."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune` whatever the method and the allocation; those add their own, see `list_methods`.

    Attributes:
        batch_size: calibration sequences that run together; speed and memory only, but for `match` and `regional`,
            whose steps each take the gradient of one batch.
        sequential: whether a block is pruned by what it reads behind the pruned blocks before it, as the papers do;
            False lets all blocks read the dense model's activations, in about half the time, and in a grid but once.
        restorable: whether a copy of the weights is kept, so that a failure half-way leaves the model as it was. False
            spares the memory of one copy; a model whose pruning then fails is to be loaded anew. `prune_grid` keeps a
            copy in any case, from which every pruning starts.
        damping: share of the Hessian's mean diagonal that is added to it (SparseGPT's 0.01).
        block_size: columns whose SparseGPT mask is chosen together.
        group: compare scores by "row" or "matrix" instead of the score's own default.
        output_target: what a matrix behind pruned blocks is to give: "own", what its dense weights give on the same
            inputs, as all papers here do; or "dense", what the dense model gives in its place (`dense_targets`). That
            takes two more passes over every block, and a method that reads Hessians.
    """

    batch_size: int = 8
    sequential: bool = True
    restorable: bool = True
    damping: float = 0.01
    block_size: int = 128
    group: Literal["row", "matrix"] | None = None
    output_target: Literal["own", "dense"] = "own"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.block_size < 1:
            raise ValueError(f"batch_size ({self.batch_size}) and block_size ({self.block_size}) must be at least 1.")
        if self.group not in (None, "row", "matrix"):
            raise ValueError(f'group={self.group!r} must be None, "row" or "matrix".')
        if self.output_target not in ("own", "dense"):
            raise ValueError(f'output_target={self.output_target!r} must be "own" or "dense".')
        if self.output_target == "dense" and not self.sequential:
            raise ValueError(
                'output_target="dense" differs from "own" behind pruned blocks alone; leave out sequential=False.'
            )
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping ({self.damping}) must be above 0 and finite.")
