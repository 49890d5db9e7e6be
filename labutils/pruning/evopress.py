"""`evopress`: how much each matrix drops is searched, by the output of models put together from pruned matrices.

Every matrix of the dense model is pruned once at each of a few levels around the uniform sparsity, a level being the
same number of weights in every matrix. A candidate is put together from these, so that it costs no more than running
it; `level_switching` searches them for the least divergence from the dense model. What is then pruned anew by the
sparsities that were found reads the blocks behind pruned ones, as ever; with `sequential=False` it is, to the bit, the
model that the search has read. Of a method that also fits a block as a whole, the search takes the matrices alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.allocation_rules import UPPER_SPARSITY, integer_budgets
from labutils.pruning.allocations import Allocation, DenseModel, Readings, register_allocation
from labutils.pruning.level_reading import LeveledMatrix, MatrixReader, part_size, searched_tokens
from labutils.pruning.level_switching import LevelSearch, SearchOptions, search_levels
from labutils.pruning.matrices import MatrixMethod, prune_matrix
from labutils.pruning.restoring import WeightSnapshot


@register_allocation("evopress")
@dataclass(frozen=True)
class EvoPress(SearchOptions, Allocation):
    """Searched by switching levels, for the least divergence of the output (EvoPress, arXiv 2410.14649)."""

    per_matrix = True
    streamable = False

    @property
    def n_levels(self) -> int:
        return 2 * self.levels + 1

    def reads_inputs(self, sparsity: float) -> bool:
        return sparsity > 0

    def reads_hessians(self, method: MatrixMethod) -> bool:
        return method.needs_hessian

    def readings(self, n_sequences: int, length: int, n_blocks: int) -> Readings:
        in_all = searched_tokens(n_sequences, length, self.generations, self.offspring)
        return Readings(in_all, min(part_size(length), n_sequences) * length)

    def sparsities(self, dense: DenseModel) -> list[float]:
        """Raises a ValueError: levels too near to each other for the model's matrices, or an output not finite."""
        sizes = _sizes(dense)
        budgets = integer_budgets(sizes, [dense.sparsity] * len(sizes), dense.sparsity)
        if dense.sparsity > 0:
            step = self._step(sizes, dense.sparsity)
            budgets = [own + level * step for own, level in zip(budgets, self._search(dense).levels, strict=True)]
        return [budget / size for budget, size in zip(budgets, sizes, strict=True)]

    def tried(self, dense: DenseModel) -> pd.DataFrame | None:
        found = dense.statistics.searches.get(self._key(dense))
        return None if found is None else found.path

    def _search(self, dense: DenseModel) -> LevelSearch:
        """The search, once for all who ask for it."""
        known = dense.statistics.searches
        if self._key(dense) not in known:
            known[self._key(dense)] = self._carry_out(dense)
        return known[self._key(dense)]

    def _key(self, dense: DenseModel) -> tuple:
        return self, dense.method, dense.sparsity, dense.options, dense.seed

    @torch.no_grad()
    def _carry_out(self, dense: DenseModel) -> LevelSearch:
        sizes, walk = _sizes(dense), dense.statistics.walk
        budgets = integer_budgets(sizes, [dense.sparsity] * len(sizes), dense.sparsity)
        step = self._step(sizes, dense.sparsity)
        most = [max(budget, int(UPPER_SPARSITY * size)) for budget, size in zip(budgets, sizes, strict=True)]
        lowest = [-min(self.levels, budget // step) for budget in budgets]
        highest = [min(self.levels, (top - budget) // step) for top, budget in zip(most, budgets, strict=True)]
        levels = [range(low, high + 1) for low, high in zip(lowest, highest, strict=True)]
        counts = [{level: own + level * step for level in each} for own, each in zip(budgets, levels, strict=True)]
        with WeightSnapshot(walk.blocks) as weights:
            reader = MatrixReader(walk, prune_at_levels(dense, counts))
            found = search_levels(
                [0] * len(sizes), lowest, highest, reader.read, n_parts=reader.n_parts, generations=self.generations,
                offspring=self.offspring, seed=dense.seed,
            )  # fmt: skip
            weights.restore()
        return found

    def _step(self, sizes: Sequence[int], sparsity: float) -> int:
        """Weights of one level."""
        mean = sum(sizes) / len(sizes)
        if step := round(self.level_range * min(sparsity, 1 - sparsity) * mean / self.levels):
            return step
        raise ValueError(
            f"At sparsity={sparsity}, levels={self.levels} and level_range={self.level_range} leave less than one "
            f"weight between two levels of matrices of {mean:.0f} weights. Take fewer levels, a larger level_range, or "
            "another allocation."
        )


def prune_at_levels(dense: DenseModel, counts: Sequence[dict[int, int]]) -> list[LeveledMatrix]:
    """Every matrix of the dense model at each of its levels, by what it reads there; the model stays as it is.

    Args:
        counts: of each matrix, the weights that it drops at a level.
    """
    options, method, found = dense.options, dense.method, []
    matrices = dense.statistics.matrices(method, options.damping, factorise=method.needs_factor)
    for own, (block, _, layer, statistics, factor) in zip(counts, matrices, strict=True):
        weight, pruned = weight_matrix(layer), {}
        for level, n_drop in own.items():
            result = prune_matrix(
                weight, statistics, method, n_drop=n_drop, factor=factor, block_size=options.block_size,
                group=options.group, ties=False,
            )  # fmt: skip
            pruned[level] = result.weight.to(weight.dtype).cpu()
        found.append(LeveledMatrix(block, weight, pruned))
    return found


def _sizes(dense: DenseModel) -> list[int]:
    """Weights of every matrix."""
    return [layer.weight.numel() for block in dense.statistics.walk.blocks for layer in prunable_layers(block).values()]
