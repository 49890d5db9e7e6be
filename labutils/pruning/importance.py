"""Importance scores of weights: pure functions on one weight matrix, higher = keep.

A score takes the weight matrix (out × in) and the norms of its inputs, x_j = ‖X_:j‖₂ over the calibration tokens,
and returns a matrix of the same shape. `SCORES` names every score together with the group inside which its values
are compared; `register_score` adds one, and every method name, sweep and notebook then finds it.

Sources: magnitude (Han et al. 2015), Wanda (Sun et al. 2024, arXiv 2306.11695), relative importance with and without
activations (Zhang et al. 2024, "Plug-and-Play"). Scores that read gradients stand in `gradient_scores`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.reconstruction import Factor, sparsegpt
from labutils.pruning.registry import Registry

STEP = "+"  # between the name of a score and the names of what follows it
ScoreFunction = Callable[[Tensor, object], Tensor]


class Score(NamedTuple):
    """A registered score.

    Attributes:
        function: of a matrix and the norms of its inputs; of a matrix and its `Statistics` where it reads gradients.
        group: inside which its values compete.
        reads_inputs: whether it looks at what the calibration tokens tell.
        of_package: whether it is the package's own.
        gradients: which it reads, see `gradient_passes`: of the model's loss, of a block's output's norm, or none.
        choose: for a score that reads the factorised Hessian in the place of norms: what chooses the mask, with the
            arguments of `sparsegpt`, and returns a matrix and the mask. Scores then rank over the whole model only.
        options: keyword arguments of the function that are options of `prune`: "alpha", "average_inputs" …
    """

    function: ScoreFunction
    group: Literal["row", "matrix"]
    reads_inputs: bool = True
    of_package: bool = False
    gradients: Literal["model", "absolute", "mixture", "dual", "block"] | None = None
    choose: Callable[..., tuple[Tensor, Tensor]] | None = None
    options: tuple[str, ...] = ()


def magnitude_score(
    weight: Float[Tensor, "out in"], norms: Float[Tensor, "in"] | None = None
) -> Float[Tensor, "out in"]:
    """|W|. The input norms are accepted, as by every score, and not used."""
    return weight.abs()


def wanda_score(weight: Float[Tensor, "out in"], norms: Float[Tensor, "in"]) -> Float[Tensor, "out in"]:
    """|W_ij| · x_j (Wanda, Sun et al. 2024)."""
    return weight.abs() * norms.to(weight.dtype)


def relative_importance_score(
    weight: Float[Tensor, "out in"], norms: Float[Tensor, "in"] | None = None, *, exponent: float = 0.5
) -> Float[Tensor, "out in"]:
    """(|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · x_j^exponent (RIA, Zhang et al. 2024; exponent 0 is RI).

    A weight is important where it is large relative to the other weights of its input and of its output, so that no
    row or column is removed wholesale. A row or column of zeros contributes 0.

    Raises:
        ValueError: the exponent is not 0 and no norms are given.
    """
    size = weight.abs()
    relative = _share(size, dim=0) + _share(size, dim=1)
    if exponent == 0:
        return relative
    if norms is None:
        raise ValueError(f"Relative importance with exponent {exponent} needs the norms of the inputs; got none.")
    return relative * norms.to(weight.dtype) ** exponent


def surgeon_score(weight: Float[Tensor, "out in"], factor: Factor) -> Float[Tensor, "out in"]:
    """W² / U_jj², SparseGPT's mask: what dropping a weight costs when the columns right of it make up for it."""
    return (weight / factor.upper.diagonal()).square()


def _share(size: Float[Tensor, "out in"], *, dim: int) -> Float[Tensor, "out in"]:
    total = size.sum(dim=dim, keepdim=True)
    return size / torch.where(total > 0, total, 1.0)


SCORES: Registry[Score] = Registry("score")
RI = partial(relative_importance_score, exponent=0.0)
SCORES.add("magnitude", Score(magnitude_score, "matrix", reads_inputs=False, of_package=True))
SCORES.add("wanda", Score(wanda_score, "row", of_package=True))
SCORES.add("ri", Score(RI, "matrix", reads_inputs=False, of_package=True))
SCORES.add("ria", Score(relative_importance_score, "matrix", of_package=True))
SCORES.add("sparsegpt-mask", Score(surgeon_score, "matrix", of_package=True, choose=sparsegpt))


def register_score(
    name: str,
    group: Literal["row", "matrix"],
    *,
    reads_inputs: bool = True,
    gradients: Literal["model", "absolute", "block"] | None = None,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """A decorator that makes a score available as a pruning method of that name.

    >>> @lab.register_score("squares", "row")
    ... def squares(weight, norms):
    ...     return weight**2 * norms

    Args:
        name: new method name, e.g. "mine"; "mine+ls" then also names the score followed by least squares.
        group: compare scores inside each output row, or over the whole matrix.
        reads_inputs: whether the norms are used; without them no tokens are run, and `norms` may be None.
        gradients: "model" (√Σ g² over the calibration sequences), "absolute" (Σ |g|) or "block", for a score that reads
            gradients: it then gets the matrix's `Statistics` in the place of the norms, with `norms`, `gradient`
            (out × in) and `n_sequences`.

    Raises:
        ValueError: the name is taken, or holds a "+"; or gradients of something else.
    """
    if STEP in name or not name:
        raise ValueError(f"{name!r} cannot name a score: {STEP!r} stands between names. Choose another name.")
    if gradients not in (None, "model", "absolute", "block") or (gradients and not reads_inputs):
        raise ValueError(
            f'gradients={gradients!r} must be None, or "model", "absolute" or "block" for a score that reads inputs.'
        )
    SCORES.refuse_taken(name)

    def register(function: ScoreFunction) -> ScoreFunction:
        SCORES.add(name, Score(function, group, reads_inputs, gradients=gradients))
        return function

    return register
