"""Crossed grouping factors with many levels: the same solution as `deviance.solve` gives, by sparse elimination.

Few levels of one factor meet in the rows with few of another, so that Z_1'Z_o is sparse: 2 % of it is filled where
3,000 students rate 1,100 lecturers. It stays sparse; what is left when the first factor is eliminated is dense, with
one row per coefficient of the others. The inverse K of that matrix, and sums over levels, give all traces that the
gradient needs, so that no level is looked at by itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import block_diag, csr_array

from labutils.multilevel.products import Products, Solution, diagonal_blocks, scaled_rows, split_rows

Blocks = Float[np.ndarray, "levels terms terms"]
LEAST_FACTOR = 1e-3  # singular value of Λ below which Λ'Z'PZΛ loses the digits of Z'PZ


class Eliminated(NamedTuple):
    """What is left when the first factor is gone, and the parts that it was taken away with.

    Attributes:
        small: L of every level of the first factor, L L' = I + Λ'Z'ZΛ.
        whitened: HZ'Z with the halves H = L⁻¹Λ'; kept: I − Z'ZH'H, both of every level.
        rest: W'V_1⁻¹W with W = [Z_o, X, y].
        penalised: S W'V_1⁻¹W S' with the penalty; root: its lower Cholesky factor.
    """

    small: Blocks
    whitened: Blocks
    kept: Blocks
    rest: Float[np.ndarray, "rest rest"]
    penalised: Float[np.ndarray, "rest rest"]
    root: Float[np.ndarray, "rest rest"]


def solve_crossed(products: Products, factors: Sequence[Float[np.ndarray, "_ _"]]) -> Solution:
    """As `deviance.solve`, for products with `between`.

    Raises:
        np.linalg.LinAlgError: the response is reproduced exactly, so that there is no residual.
    """
    between, sizes = products.between, products.sizes[1:]
    (levels, terms), n_other = products.sizes[0], between.shape[1]
    small, whitened, kept, rest, penalised, root = eliminated(products, factors)
    log_diagonal, inner, last = np.log(np.diag(root)), root[:-1, :-1], root[-1]
    k = inverse(inner)  # of the normal equations of (u_o, b)
    effects = k @ penalised[:-1, -1]
    # Z_1'V_1⁻¹[Z_o Λ_o, X, y]: the eliminated factor's rows.
    rows = filled(kept) @ (between @ _repeated(factors[1:], sizes))
    fixed = (kept @ products.cross).reshape(levels * terms, -1)
    score = fixed[:, -1] - rows @ effects[:n_other] - fixed[:, :-1] @ effects[n_other:]
    total = (products.own - whitened.transpose(0, 2, 1) @ whitened).sum(0)
    random, both = first_traces(rows, fixed[:, :-1], terms, k)
    scores, information, projected = [score.reshape(levels, terms)], [total - random], [total - both]
    # S' times the effects gives coefficients in the units of the columns.
    coefficients = np.concatenate([_unscaled(effects[:n_other], factors[1:], sizes), effects[n_other:]])
    left = rest[:n_other, -1] - rest[:n_other, :-1] @ coefficients
    scores += [part.reshape(size) for part, size in zip(split_rows(left[:, None], sizes), sizes, strict=True)]
    # The random effects' own part of the normal equations has the inverse K_oo − K_ox K_xx⁻¹ K_xo.
    corner = np.linalg.cholesky(k[n_other:, n_other:])
    lost = np.linalg.solve(corner, k[n_other:, :n_other]).T
    parts = zip(
        factors[1:], sizes, split_rows(rest, sizes), split_rows(lost, sizes),
        diagonal_blocks(rest, sizes), diagonal_blocks(k, sizes), strict=True,
    )  # fmt: skip
    for factor, size, own_rows, own_lost, own, blocks in parts:
        if np.linalg.svd(factor, compute_uv=False)[-1] > LEAST_FACTOR:
            own_lost = own_lost.reshape(*size, -1)
            information.append(_from_inverse(factor, blocks - own_lost @ own_lost.transpose(0, 2, 1)))
            projected.append(_from_inverse(factor, blocks))
        else:
            outer = scaled_rows(own_rows.T, factors[1:], sizes)[:-1]
            information.append(own.sum(0) - _weighted(outer[:n_other], k[:n_other, :n_other] - lost @ lost.T, size))
            projected.append(own.sum(0) - _weighted(outer, k, size))
    return Solution(
        log_det_v=2 * float(np.log(np.diagonal(small, axis1=1, axis2=2)).sum() + log_diagonal[:n_other].sum()),
        log_det_x=2 * float(log_diagonal[n_other:-1].sum()), r2=float(last[-1] ** 2), coefficients=effects[n_other:],
        information_root=inner[n_other:, n_other:], scores=scores, information=information, projected=projected,
    )  # fmt: skip


def eliminated(products: Products, factors: Sequence[Float[np.ndarray, "_ _"]]) -> Eliminated:
    """The normal equations without the first factor; raises as `solve_crossed`."""
    between, sizes = products.between, products.sizes[1:]
    (levels, terms), n_other = products.sizes[0], between.shape[1]
    # As in `deviance`: L_j L_j' = I + Λ'Z_j'Z_jΛ and V_1⁻¹ = I − ZΛ(I + Λ'Z'ZΛ)⁻¹Λ'Z', level by level. With the halves
    # H = L⁻¹Λ' of every level, W'V_1⁻¹W = W'W − (HZ'W)'(HZ'W) and Z'V_1⁻¹W = (I − Z'ZH'H) Z'W.
    small = np.linalg.cholesky(np.eye(terms) + factors[0].T @ products.own @ factors[0])
    half = np.linalg.solve(small, np.broadcast_to(factors[0].T, small.shape))
    whitened = half @ products.own
    kept = np.eye(terms) - whitened.transpose(0, 2, 1) @ half
    spread, dense = filled(half) @ between, (half @ products.cross).reshape(levels * terms, -1)
    rest = products.gram.copy()
    rest[:n_other, :n_other] -= (spread.T @ spread).toarray()
    mixed = spread.T @ dense
    rest[:n_other, n_other:] -= mixed
    rest[n_other:, :n_other] -= mixed.T
    rest[n_other:, n_other:] -= dense.T @ dense
    # The normal equations S W'V_1⁻¹W S' with the penalty, and their factor.
    penalised = scaled_rows(scaled_rows(rest, factors[1:], sizes).T, factors[1:], sizes)
    penalised[np.arange(n_other), np.arange(n_other)] += 1
    root = factorised(penalised)
    return Eliminated(small, whitened, kept, rest, penalised, root)


def _repeated(factors: Sequence[Float[np.ndarray, "_ _"]], sizes: Sequence[tuple[int, int]]) -> csr_array:
    """The factors Λ_o of every level along the diagonal."""
    parts = [filled(np.broadcast_to(f, (levels, *f.shape))) for f, (levels, _) in zip(factors, sizes, strict=True)]
    return parts[0] if len(parts) == 1 else csr_array(block_diag(parts, format="csr"))


def _unscaled(
    effects: Float[np.ndarray, " other"], factors: Sequence[Float[np.ndarray, "_ _"]], sizes: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " other"]:
    """Λ_o u_o of spherical effects u_o."""
    parts = [
        (part.reshape(size) @ factor.T).ravel()
        for part, factor, size in zip(split_rows(effects[:, None], sizes), factors, sizes, strict=True)
    ]
    return np.concatenate(parts)


def filled(blocks: Blocks) -> csr_array:
    """The block-diagonal matrix of some blocks."""
    levels, terms, _ = blocks.shape
    places = np.arange(levels)[:, None, None] * terms + np.broadcast_to(np.arange(terms), (levels, terms, terms))
    ends = np.arange(0, blocks.size + 1, terms)
    return csr_array((blocks.ravel(), places.ravel(), ends), shape=(levels * terms,) * 2)


def factorised(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The lower Cholesky factor.

    Raises:
        np.linalg.LinAlgError: the matrix is not positive definite.
    """
    root, failed = dpotrf(matrix.T, lower=1, clean=1)  # symmetric: its transpose is in LAPACK's order already
    if failed:
        raise np.linalg.LinAlgError(f"the matrix is not positive definite from row {failed} on")
    return root


def inverse(root: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The inverse of the matrix whose lower Cholesky factor is given."""
    half, _ = dpotri(root, lower=1)  # zero above the diagonal, as the factor is
    half = half + half.T
    half[np.diag_indices_from(half)] /= 2
    return half


def first_traces(
    rows: csr_array, dense: Float[np.ndarray, "rows fixed"], terms: int, k: Float[np.ndarray, "n n"]
) -> tuple[Float[np.ndarray, "terms terms"], Float[np.ndarray, "terms terms"]]:
    """Σ_j w_j A⁻¹ w_j' over the levels of the eliminated factor, for its rows w = [rows, dense] and K = A⁻¹.

    Returns:
        with the columns of the random effects alone, whose block of A has another inverse, and with all of them.
    """
    n_other = rows.shape[1]
    side, corner = k[:n_other, n_other:], k[n_other:, n_other:]
    without = np.linalg.solve(corner, side.T)
    random, both = np.empty((terms, terms)), np.empty((terms, terms))
    for a in range(terms):
        for b in range(a + 1):
            gram = (rows[a::terms].T @ rows[b::terms]).tocoo()
            inner = float(k[gram.row, gram.col] @ gram.data)
            lost = float((without * (gram @ side).T).sum())
            mixed = float((side * (rows[a::terms].T @ dense[b::terms])).sum())
            mixed += float((side * (rows[b::terms].T @ dense[a::terms])).sum())
            fixed = float((corner * (dense[a::terms].T @ dense[b::terms])).sum())
            random[a, b] = random[b, a] = inner - lost
            both[a, b] = both[b, a] = inner + mixed + fixed
    return random, both


def _from_inverse(factor: Float[np.ndarray, "terms terms"], blocks: Blocks) -> Float[np.ndarray, "terms terms"]:
    """Σ_j Z_j'PZ_j of a factor that was not eliminated, from the blocks of K on its diagonal.

    The penalty is I, so that Λ'Z'PZΛ = I − K on the rows of the random effects; with the inverse of their own part
    alone V⁻¹ stands for P.
    """
    back = np.linalg.inv(factor)
    return back.T @ (len(blocks) * np.eye(len(factor)) - blocks.sum(0)) @ back


def _weighted(
    outer: Float[np.ndarray, "n other"], k: Float[np.ndarray, "n n"], size: tuple[int, int]
) -> Float[np.ndarray, "terms terms"]:
    """Σ_j w_j'Kw_j for w = S[Z_o, X]'V_1⁻¹Z, what P takes off Z'V_1⁻¹Z."""
    columns = outer.reshape(len(k), *size)
    return np.einsum("nja,njb->ab", columns, (k @ outer).reshape(columns.shape))
