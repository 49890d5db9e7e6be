"""Hessian-based pruning of one weight matrix: SparseGPT's mask and the optimal-brain-surgeon update.

The layer-wise Hessian is H = (2 / sequences) XᵀX. Everything here works in the dtype of the Hessian (float32 in the
pipeline, float64 in the proofs) and on one factorisation per input, shared by every matrix that reads that input.

Optimal brain surgeon (Hassibi & Stork 1993), for one row w: dropping weight j costs w_j² / [H⁻¹]_jj at best, when the
others move by −w_j / [H⁻¹]_jj · [H⁻¹]_j:. SparseGPT (Frantar & Alistarh 2023, arXiv 2301.00774, Algorithm 1) goes
through the columns from left to right and moves only those to the right, so that all rows share the inverses of the
Hessian without its first columns. Their first rows are what U holds: with H⁻¹ = Uᵀ U, the inverse without the columns
before j has the first row U_jj · U_j:, which begins with U_jj². So the cost is w_j² / U_jj², and the move is
−w_j / U_jj · U_j:.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labutils.models.structure import all_finite
from labutils.pruning.patterns import inside_mask, lowest_cuts, mask_above, n_of_m_mask
from labutils.pruning.symmetric import quadratic_form
from labutils.pruning.triangular import invert_lower

DAMPING_ATTEMPTS = 4
STRIP = 32  # columns that update each other one by one; the rest of their block gets one matrix product


@dataclass(frozen=True)
class Factor:
    """A factorised Hessian.

    Attributes:
        upper: U, the upper Cholesky factor of (H + damping · mean(diag H) · I)⁻¹; None where only a damping was asked
            for with which H can be factorised.
        dead: inputs that were zero on every calibration token; their weights can go for free.
        damping: the share of the mean diagonal that was added, raised where the first try could not be factorised.
    """

    upper: Float[Tensor, "in in"] | None
    dead: Bool[Tensor, "in"]
    damping: float


def factor_hessian(hessian: Float[Tensor, "in in"], *, damping: float = 0.01, inverse: bool = True) -> Factor:
    """Factorise the damped inverse of a Hessian.

    A dead input (H_jj = 0) gets H_jj = 1. If the factorisation fails, the damping is raised tenfold, up to three
    times; the value that worked is in the result.

    Args:
        inverse: whether the factor of the inverse is found; without it only whether the Hessian can be factorised.

    Raises:
        ValueError: not finite, or not positive definite even with the largest damping.
    """
    if not all_finite(hessian):
        raise ValueError("The Hessian is not finite: the layer's inputs contain NaN or infinite values.")
    dead = hessian.diagonal() == 0
    for attempt in range(DAMPING_ATTEMPTS):
        used = damping * 10**attempt
        damped = damped_hessian(hessian, used)
        # Of the matrix with its axes reversed: H = R Rᵀ with R upper triangular, so that H⁻¹ = R⁻ᵀ R⁻¹ and U = R⁻¹.
        # One factorisation and one triangular inverse; H⁻¹ itself is never formed.
        lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if failed:
            continue
        if not inverse:
            return Factor(None, dead, used)
        upper = invert_lower(lower).flip(0, 1)
        if all_finite(upper):
            return Factor(upper, dead, used)
    raise ValueError(
        f"The Hessian is not positive definite even with a damping of {used:g} of its mean diagonal. "
        "Use more calibration tokens, or a larger `damping`."
    )


def damped_hessian(hessian: Float[Tensor, "in in"], damping: float) -> Float[Tensor, "in in"]:
    """H + damping · mean(diag H) · I, where a dead input (H_jj = 0) first gets H_jj = 1; a new matrix."""
    damped = hessian.clone()
    diagonal = damped.diagonal()
    diagonal.add_((diagonal == 0).to(diagonal.dtype))
    diagonal.add_(damping * diagonal.mean())
    return damped


def check_layer(weight: Tensor, mask: Tensor, hessian: Tensor) -> None:
    """Refuse what no search of a mask and no solution inside one can start from.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    columns = weight.shape[1]
    if mask.shape != weight.shape or hessian.shape != (columns, columns):
        raise ValueError(
            f"A {tuple(weight.shape)} matrix needs a mask of that shape and a Hessian of its {columns} inputs; got "
            f"{tuple(mask.shape)} and {tuple(hessian.shape)}."
        )
    if not all_finite(hessian) or not all_finite(weight):
        raise ValueError("The weights or the Hessian are not finite: they contain NaN or infinite values.")


def sparsegpt(
    weight: Float[Tensor, "out in"],
    factor: Factor,
    *,
    n_drop: int | None = None,
    pattern: tuple[int, int] | None = None,
    block_size: int = 128,
) -> tuple[Float[Tensor, "out in"], Bool[Tensor, "out in"]]:
    """Choose a mask by w² / U_jj² on already updated weights, and update the survivors.

    Args:
        n_drop: weights to drop. Each block of columns drops its share of it, rounded so that the running total is
            never more than half a weight off; the total is exact.
        pattern: (N, M) instead of `n_drop`; a group's mask is chosen when its first column is reached.
        block_size: columns whose mask is chosen together.

    Returns:
        the new weight (zero where dropped) and the mask (True = kept).
    """
    _check_columns(weight, factor, pattern)
    if n_drop is not None and not 0 <= n_drop <= weight.numel():
        raise ValueError(f"n_drop={n_drop} is outside [0, {weight.numel()}] for a matrix of {tuple(weight.shape)}.")
    if pattern is not None:  # a group must not straddle two blocks
        block_size = max(pattern[1], block_size - block_size % pattern[1])
    weight = inside_mask(weight, ~factor.dead)
    return _column_pass(weight, factor.upper, _ScoreMask(weight.shape, n_drop, pattern), block_size)


def obs_update(
    weight: Float[Tensor, "out in"], mask: Bool[Tensor, "out in"], factor: Factor, *, block_size: int = 128
) -> Float[Tensor, "out in"]:
    """Remove the weights outside a given mask, column by column, and let the columns to the right make up for them."""
    _check_columns(weight, factor, None)
    weight = inside_mask(weight, ~factor.dead)
    return _column_pass(weight, factor.upper, _GivenMask(mask), block_size)[0]


def relative_output_error(
    weight: Float[Tensor, "out in"], new_weight: Float[Tensor, "out in"], hessian: Float[Tensor, "in in"]
) -> float:
    """‖X Dᵀ‖² / ‖X Wᵀ‖² with D = new − old, from the Hessian alone; 0 where the layer's output is zero anyway."""
    total = quadratic_form(weight.to(hessian.dtype), hessian)
    error = quadratic_form((new_weight - weight).to(hessian.dtype), hessian)
    return error / total if total > 0 else 0.0


class _GivenMask:
    strip = STRIP

    def __init__(self, mask: Bool[Tensor, "out in"]):
        self.mask = mask

    def for_block(self, weight: Tensor, diagonal: Tensor, start: int) -> Tensor | None:
        return self.mask[:, start : start + weight.shape[1]]

    def for_group(self, weight: Tensor, diagonal: Tensor, column: int) -> Tensor | None:
        return None


class _ScoreMask:
    """Chooses masks during the column pass: a whole column block at once, or N:M group by group."""

    def __init__(self, shape: torch.Size, n_drop: int | None, pattern: tuple[int, int] | None):
        if (n_drop is None) == (pattern is None):
            raise ValueError("Give either n_drop or pattern, not both and not neither.")
        self.shape, self.n_drop, self.pattern = shape, n_drop, pattern
        group_m = pattern[1] if pattern else 1
        self.strip = max(group_m, STRIP - STRIP % group_m)  # a group must not straddle two strips

    def for_block(self, weight: Tensor, diagonal: Tensor, start: int) -> Tensor | None:
        if self.n_drop is None:
            return torch.ones_like(weight, dtype=torch.bool)
        # The running total is rounded, not each block's share, so that the last block ends at n_drop exactly.
        before = round(self.n_drop * start / self.shape[1])
        after = round(self.n_drop * (start + weight.shape[1]) / self.shape[1])
        score, count = (weight / diagonal) ** 2, after - before
        return (
            mask_above(score, lowest_cuts(score, [count])[count])
            if count
            else torch.ones_like(weight, dtype=torch.bool)
        )

    def for_group(self, weight: Tensor, diagonal: Tensor, column: int) -> Tensor | None:
        """The mask of the group that starts here, from weights updated up to here; None inside a group."""
        if self.pattern is None or column % self.pattern[1]:
            return None
        keep_n, group_m = self.pattern
        return n_of_m_mask((weight[:, :group_m] / diagonal[:group_m]) ** 2, keep_n, group_m)


def _column_pass(
    weight: Float[Tensor, "out in"], upper: Float[Tensor, "in in"], masks: _GivenMask | _ScoreMask, block_size: int
) -> tuple[Float[Tensor, "out in"], Bool[Tensor, "out in"]]:
    """Columns left to right in blocks; each column's error is spread over the columns right of it.

    The matrix is held transposed, so that a column is contiguous. Inside a block the errors reach the columns of their
    own strip one by one and the rest of the block strip by strip, which is a matrix product instead of many updates.
    """
    width, strip = weight.shape[1], masks.strip
    columns = weight.T.to(upper.dtype).contiguous()
    keep = torch.empty_like(columns, dtype=torch.bool)
    for start in range(0, width, block_size):
        stop = min(start + block_size, width)
        block, local = columns[start:stop], upper[start:stop, start:stop]
        keep[start:stop] = masks.for_block(block.T, local.diagonal(), start).T
        errors = torch.empty_like(block)  # E: what each column loses, over U_jj
        for first in range(0, stop - start, strip):
            part, after = slice(first, first + strip), slice(first + strip, None)
            _pass_strip(block[part], local[part, part], keep[start:stop][part], errors[part], masks, start + first)
            # −Uᵀ E to the rest of the block before its next strip is read; below, once per block, to all behind it.
            block[after].addmm_(local[part, after].T, errors[part], alpha=-1.0)
        columns[stop:].addmm_(upper[start:stop, stop:].T, errors, alpha=-1.0)
    return inside_mask(columns, keep).T.to(weight.dtype).contiguous(), keep.T.contiguous()


def _pass_strip(
    columns: Float[Tensor, "strip out"], upper: Float[Tensor, "strip strip"], keep: Bool[Tensor, "strip out"],
    errors: Float[Tensor, "strip out"], masks: _GivenMask | _ScoreMask, start: int,
) -> None:  # fmt: skip
    """The columns of one strip, in place; `errors` receives what each of them lost, over its diagonal element.

    Every update runs over the whole strip: U is zero left of its diagonal, so the columns before stay as they are.
    """
    diagonal = upper.diagonal()
    dropped = (~keep).to(columns.dtype)
    per_unit = upper / diagonal.unsqueeze(1)  # what a column's loss adds to the others
    rows = zip(columns.unbind(), dropped.unbind(), per_unit.unbind(), errors.unbind(), strict=True)
    for i, (column, drop, row, lost) in enumerate(rows):
        if (group := masks.for_group(columns[i:].T, diagonal[i:], start + i)) is not None:
            keep[i : i + group.shape[1]] = group.T
            dropped[i : i + group.shape[1]] = ~group.T
        torch.mul(column, drop, out=lost)
        # −w_j / U_jj · U_j:, for all rows of the matrix at once; the diagonal entry takes w_j itself to zero.
        columns.addr_(row, lost, alpha=-1.0)
    errors.div_(diagonal.unsqueeze(1))


def _check_columns(weight: Tensor, factor: Factor, pattern: tuple[int, int] | None) -> None:
    if weight.shape[1] != factor.upper.shape[0]:
        raise ValueError(
            f"A {tuple(weight.shape)} matrix does not read the {factor.upper.shape[0]} inputs of this Hessian."
        )
    if pattern and weight.shape[1] % pattern[1]:
        raise ValueError(f"A {pattern[0]}:{pattern[1]} pattern does not divide an input width of {weight.shape[1]}.")
