"""ROSE (arXiv 2603.05878): SparseGPT in an order of columns that prunes first what will lose most.

SparseGPT makes up for a column by the columns right of it, so early columns are repaired best. Inside every block of
columns a Wanda score says beforehand which weights would go; a column loses the sum of these scores, and columns are
worked on in descending loss inside their block, the blocks by their summed losses. Only a matrix whose blocks differ by
more than a half of the largest is reordered. The activation norms are plain ones (the authors' code divides them by the
number of sequences twice), and an N:M pattern, whose groups stand where they are, is not reordered.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labutils.pruning.importance import wanda_score
from labutils.pruning.matrices import Group, SparseGPT
from labutils.pruning.methods import Method, register_method
from labutils.pruning.patterns import Cut, unstructured_mask
from labutils.pruning.reconstruction import Factor, factor_hessian, sparsegpt
from labutils.pruning.statistics import Statistics

COLUMNAR = 0.5  # relative range of the blocks' losses above which a matrix is reordered


def column_order(
    weight: Float[Tensor, "out in"],
    norms: Float[Tensor, "in"],
    share: float,
    *,
    block_size: int = 128,
    columnar: float = COLUMNAR,
) -> Int[Tensor, "in"] | None:
    """The order of columns in which SparseGPT is to go through them; None where the order stays.

    >>> column_order(weight, norms, 0.7, block_size=64)

    Args:
        share: of the weights that go, in every block of columns.
        columnar: how far the blocks' losses must lie apart, as a share of the largest.
    """
    losses, blocks = torch.zeros(weight.shape[1], device=weight.device), []
    for start in range(0, weight.shape[1], block_size):
        part = slice(start, start + block_size)
        score = wanda_score(weight[:, part].float(), norms[part])
        mask = unstructured_mask(score, round(share * score.numel()), group="matrix")
        losses[part] = (score * ~mask).sum(dim=0)
        blocks.append(torch.arange(start, min(start + block_size, weight.shape[1]), device=weight.device))
    sums = torch.stack([losses[block].sum() for block in blocks])
    if sums.max() == 0 or (sums.max() - sums.min()) / sums.max() <= columnar:
        return None
    inside = [block[losses[block].argsort(descending=True, stable=True)] for block in blocks]
    return torch.cat([inside[place] for place in sums.argsort(descending=True, stable=True).tolist()])


@dataclass(frozen=True)
class Rose(SparseGPT):
    """SparseGPT with the columns in ROSE's order."""

    columnar: float = COLUMNAR

    name = "rose"

    def operations(self, rows: int, columns: int) -> int:
        return rows * columns**2 + 2 * columns**3

    def memory(self, rows: int, columns: int) -> int:
        return 4 * (5 * columns**2 + 2 * rows * columns)

    def prune(
        self, weight: Tensor, statistics: Statistics | None, *, n_drop: int, pattern: tuple[int, int] | None,
        factor: Factor | None, block_size: int, group: Group | None, cut: Cut | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        share = n_drop / weight.numel()
        shape = {"block_size": block_size, "columnar": self.columnar}
        order = None if pattern else column_order(weight, statistics.norms, share, **shape)
        if order is None:
            n_drop = None if pattern else n_drop
            return sparsegpt(weight, factor, n_drop=n_drop, pattern=pattern, block_size=block_size)
        moved = factor_hessian(statistics.hessian[order][:, order], damping=factor.damping)
        pruned, mask = sparsegpt(weight[:, order], moved, n_drop=n_drop, block_size=block_size)
        back = order.argsort()
        return pruned[:, back], mask[:, back]


@register_method("rose")
@dataclass(frozen=True)
class _Rose(Method):
    """SparseGPT, the columns that lose most first (arXiv 2603.05878).

    Attributes:
        columnar: a matrix is reordered where its blocks of columns lose so unequally: the range of their losses, as a
            share of the largest, lies above this.
    """

    columnar: float = COLUMNAR

    def __post_init__(self) -> None:
        if not 0 <= self.columnar <= 1:
            raise ValueError(f"columnar={self.columnar} must be a share in [0, 1].")

    def matrix_method(self, sparsity: float) -> Rose:
        return Rose(self.columnar)
