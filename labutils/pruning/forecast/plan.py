"""What a pruning consists of, as far as its cost depends on it: shapes, and which steps there are."""

from dataclasses import dataclass

import torch

from labutils.pruning.allocations import Readings
from labutils.pruning.forecast.trace import BlockCosts
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.methods import PruneOptions, Request


@dataclass(frozen=True)
class Plan:
    """One pruning, before it runs.

    Attributes:
        costs: what one block does with one batch.
        n_batches: of the calibration; the last one may be a fraction of a batch.
        n_tokens: of the calibration, padding included; `length` of each sequence.
        parameter_bytes: of the whole model.
        vocabulary: rows of the model's head; 0 without one.
        dtype: of the weights.
    """

    costs: BlockCosts
    n_blocks: int
    n_batches: float
    n_tokens: int
    length: int
    parameter_bytes: int
    vocabulary: int
    request: Request
    dtype: torch.dtype

    @property
    def options(self) -> PruneOptions:
        return self.request.options

    @property
    def method(self) -> MatrixMethod:
        """What prunes the matrices."""
        return self.request.method.matrix_method(self.request.sparsity)

    @property
    def reads_dense_model(self) -> bool:
        """Whether the allocation needs a pass over the dense model."""
        return self.request.reads_dense_model

    @property
    def readings(self) -> Readings | None:
        """What the allocation reads of the model's output, where it tries something."""
        if not self.reads_dense_model:
            return None
        return self.request.allocation.readings(self.n_tokens // self.length, self.length, self.n_blocks)

    @property
    def width(self) -> float:
        """Of the hidden states."""
        return self.costs.hidden * self.n_batches / self.n_tokens / self.dtype.itemsize

    @property
    def stages(self) -> list[str]:
        """The steps that this pruning has, in their order."""
        present = {
            "allocate": self.reads_dense_model, "search": self.readings is not None, "collect": True,
            "factorise": True, "prune": True, "advance": self.options.sequential,
        }  # fmt: skip
        return [stage for stage, there in present.items() if there]
