"""Prune one weight matrix: a score or SparseGPT chooses the mask, the Hessian may repair what is left.

A method name is `sparsegpt`, a registered score (`magnitude`, `wanda`, `ri`, `ria`, …), or a score followed by `+obs`:
that score's mask, then the optimal-brain-surgeon update of the survivors. A matrix that no calibration token reached
(an expert that was never chosen) loses its smallest weights, whatever the method.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labutils.pruning.importance import SCORES
from labutils.pruning.patterns import Cut, channel_permutation, inside_mask, mask_above, n_of_m_mask, unstructured_mask
from labutils.pruning.reconstruction import Factor, factor_hessian, obs_update, relative_output_error, sparsegpt
from labutils.pruning.statistics import Statistics


@dataclass(frozen=True)
class MatrixMethod:
    """How one matrix is pruned: which score (None: SparseGPT's own), and whether the survivors are updated."""

    name: str
    score: str | None
    update: bool

    @property
    def needs_hessian(self) -> bool:
        return self.update

    @property
    def reads_inputs(self) -> bool:
        """Whether calibration tokens enter at all."""
        return self.update or SCORES[self.score].reads_inputs

    def group(self, asked: Literal["row", "matrix"] | None) -> Literal["row", "matrix"]:
        """Inside which group scores compete, for methods that have a score."""
        return asked or SCORES[self.score].group


@dataclass(frozen=True)
class MatrixResult:
    """A pruned matrix. `order` is the channel permutation under which the mask is N:M, or None."""

    weight: Float[Tensor, "out in"]
    mask: Bool[Tensor, "out in"]
    order: Int[Tensor, "in"] | None


def matrix_method(name: str) -> MatrixMethod:
    """The method of that name.

    Raises:
        LookupError: no such method; the nearest known one is named.
    """
    if name == "sparsegpt":
        return MatrixMethod(name, None, True)
    score = name.removesuffix("+obs")
    if score not in SCORES:
        known = [*SCORES, "sparsegpt", *(f"{other}+obs" for other in SCORES), "optiprune", "optiprune-auto"]
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise LookupError(f"There is no pruning method {name!r}.{hint} Known: {', '.join(known)}.")
    return MatrixMethod(name, score, name.endswith("+obs"))


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
    method = _informed_method(method, statistics)
    if method.score is None:
        return (weight.to(factor.upper.dtype) / factor.upper.diagonal()) ** 2
    return SCORES[method.score].function(weight.float(), None if statistics is None else statistics.norms)


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
    group: Literal["row", "matrix"] | None = None,
    cut: Cut | None = None,
) -> MatrixResult:
    """Drop `n_drop` weights of a matrix, or those outside an N:M pattern; the given weight is left as it is.

    Args:
        statistics: of the inputs; None for a method that reads none.
        factor: the factorised Hessian, for methods that need one.
        permute: search the channel permutation first (N:M only).
        group: compare scores by "row" or over the "matrix", instead of the score's own default.
        cut: where `n_drop` cuts the scores of the matrix, if that is known already.
    """
    method = _informed_method(method, statistics)
    if permute and pattern:
        score = matrix_score(weight, statistics, method, factor=factor)
        order = channel_permutation(score, *pattern)
        return _prune_permuted(weight, statistics, method, order, pattern, factor, block_size)
    if method.score is None:
        pruned, mask = sparsegpt(
            weight, factor, n_drop=None if pattern else n_drop, pattern=pattern, block_size=block_size
        )
        return MatrixResult(pruned, mask, None)
    score = matrix_score(weight, statistics, method)
    if pattern:
        mask = n_of_m_mask(score, *pattern)
    elif cut is not None:
        mask = mask_above(score, cut)
    else:
        mask = unstructured_mask(score, n_drop, group=method.group(group))
    pruned = obs_update(weight, mask, factor, block_size=block_size) if method.update else inside_mask(weight, mask)
    return MatrixResult(pruned, mask, None)


def _informed_method(method: MatrixMethod, statistics: Statistics | None) -> MatrixMethod:
    """The method, or magnitude where no token has reached the matrix."""
    return method if statistics is None or statistics.n_tokens else matrix_method("magnitude")


def _prune_permuted(
    weight: Tensor, statistics: Statistics | None, method: MatrixMethod, order: Tensor, pattern: tuple[int, int],
    factor: Factor | None, block_size: int,
) -> MatrixResult:  # fmt: skip
    """Prune in permuted order and bring the result back to the layer's own order."""
    moved = None if statistics is None else statistics.permuted(order)
    if factor is not None:
        factor = factor_hessian(moved.hessian, damping=factor.damping)
    result = prune_matrix(
        weight[:, order], moved, method, n_drop=0, pattern=pattern, factor=factor, block_size=block_size
    )
    back = order.argsort()
    return MatrixResult(result.weight[:, back], result.mask[:, back], order)


def output_error(weight: Float[Tensor, "out in"], pruned: Float[Tensor, "out in"], statistics: Statistics) -> float:
    """Relative squared error of the layer's output: exact from the Hessian, else on the sampled calibration tokens.

    NaN where no calibration token reached the matrix.
    """
    if statistics.n_tokens == 0:
        return float("nan")
    if statistics.hessian is not None:
        return relative_output_error(weight, pruned, statistics.hessian)
    total = torch.linalg.vector_norm(statistics.sample @ weight.float().T).item() ** 2
    error = torch.linalg.vector_norm(statistics.sample @ (pruned - weight).float().T).item() ** 2
    return error / total if total > 0 else 0.0
