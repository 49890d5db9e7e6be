"""Importance scores of weights: pure functions on one weight matrix, higher = keep.

A score takes the weight matrix (out × in) and the norms of its inputs, x_j = ‖X_:j‖₂ over the calibration tokens,
and returns a matrix of the same shape. `SCORES` names every score together with the group inside which its values
are compared; `register_score` adds one, and every method name, sweep and notebook then finds it.

Sources: magnitude (Han et al. 2015), Wanda (Sun et al. 2024, arXiv 2306.11695), relative importance with and without
activations (Zhang et al. 2024, "Plug-and-Play").
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.registry import Registry

STEP = "+"  # between the name of a score and the names of what follows it
ScoreFunction = Callable[[Tensor, Tensor | None], Tensor]


class Score(NamedTuple):
    """A registered score: the function, the group inside which its values compete, whether it looks at norms, and
    whether it is the package's own.
    """

    function: ScoreFunction
    group: Literal["row", "matrix"]
    reads_inputs: bool = True
    of_package: bool = False


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


def _share(size: Float[Tensor, "out in"], *, dim: int) -> Float[Tensor, "out in"]:
    total = size.sum(dim=dim, keepdim=True)
    return size / torch.where(total > 0, total, 1.0)


SCORES: Registry[Score] = Registry("score")
RI = partial(relative_importance_score, exponent=0.0)
SCORES.add("magnitude", Score(magnitude_score, "matrix", reads_inputs=False, of_package=True))
SCORES.add("wanda", Score(wanda_score, "row", of_package=True))
SCORES.add("ri", Score(RI, "matrix", reads_inputs=False, of_package=True))
SCORES.add("ria", Score(relative_importance_score, "matrix", of_package=True))


def register_score(
    name: str, group: Literal["row", "matrix"], *, reads_inputs: bool = True
) -> Callable[[ScoreFunction], ScoreFunction]:
    """A decorator that makes a score available as a pruning method of that name.

    >>> @lab.register_score("squares", "row")
    ... def squares(weight, norms):
    ...     return weight**2 * norms

    Args:
        name: new method name, e.g. "mine"; "mine+ls" then also names the score followed by least squares.
        group: compare scores inside each output row, or over the whole matrix.
        reads_inputs: whether the norms are used; without them no tokens are run, and `norms` may be None.

    Raises:
        ValueError: the name is taken, or holds a "+".
    """
    if STEP in name or not name:
        raise ValueError(f"{name!r} cannot name a score: {STEP!r} stands between names. Choose another name.")
    SCORES.refuse_taken(name)

    def register(function: ScoreFunction) -> ScoreFunction:
        SCORES.add(name, Score(function, group, reads_inputs))
        return function

    return register
