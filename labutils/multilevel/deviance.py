"""The deviance of a mixed model as a function of its relative covariance factors, and its exact gradient.

Model: y = X b + Σ_f Z_f u_f + e, with u_f ~ N(0, σ² Λ_f Λ_f') for every level and e ~ N(0, σ² I). Let
V = I + Σ_f Z_f Λ_f Λ_f' Z_f', P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹ and r² = y'Py. Then −2 log-likelihood after profiling b
and σ² is n(1 + log(2π r²/n)) + log|V|, and under REML (n−p)(1 + log(2π r²/(n−p))) + log|V| + log|X'V⁻¹X|
(Patterson & Thompson 1971, Biometrika 58; Bates et al. 2015, Journal of Statistical Software 67(1), section 3).

V is never formed. One grouping factor, the one with most coefficients, is eliminated level by level, since its part of
the cross products is block-diagonal; what is left, the columns [Z_other, X, y], is one dense matrix. With a single
grouping factor only [X, y] is left, and the cost of a value does not depend on the number of rows. The same solution is
found faster by `single` where one factor has few varying columns, and by `crossed` where few levels of several large
factors meet.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.linalg.lapack import dtrtrs

from labutils.multilevel.crossed import eliminated, factorised, solve_crossed
from labutils.multilevel.products import Products, Solution, diagonal_blocks, row_scaling, split_rows
from labutils.multilevel.single import FEW, halves_of_levels, solve_single

Square = Float[np.ndarray, "terms terms"]


def solve(products: Products, factors: Sequence[Float[np.ndarray, "_ _"]]) -> Solution:
    """Everything that deviance and gradient are made of, for relative factors Λ (any square roots).

    Raises:
        np.linalg.LinAlgError: the response is reproduced exactly, so that there is no residual.
    """
    if products.between is not None:
        return solve_crossed(products, factors)
    single = len(factors) == 1 and len(factors[0]) <= FEW
    return solve_single(products, factors[0]) if single else _solve(products, factors)[0]


def residual_left(products: Products, factors: Sequence[Float[np.ndarray, "_ _"]]) -> float:
    """y'Py alone; raises as `solve`."""
    if products.between is None:
        return solve(products, factors).r2
    return float(eliminated(products, factors).root[-1, -1] ** 2)


def level_precisions(
    products: Products, factors: Sequence[Float[np.ndarray, "_ _"]]
) -> list[Float[np.ndarray, "_ _ _"]]:
    """Z_j'V⁻¹Z_j of every level j, for every grouping factor."""
    return _solve(products.dense(), factors, by_level=True)[1]


def _solve(
    products: Products, factors: Sequence[Float[np.ndarray, "_ _"]], by_level: bool = False
) -> tuple[Solution, list[Float[np.ndarray, "_ _ _"]]]:
    """The solution, and where asked for Z_j'V⁻¹Z_j of every level."""
    n_other = products.gram.shape[0] - products.n_fixed - 1
    # From here on o stands for the grouping factors that are left, and [Z_o, X, y] is called W.
    log_det, precision, cross, rest = _eliminate(products, factors[0])
    # Penalised least squares (Bates et al. 2015, section 3), in the metric V_1⁻¹ of the eliminated factor: the normal
    # equations of the spherical effects of o, of b, and of y as a last column. Λ' is applied to the rows, then to the
    # columns, which are the rows of the transpose: S W'V_1⁻¹W S' with S = diag(Λ_o', I, 1). The penalty adds I to the
    # block of the random effects.
    scale = row_scaling(factors[1:], products.sizes[1:], len(rest))
    penalised = scale(scale(rest).T)
    penalised[np.arange(n_other), np.arange(n_other)] += 1
    # One Cholesky factor [[L, 0, 0], [R_ZX', R_X', 0], [r_Z', r_X', r]] holds both determinants, the right-hand side
    # of the triangular system for (u_o, b), and in its last corner r: r² is what least squares leave of y, y'Py.
    root = factorised(penalised)
    log_diagonal, inner, last = np.log(root.diagonal()), root[:-1, :-1], root[-1]
    effects = _triangular_solve(inner, last[:-1, None], transposed=True)[:, 0]
    # What the gradient needs of every level j: row blocks Z_j'V_1⁻¹W, and square blocks Z_j'V_1⁻¹Z_j.
    rows_of = [cross.reshape(-1, cross.shape[-1]), *split_rows(rest, products.sizes[1:])]
    own = [precision, *diagonal_blocks(rest, products.sizes[1:])]
    scores, precisions, information, projected = [], [], [], []
    for rows, blocks in zip(rows_of, own, strict=True):
        scaled = scale(rows.T)
        # Py = V⁻¹(y − Xb) = V_1⁻¹(y − Z_o Λ_o u_o − Xb)
        scores.append((rows[:, -1] - effects @ scaled[:-1]).reshape(blocks.shape[:2]))
        # With w = root⁻¹ S[Z_o, X]'V_1⁻¹Z_j: its rows of o take V_1⁻¹ to V⁻¹ (Woodbury), its rows of X take V⁻¹ to P.
        whitened = _triangular_solve(inner, scaled[:-1]).reshape(-1, *blocks.shape[:2])
        information.append(blocks.sum(0) - _squares_summed(whitened[:n_other]))
        projected.append(information[-1] - _squares_summed(whitened[n_other:]))
        if by_level:
            precisions.append(blocks - _squares(whitened[:n_other]))
    # log|V| = log|V_1| + log|I + Λ_o'Z_o'V_1⁻¹Z_oΛ_o|, and a determinant is twice the log diagonal of its factor.
    solution = Solution(
        log_det_v=log_det + 2 * float(log_diagonal[:n_other].sum()),
        log_det_x=2 * float(log_diagonal[n_other:-1].sum()), r2=float(last[-1] ** 2), coefficients=effects[n_other:],
        information_root=inner[n_other:, n_other:], scores=scores, information=information, projected=projected,
    )  # fmt: skip
    return solution, precisions


def profiled_deviance(solution: Solution, products: Products, reml: bool) -> float:
    """−2 log-likelihood at the best b and σ² for these factors."""
    degrees = products.n_rows - products.n_fixed * reml
    # d(σ) below at its minimum σ² = r²/degrees, where r²/σ² is degrees.
    profiled = degrees * (1 + np.log(2 * np.pi * solution.r2 / degrees))
    return float(profiled + solution.log_det_v + reml * solution.log_det_x)


def deviance(solution: Solution, products: Products, reml: bool, sigma: float) -> float:
    """−2 log-likelihood at the best b for these factors and this residual standard deviation."""
    degrees = products.n_rows - products.n_fixed * reml
    scale = degrees * np.log(2 * np.pi * sigma**2)
    return float(scale + solution.r2 / sigma**2 + solution.log_det_v + reml * solution.log_det_x)


def residual_variance(solution: Solution, products: Products, reml: bool) -> float:
    """The σ² that minimises the deviance for these factors: r²/(n−p), under maximum likelihood r²/n."""
    return solution.r2 / (products.n_rows - products.n_fixed * reml)


def covariance_gradients(solution: Solution, reml: bool, variance: float) -> list[Float[np.ndarray, "_ _"]]:
    """Derivative of the deviance in every relative covariance ΛΛ', one symmetric matrix G per grouping factor.

    A small change D of ΛΛ' changes the deviance by tr(GD), with G = Σ_j Z_j'QZ_j − (Z_j'Py)(Z_j'Py)'/σ², where Q is P
    under REML and V⁻¹ under maximum likelihood. With `variance` at its profiled value this is the derivative of
    the profiled deviance too.
    """
    # d log|V| = tr(V⁻¹dV), under REML with log|X'V⁻¹X| tr(P dV); d y'Py = −(Py)'dV(Py); and dV = Σ_j Z_j D Z_j'.
    traces = solution.projected if reml else solution.information
    return [trace - score.T @ score / variance for trace, score in zip(traces, solution.scores, strict=True)]


def _eliminate(
    products: Products, factor: Square
) -> tuple[
    float,
    Float[np.ndarray, "levels terms terms"],
    Float[np.ndarray, "levels terms rest"],
    Float[np.ndarray, "rest rest"],
]:
    """Integrate the first grouping factor out, with V_1 = I + Z_1 Λ_1 Λ_1' Z_1'.

    Returns:
        log|V_1|, and with W = [Z_other, X, y]: Z_j'V_1⁻¹Z_j, Z_j'V_1⁻¹W of every level, W'V_1⁻¹W.
    """
    # L_j L_j' = I + Λ'Z_j'Z_jΛ: |V_1| is the product of these determinants (Sylvester). Woodbury: V_1⁻¹ =
    # I − ZΛ(I + Λ'Z'ZΛ)⁻¹Λ'Z', so that A'V_1⁻¹B = A'B − (L⁻¹Λ'Z'A)'(L⁻¹Λ'Z'B), level by level.
    if len(factor) <= FEW:  # levels last, as `single` has them
        terms = len(factor)
        halves, log_det = halves_of_levels(products, factor)
        columns = np.ascontiguousarray(halves.transpose(2, 0, 1))
        own, cross = columns[:, :, :terms], columns[:, :, terms:]
    else:
        root = np.linalg.cholesky(np.eye(len(factor)) + factor.T @ products.own @ factor)
        log_det = 2 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
        half = np.linalg.solve(root, np.broadcast_to(factor.T, root.shape))
        own, cross = half @ products.own, half @ products.cross
    flat = cross.reshape(-1, cross.shape[-1])
    back = own.transpose(0, 2, 1)
    return log_det, products.own - back @ own, products.cross - back @ cross, products.gram - flat.T @ flat


def _triangular_solve(
    root: Float[np.ndarray, "rest rest"], right: Float[np.ndarray, "rest columns"], *, transposed: bool = False
) -> Float[np.ndarray, "rest columns"]:
    """L⁻¹ or L'⁻¹ times some columns; LAPACK directly, since the checks of scipy cost more than these small systems."""
    solution, failed = dtrtrs(root, right, lower=1, trans=int(transposed))
    if failed:
        raise np.linalg.LinAlgError(f"the diagonal is zero in row {failed}")
    return solution


def _squares(whitened: Float[np.ndarray, "rest levels terms"]) -> Float[np.ndarray, "levels terms terms"]:
    """w'w of every level."""
    by_level = whitened.transpose(1, 0, 2)
    return by_level.transpose(0, 2, 1) @ by_level


def _squares_summed(whitened: Float[np.ndarray, "rest levels terms"]) -> Float[np.ndarray, "terms terms"]:
    """Their sum over the levels."""
    flat = whitened.reshape(-1, whitened.shape[2])
    return flat.T @ flat
