"""The divergence of a model's output from the dense model's, for a search over units that stand at levels.

What candidates have in common is computed once: their blocks up to the first in which they differ, as along a tree.
Of the dense model only the states behind its last block are kept; its predictions are made of them again, part by part,
so that no vocabulary's worth of numbers is kept for all tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.calibration import BlockWalk
from labutils.pruning.level_switching import Levels, count_reads
from labutils.pruning.output_divergence import DenseOutput, read_output

PART_TOKENS = 512  # that are read together, or one sequence, where that is longer


def part_size(length: int) -> int:
    """Sequences of a part of the calibration."""
    return max(1, PART_TOKENS // length)


def searched_tokens(n_sequences: int, length: int, generations: int, offspring: int) -> int:
    """Tokens that a search runs the whole model on, over all its candidates; for forecasts."""
    n_parts = -(-n_sequences // part_size(length))
    return length * part_size(length) * (n_parts + generations * count_reads(offspring, n_parts))


@dataclass(frozen=True)
class LeveledMatrix:
    """A matrix of the model, and what it is at each of its levels, in host memory."""

    block: int
    place: Float[Tensor, "out in"]
    weights: Mapping[int, Float[Tensor, "out in"]]


class LevelReader:
    """Reads a model whose units stand at levels, on parts of its calibration, against the model as it is now.

    Attributes:
        n_parts: of the calibration.
    """

    def __init__(self, walk: BlockWalk, blocks: Sequence[int]):
        """The model is dense now. `blocks` are those that the units stand in, in ascending order.

        Raises:
            LookupError: a model whose head reads more than the states behind its last block.
        """
        length = walk.inputs["input_ids"].shape[1]
        self.walk = BlockWalk(walk.model, walk.inputs, batch_size=part_size(length), prove=False)
        self.walk.check_outputs()
        self.blocks, self.n_parts = blocks, len(self.walk.hidden)
        for index in range(len(self.walk.blocks)):
            self.walk.advance(index)
        self._dense = self.walk.hidden
        self.walk.rewind()
        self._weight = sum(self._dense_output(part).weights.sum().item() for part in range(self.n_parts))

    def set_levels(self, levels: Levels) -> None:
        """Bring the units to these levels, where that changes the model."""

    def step(self, index: int, part: int, hidden: Float[Tensor, "..."], levels: Levels) -> Float[Tensor, "..."]:
        """What block `index` makes of hidden states when the units stand at these levels."""
        return self.walk.run_block(index, part, hidden)

    def read(self, candidates: Sequence[Levels], parts: Sequence[int]) -> list[float]:
        """Of each candidate, what these parts add to its mean divergence over the calibration's tokens (nats, or what
        `DenseOutput` has for a model without predictions)."""
        found = dict.fromkeys(candidates, 0.0)
        for part in parts:
            dense, states, before = self._dense_output(part), [self.walk.hidden[part]], None
            share = dense.weights.sum().item() / self._weight
            for levels in sorted(candidates):
                del states[1 + self._first_difference(levels, before) :]
                self.set_levels(levels)
                for index in range(len(states) - 1, len(self.walk.blocks)):
                    states.append(self.step(index, part, states[-1], levels))
                found[levels] += share * dense.divergence(self._output(part, states[-1]))
                before = levels
        return [found[levels] for levels in candidates]

    def _first_difference(self, levels: Levels, before: Levels | None) -> int:
        """The first block in which two candidates differ."""
        if before is None:
            return 0
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(levels, before, strict=True)))
        return self.blocks[alike] if alike < len(levels) else len(self.walk.blocks)

    def _output(self, part: int, hidden: Tensor) -> Tensor:
        return read_output(self.walk.model, self.walk.predict(hidden, part), self.walk.batch_inputs(part))

    def _dense_output(self, part: int) -> DenseOutput:
        return DenseOutput(self._output(part, self._dense[part]), self.walk.batch_inputs(part))


class MatrixReader(LevelReader):
    """Units are matrices, which are replaced by what they are at their level; the caller puts the dense ones back.

    Attributes:
        now: the level of each; None as long as it is dense.
    """

    def __init__(self, walk: BlockWalk, matrices: Sequence[LeveledMatrix]):
        super().__init__(walk, [matrix.block for matrix in matrices])
        self.matrices = matrices
        self.now: list[int | None] = [None] * len(matrices)

    @torch.no_grad()
    def set_levels(self, levels: Levels) -> None:
        for unit, level in enumerate(levels):
            if self.now[unit] != level:
                self.matrices[unit].place.copy_(self.matrices[unit].weights[level])
                self.now[unit] = level
