"""Prune one weight matrix: a score or SparseGPT chooses the mask, the Hessian may repair what is left.

A score may be followed by a search for a better mask and by a reconstruction of the kept weights. A matrix that no
calibration token reached (an expert that was never chosen) loses its smallest weights, whatever the method.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labutils.pruning import gradient_scores  # noqa: F401 (registers its scores)
from labutils.pruning.importance import SCORES, surgeon_score
from labutils.pruning.patterns import (
    Cut,
    channel_permutation,
    mask_above,
    n_of_m_mask,
    tied_share,
    unstructured_mask,
)
from labutils.pruning.reconstruction import Factor, factor_hessian, sparsegpt
from labutils.pruning.reconstructions import (
    RECONSTRUCTIONS,
    SEARCHES,
    MaskedLayer,
    Reconstruction,
    Step,
)
from labutils.pruning.statistics import Statistics
from labutils.pruning.step_names import steps_name

Group = Literal["row", "matrix"]


class MatrixMethod:
    """How one matrix is pruned. A subclass defines `scores` and `prune`; it must be hashable.

    Attributes:
        name: in the report and in messages.
        needs_hessian: whether its statistics hold the Hessian of the matrix's inputs.
        needs_factor: whether it gets that factorised; it does unless a subclass says otherwise.
        needs_inverse: whether the factor itself is read, and not only the damping with which it was found.
        ranks_by_hessian: whether `scores` reads it as well.
        precision: in which it is factorised.
        reads_inputs: whether calibration tokens enter at all; without them `statistics` may be None.
        gradients: which its statistics hold, see `gradient_passes`; of the "block", of the model, or none.
        of_block: what it does with the block once all of its matrices are pruned; None for nothing.
    """

    name: str
    needs_hessian = False
    ranks_by_hessian = False
    precision = torch.float32
    reads_inputs = True
    gradients: str | None = None
    of_block: Reconstruction | None = None

    @property
    def needs_factor(self) -> bool:
        return self.needs_hessian

    @property
    def needs_inverse(self) -> bool:
        return self.needs_factor

    @property
    def runs_block(self) -> bool:
        """Whether the block itself is run on what the walk has come to, beside the pass for the statistics."""
        return self.gradients == "block" or self.of_block is not None

    def operations(self, rows: int, columns: int) -> int:
        """Operations on a matrix that grow faster than its size, as products in single precision, for a forecast."""
        return rows * columns**2 if self.needs_hessian else 0

    def memory(self, rows: int, columns: int) -> int:
        """Bytes that it holds at its peak beside a few copies of the matrix and what is known of its inputs."""
        return 0

    def scores(
        self, weight: Float[Tensor, "out in"], statistics: Statistics | None, factor: Factor | None
    ) -> Float[Tensor, "out in"]:
        """The score by which the weights of a matrix that has not been touched yet rank; higher = keep."""
        raise NotImplementedError(f"{type(self).__name__} must define `scores`.")

    def prune(
        self,
        weight: Float[Tensor, "out in"],
        statistics: Statistics | None,
        *,
        n_drop: int,
        pattern: tuple[int, int] | None,
        factor: Factor | None,
        block_size: int,
        group: Group | None,
        cut: Cut | None,
    ) -> tuple[Float[Tensor, "out in"], Bool[Tensor, "out in"]]:
        """The pruned matrix and its mask (True = kept); arguments as for `prune_matrix`."""
        raise NotImplementedError(f"{type(self).__name__} must define `prune`.")


@dataclass(frozen=True)
class ScoreMethod(MatrixMethod):
    """A registered score chooses the mask; a mask search may change it, and a reconstruction the kept weights."""

    score: str
    search: str | None = None
    reconstruction: str = "none"
    options: tuple[tuple[str, float | bool], ...] = ()  # of the score's function, where not its own defaults

    @property
    def name(self) -> str:
        return steps_name(self.score, self.search, self.reconstruction)

    @property
    def steps(self) -> list[Step]:
        """What follows the score."""
        search = [] if self.search is None else [SEARCHES[self.search]()]
        return [*search, RECONSTRUCTIONS[self.reconstruction]()]

    @property
    def needs_hessian(self) -> bool:
        return self.ranks_by_hessian or any(step.needs_hessian for step in self.steps)

    @property
    def needs_factor(self) -> bool:
        return self.ranks_by_hessian or any(step.needs_factor for step in self.steps)

    @property
    def needs_inverse(self) -> bool:
        return self.ranks_by_hessian or any(step.needs_factor and step.needs_inverse for step in self.steps)

    @property
    def ranks_by_hessian(self) -> bool:
        return SCORES[self.score].choose is not None

    @property
    def precision(self) -> torch.dtype:
        return torch.float64 if any(step.precision == torch.float64 for step in self.steps) else torch.float32

    @property
    def reads_inputs(self) -> bool:
        return SCORES[self.score].reads_inputs or any(step.reads_inputs for step in self.steps)

    @property
    def gradients(self) -> str | None:
        return SCORES[self.score].gradients

    @property
    def of_block(self) -> Reconstruction | None:
        step = RECONSTRUCTIONS[self.reconstruction]()
        return step if step.of_block else None

    def operations(self, rows: int, columns: int) -> int:
        return sum(step.operations(rows, columns) for step in self.steps)

    def memory(self, rows: int, columns: int) -> int:
        return max(step.memory(rows, columns) for step in self.steps)

    def competes_in(self, asked: Group | None) -> Group:
        """The group inside which scores are compared."""
        return asked or SCORES[self.score].group

    def scores(self, weight: Tensor, statistics: Statistics | None, factor: Factor | None) -> Tensor:
        score = SCORES[self.score]
        if score.choose is not None:
            return score.function(weight.to(factor.upper.dtype), factor)
        read = statistics if score.gradients or statistics is None else statistics.norms
        return score.function(weight.float(), read, **dict(self.options))

    def prune(
        self, weight: Tensor, statistics: Statistics | None, *, n_drop: int, pattern: tuple[int, int] | None,
        factor: Factor | None, block_size: int, group: Group | None, cut: Cut | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        choose, score = SCORES[self.score].choose, self.scores(weight, statistics, factor)
        if choose is not None:
            mask = choose(weight, factor, n_drop=None if pattern else n_drop, pattern=pattern, block_size=block_size)[1]
        elif pattern:
            mask = n_of_m_mask(score, *pattern)
        elif cut is not None:
            mask = mask_above(score, cut)
        else:
            mask = unstructured_mask(score, n_drop, group=self.competes_in(group))
        layer = MaskedLayer(weight, mask, statistics, factor, pattern, block_size)
        if self.search is not None:
            layer = replace(layer, mask=SEARCHES[self.search]().search(layer))
        return RECONSTRUCTIONS[self.reconstruction]().reconstruct(layer), layer.mask


@dataclass(frozen=True)
class SparseGPT(MatrixMethod):
    """Mask and update together, column by column, by the layer's Hessian (Frantar & Alistarh 2023)."""

    name = "sparsegpt"
    needs_hessian = True
    ranks_by_hessian = True

    def scores(self, weight: Tensor, statistics: Statistics | None, factor: Factor | None) -> Tensor:
        return surgeon_score(weight.to(factor.upper.dtype), factor)

    def prune(
        self, weight: Tensor, statistics: Statistics | None, *, n_drop: int, pattern: tuple[int, int] | None,
        factor: Factor | None, block_size: int, group: Group | None, cut: Cut | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return sparsegpt(weight, factor, n_drop=None if pattern else n_drop, pattern=pattern, block_size=block_size)


UNREACHED = ScoreMethod("magnitude")  # prunes a matrix that no token has reached, whatever the method


@dataclass(frozen=True)
class MatrixResult:
    """A pruned matrix.

    Attributes:
        order: the channel permutation under which the mask is N:M, or None.
        ties: the share that was decided among equal scores (`tied_share`); NaN where scores change during the pruning,
            where a search has changed the mask, or where it was not asked for.
    """

    weight: Float[Tensor, "out in"]
    mask: Bool[Tensor, "out in"]
    order: Int[Tensor, "in"] | None
    ties: float = float("nan")


def matrix_score(
    weight: Float[Tensor, "out in"],
    statistics: Statistics | None,
    method: MatrixMethod,
    *,
    factor: Factor | None = None,
) -> Float[Tensor, "out in"]:
    """The score by which `method` would rank the weights of a matrix that has not been touched yet.

    `statistics` may be None for a method that reads no inputs.
    """
    return _informed_method(method, statistics).scores(weight, statistics, factor)


def prune_matrix(
    weight: Float[Tensor, "out in"],
    statistics: Statistics | None,
    method: MatrixMethod,
    *,
    n_drop: int,
    pattern: tuple[int, int] | None = None,
    permute: bool = False,
    factor: Factor | None = None,
    block_size: int = 128,
    group: Group | None = None,
    cut: Cut | None = None,
    ties: bool = True,
) -> MatrixResult:
    """Drop `n_drop` weights of a matrix, or those outside an N:M pattern; the given weight is left as it is.

    Args:
        statistics: of the inputs; None for a method that reads none.
        factor: the factorised Hessian, for methods that need one.
        permute: search the channel permutation first (N:M only).
        group: compare scores by "row" or over the "matrix", instead of the score's own default.
        cut: where `n_drop` cuts the scores of the matrix, if that is known already.
        ties: whether the share that was decided among equal scores is counted; a report alone needs it.
    """
    method = _informed_method(method, statistics)
    if permute and pattern:
        score = method.scores(weight, statistics, factor)
        order = channel_permutation(score, *pattern)
        return _prune_permuted(weight, statistics, method, order, pattern, factor, block_size, ties)
    pruned, mask = method.prune(
        weight, statistics, n_drop=n_drop, pattern=pattern, factor=factor, block_size=block_size, group=group, cut=cut
    )
    if not ties or not isinstance(method, ScoreMethod) or method.search is not None or method.ranks_by_hessian:
        return MatrixResult(pruned, mask, None)
    score = method.scores(weight, statistics, factor)
    return MatrixResult(pruned, mask, None, tied_share(score, mask, pattern=pattern, group=method.competes_in(group)))


def _informed_method(method: MatrixMethod, statistics: Statistics | None) -> MatrixMethod:
    """The method, or magnitude where no token has reached the matrix."""
    return method if statistics is None or statistics.n_tokens else UNREACHED


def _prune_permuted(
    weight: Tensor, statistics: Statistics | None, method: MatrixMethod, order: Tensor, pattern: tuple[int, int],
    factor: Factor | None, block_size: int, ties: bool,
) -> MatrixResult:  # fmt: skip
    """Prune in permuted order and bring the result back to the layer's own order."""
    moved = None if statistics is None else statistics.permuted(order)
    if factor is not None:
        dtype = method.precision if factor.upper is None else factor.upper.dtype
        factor = factor_hessian(moved.hessian.to(dtype), damping=factor.damping, inverse=method.needs_inverse)
    result = prune_matrix(
        weight[:, order], moved, method, n_drop=0, pattern=pattern, factor=factor, block_size=block_size, ties=ties
    )
    back = order.argsort()
    return MatrixResult(result.weight[:, back], result.mask[:, back], order, result.ties)
