"""One grouping factor with few varying columns: the solution of `deviance`, all levels at once.

With a single factor V = I + ZΛΛ'Z' falls apart into levels, and all that is wanted of them are sums. What a level needs
is a few numbers, so that one array operation over all levels takes the place of as many small factorisations: levels
stand last, and the loops here run over the varying columns.
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg.lapack import dtrtri

from labutils.multilevel.crossed import factorised
from labutils.multilevel.products import Products, Solution

FEW = 3  # varying columns up to which this is faster than one factorisation per level


def solve_single(products: Products, factor: Float[np.ndarray, "terms terms"]) -> Solution:
    """As `deviance.solve`, for products with one grouping factor.

    Raises:
        np.linalg.LinAlgError: the response is reproduced exactly, so that there is no residual.
    """
    sums, terms = products.levels_last, len(factor)  # Z_j'[Z_j, X, y]
    half, log_det = halves_of_levels(products, factor)
    lost = (half @ half.transpose(0, 2, 1)).sum(0)  # Σ_j H_j'H_j: what V⁻¹ takes off every cross product
    information = products.own_sum - lost[:terms, :terms]
    # [X, y]'V⁻¹[X, y] = LL' with L = [[R_X', 0], [r_X', r]]: both determinants, b, and r² = y'Py.
    root = factorised(products.gram - lost[terms:, terms:])
    inner, last = root[:-1, :-1], root[-1]
    back, failed = dtrtri(inner, lower=1)  # R_X'⁻¹
    if failed:
        raise np.linalg.LinAlgError(f"the diagonal is zero in row {failed}")
    coefficients = last[:-1] @ back
    rest = sums[:, terms:] - _products_of_halves(half, terms)  # Z_j'V⁻¹[X, y]
    scores = rest[:, -1] - coefficients @ rest[:, :-1]  # Z_j'V⁻¹(y − Xb) = Z_j'Py
    whitened = (back @ rest[:, :-1]).reshape(terms, -1)  # R_X'⁻¹X'V⁻¹Z_j, with which V⁻¹ becomes P
    return Solution(
        log_det_v=log_det, log_det_x=2 * float(np.log(inner.diagonal()).sum()), r2=float(last[-1] ** 2),
        coefficients=coefficients, information_root=inner, scores=[scores.T], information=[information],
        projected=[information - whitened @ whitened.T],
    )  # fmt: skip


def halves_of_levels(
    products: Products, factor: Float[np.ndarray, "terms terms"]
) -> tuple[Float[np.ndarray, "terms all levels"], float]:
    """L_j⁻¹Λ'Z_j'[Z_j, W] of every level, L_j L_j' = I + Λ'Z_j'Z_jΛ, and Σ_j log|L_j L_j'|; W as in `deviance`."""
    sums, terms = products.levels_last, len(factor)
    half = (factor.T @ sums.reshape(terms, -1)).reshape(sums.shape)
    return half, _whiten(factor.T @ half[:, :terms], half)


def _whiten(
    squares: Float[np.ndarray, "terms terms levels"], right: Float[np.ndarray, "terms columns levels"]
) -> float:
    """I + squares = L_j L_j' of every level: L_j⁻¹ times the right sides, in place, and Σ_j log|L_j L_j'|."""
    terms, log_det = len(squares), 0.0
    for k in range(terms):
        pivot = 1 + squares[k, k]
        if not pivot.min() > 0:
            raise np.linalg.LinAlgError("I + Λ'Z'ZΛ of a level is not positive definite")
        log_det += float(np.log(pivot).sum())
        root = np.sqrt(pivot)
        right[k] /= root
        # What column k of L takes off the rows below it, in the square and in the right sides.
        below = [squares[i, k] / root for i in range(k + 1, terms)]
        for i, share in enumerate(below, start=k + 1):
            right[i] -= share * right[k]
            for j in range(k + 1, i + 1):
                squares[i, j] -= share * below[j - k - 1]
    return log_det


def _products_of_halves(half: Float[np.ndarray, "terms columns levels"], terms: int) -> Float[np.ndarray, "_ _ levels"]:
    """H_j'H_j of every level: rows of Z, columns of [X, y]."""
    found = half[0, :terms, None] * half[0, None, terms:]
    for part in half[1:]:
        found += part[:terms, None] * part[None, terms:]
    return found
