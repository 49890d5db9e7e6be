"""What a pruning consists of, as far as its cost depends on it: shapes, and which steps there are."""

from dataclasses import dataclass

import torch

from labutils.pruning.forecast.trace import BlockCosts
from labutils.pruning.level_reading import part_size
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.methods import PruneOptions, Request
from labutils.pruning.selection import READ_TOKENS


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
    def searches(self) -> bool:
        """Whether the allocation tries models that are put together from pruned matrices."""
        return self.reads_dense_model and self.request.allocation.n_levels > 0

    @property
    def n_walks(self) -> int:
        """How often all blocks are pruned: once, or for each of several candidates."""
        return self.request.method.n_walks(self.request)

    @property
    def measures(self) -> bool:
        """Whether there are candidates to choose from, by reading the model's output."""
        return self.n_walks > 1

    @property
    def n_read(self) -> int:
        """Tokens on which a candidate's output is read."""
        return min(READ_TOKENS, self.n_tokens)

    @property
    def part_tokens(self) -> int:
        """Tokens that a search over pruned matrices reads together."""
        return min(part_size(self.length) * self.length, self.n_tokens)

    @property
    def n_searched(self) -> int:
        """Tokens that it reads in all, over its candidates."""
        return self.request.allocation.read_tokens(self.n_tokens // self.length, self.length)

    @property
    def width(self) -> float:
        """Of the hidden states."""
        return self.costs.hidden * self.n_batches / self.n_tokens / self.dtype.itemsize

    @property
    def stages(self) -> list[str]:
        """The steps that this pruning has, in their order."""
        present = {
            "allocate": self.reads_dense_model, "search": self.searches, "collect": True, "factorise": True,
            "prune": True, "advance": self.options.sequential, "measure": self.measures,
        }  # fmt: skip
        return [stage for stage, there in present.items() if there]
