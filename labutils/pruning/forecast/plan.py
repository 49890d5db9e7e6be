"""What a pruning consists of, as far as its cost depends on it: shapes, and which steps there are."""

from dataclasses import dataclass

import torch

from labutils.pruning.forecast.trace import BlockCosts
from labutils.pruning.matrices import MatrixMethod, matrix_method
from labutils.pruning.requests import PruneOptions, Request
from labutils.pruning.selection import METHOD, READ_TOKENS


@dataclass(frozen=True)
class Plan:
    """One pruning, before it runs.

    Attributes:
        costs: what one block does with one batch.
        n_batches: of the calibration; the last one may be a fraction of a batch.
        n_tokens: of the calibration, padding included.
        parameter_bytes: of the whole model.
        vocabulary: rows of the model's head; 0 without one.
        dtype: of the weights.
    """

    costs: BlockCosts
    n_blocks: int
    n_batches: float
    n_tokens: int
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
        name = self.request.method
        if name == "optiprune":
            name = self.options.below if self.request.sparsity < self.options.threshold else self.options.above
        return matrix_method(METHOD if name == "optiprune-auto" else name)

    @property
    def reads_dense_model(self) -> bool:
        """Whether the allocation needs a pass over the dense model."""
        if self.request.pattern != "unstructured":
            return False
        name = self.request.allocation
        if name is None and self.request.method in ("optiprune", "optiprune-auto"):
            name = "optiprune" if self.request.method == "optiprune" else "owl"
        if name == "optiprune":
            return self.request.sparsity > self.options.deviation_low
        return name in ("owl", "dlp", "global")

    @property
    def measures(self) -> bool:
        """Whether `optiprune-auto` has finalists to choose from."""
        request = self.request
        free = request.pattern == "unstructured" and request.allocation is None and request.sparsity > 0
        return request.method == "optiprune-auto" and free

    @property
    def n_walks(self) -> int:
        """How often all blocks are pruned: once, or for each of two finalists."""
        return 2 if self.measures else 1

    @property
    def n_read(self) -> int:
        """Tokens on which a finalist's output is read."""
        return min(READ_TOKENS, self.n_tokens)

    @property
    def width(self) -> float:
        """Of the hidden states."""
        return self.costs.hidden * self.n_batches / self.n_tokens / self.dtype.itemsize

    @property
    def stages(self) -> list[str]:
        """The steps that this pruning has, in their order."""
        present = {
            "allocate": self.reads_dense_model, "collect": True, "factorise": True, "prune": True,
            "advance": self.options.sequential, "measure": self.measures,
        }  # fmt: skip
        return [stage for stage, there in present.items() if there]
