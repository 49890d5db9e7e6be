"""Slow reference of SparseGPT: optimal brain surgery column by column, inverting the remaining Hessian from scratch.

Frantar & Alistarh (2023): with columns left of j frozen, dropping `w_j` costs `w_j² / G_00` and moves every later
weight k by `−w_j G_0k / G_00`, where `G = (H_damped[j:, j:])⁻¹`. The fast code gets G from one Cholesky factor.
"""

import numpy as np
from references import drop_order


def damped_hessian(hessian: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """`(H + damping · mean(diag H) · I, dead)`, where dead inputs (H_jj = 0) first get H_jj = 1."""
    damped = hessian.copy()
    dead = np.array([hessian[j, j] == 0 for j in range(len(hessian))])
    for j in range(len(hessian)):
        if dead[j]:
            damped[j, j] = 1.0
    mean = sum(damped[j, j] for j in range(len(hessian))) / len(hessian)
    for j in range(len(hessian)):
        damped[j, j] += damping * mean
    return damped, dead


def remaining_inverse(damped: np.ndarray, column: int) -> np.ndarray:
    """Inverse of the Hessian of the columns from `column` on."""
    return np.linalg.inv(damped[column:, column:])


def drop_column(weight: np.ndarray, keep: np.ndarray, damped: np.ndarray, column: int) -> None:
    """Set the dropped entries of one column to zero and let the later columns make up for it (in place)."""
    inverse = remaining_inverse(damped, column)
    for row in range(weight.shape[0]):
        if keep[row, column]:
            continue
        error = weight[row, column] / inverse[0, 0]
        for later in range(column, weight.shape[1]):
            weight[row, later] -= error * inverse[0, later - column]
        weight[row, column] = 0.0


def select(weight: np.ndarray, damped: np.ndarray, columns: range, n_drop: int, rows: range) -> list[tuple[int, int]]:
    """The `n_drop` entries `(row, column)` of a sub-matrix whose loss costs least, on the weights as they are now."""
    cost = {column: remaining_inverse(damped, column)[0, 0] for column in columns}
    entries = [(weight[row, column] ** 2 / cost[column], row, column) for row in rows for column in columns]
    score = np.zeros(weight.shape)
    for value, row, column in entries:
        score[row, column] = value
    return [(row, column) for _, row, column in drop_order(entries, score)[:n_drop]]


def alive(weight: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """A copy of the weights with those of dead inputs set to zero."""
    start = weight.copy()
    for j in range(weight.shape[1]):
        if dead[j]:
            start[:, j] = 0.0
    return start


def sparsegpt_unstructured(
    weight: np.ndarray, hessian: np.ndarray, n_drop: int, block_size: int, damping: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Unstructured SparseGPT; each block of columns takes its share of the budget over all rows at once."""
    damped, dead = damped_hessian(hessian, damping)
    new = alive(weight, dead)
    rows, width = weight.shape
    keep = np.ones(weight.shape, dtype=bool)
    for start in range(0, width, block_size):
        stop = min(start + block_size, width)
        share = round(n_drop * stop / width) - round(n_drop * start / width)
        for row, column in select(new, damped, range(start, stop), share, range(rows)):
            keep[row, column] = False
        for column in range(start, stop):
            drop_column(new, keep, damped, column)
    return new, keep


def sparsegpt_n_of_m(
    weight: np.ndarray, hessian: np.ndarray, keep_n: int, group_m: int, damping: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """N:M SparseGPT; each group's mask is chosen when its first column is reached, from weights already updated."""
    damped, dead = damped_hessian(hessian, damping)
    new = alive(weight, dead)
    rows, width = weight.shape
    keep = np.ones(weight.shape, dtype=bool)
    for column in range(width):
        if column % group_m == 0:
            for row in range(rows):
                group = range(column, column + group_m)
                for dropped_row, dropped in select(new, damped, group, group_m - keep_n, range(row, row + 1)):
                    keep[dropped_row, dropped] = False
        drop_column(new, keep, damped, column)
    return new, keep


def obs_update(weight: np.ndarray, keep: np.ndarray, hessian: np.ndarray, damping: float = 0.01) -> np.ndarray:
    """The same sweep with the mask given."""
    damped, dead = damped_hessian(hessian, damping)
    new = alive(weight, dead)
    for column in range(weight.shape[1]):
        drop_column(new, keep, damped, column)
    return new


def best_update(weight: np.ndarray, keep: np.ndarray, damped: np.ndarray) -> np.ndarray:
    """Row by row the minimiser of `(v − w) H (v − w)ᵀ` over all v that are zero where the mask is False."""
    new = np.zeros_like(weight)
    for row in range(weight.shape[0]):
        free = [j for j in range(weight.shape[1]) if keep[row, j]]
        if free:
            gradient = damped[free, :] @ weight[row]
            new[row, free] = np.linalg.solve(damped[np.ix_(free, free)], gradient)
    return new


def quadratic_error(difference: np.ndarray, hessian: np.ndarray) -> float:
    """`tr(D H Dᵀ)` as a triple sum."""
    total = 0.0
    for row in difference:
        for j, k in np.ndindex(hessian.shape):
            total += row[j] * hessian[j, k] * row[k]
    return float(total)


def output_error(weight: np.ndarray, new: np.ndarray, inputs: np.ndarray) -> float:
    """`‖X Wᵀ − X W_newᵀ‖² / ‖X Wᵀ‖²`, token by token."""
    lost = full = 0.0
    for token in inputs:
        for old_row, new_row in zip(weight, new, strict=True):
            lost += (sum(token * old_row) - sum(token * new_row)) ** 2
            full += sum(token * old_row) ** 2
    return float(lost / full)
