"""Slow references for `labutils.pruning`: float64 loops written from the papers' formulas, one entry at a time.

Nothing here shares an idea with the fast code beyond the formula itself: no vectorised top-k, no Cholesky factor,
no lazy block update. A disagreement therefore means that one of the two misread the formula.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch


def float64(tensor: torch.Tensor) -> np.ndarray:
    """A float64 copy of a tensor as a numpy array."""
    return tensor.detach().cpu().double().numpy().copy()


# ---- importance scores ------------------------------------------------------------------------------------------


def magnitude(weight: np.ndarray) -> np.ndarray:
    """`|W_ij|`."""
    score = np.zeros_like(weight)
    for i, j in np.ndindex(weight.shape):
        score[i, j] = abs(weight[i, j])
    return score


def wanda(weight: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """`|W_ij| · ‖X_:j‖₂` (Sun et al. 2024)."""
    score = np.zeros_like(weight)
    for i, j in np.ndindex(weight.shape):
        score[i, j] = abs(weight[i, j]) * norms[j]
    return score


def relative_importance(weight: np.ndarray, norms: np.ndarray | None, exponent: float) -> np.ndarray:
    """`(|W_ij|/Σ_i|W_ij| + |W_ij|/Σ_j|W_ij|) · ‖X_:j‖₂^a` (Zhang et al. 2024); an empty sum contributes nothing."""
    rows, columns = weight.shape
    score = np.zeros_like(weight)
    for i, j in np.ndindex(weight.shape):
        column_sum = sum(abs(weight[k, j]) for k in range(rows))
        row_sum = sum(abs(weight[i, k]) for k in range(columns))
        share_of_column = abs(weight[i, j]) / column_sum if column_sum > 0 else 0.0
        share_of_row = abs(weight[i, j]) / row_sum if row_sum > 0 else 0.0
        activation = 1.0 if norms is None else norms[j] ** exponent
        score[i, j] = (share_of_column + share_of_row) * activation
    return score


# ---- masks (True = keep) ----------------------------------------------------------------------------------------


def drop_order(entries: list[tuple[float, int, int]], score: np.ndarray) -> list[tuple[float, int, int]]:
    """Entries `(score, row, column)`, first to be dropped first: lowest score, then the larger sum of the scores of the
    column, then of the row; what is equal in these too by the lower column, then row.
    """
    columns = [math.fsum(column) for column in score.T.tolist()]
    rows = [math.fsum(row) for row in score.tolist()]
    return sorted(entries, key=lambda entry: (entry[0], -columns[entry[2]], -rows[entry[1]], entry[2], entry[1]))


def unstructured_mask(score: np.ndarray, n_drop: int, group: str) -> np.ndarray:
    """Row group: every row drops its `floor(n_drop / rows)` lowest; what is left of the budget falls matrix-wide."""
    rows, columns = score.shape
    keep = np.ones(score.shape, dtype=bool)
    if group == "row":
        for i in range(rows):
            ranked = drop_order([(score[i, j], i, j) for j in range(columns)], score)
            for _, row, column in ranked[: n_drop // rows]:
                keep[row, column] = False
    remaining = drop_order([(score[i, j], i, j) for i, j in np.ndindex(score.shape) if keep[i, j]], score)
    already_dropped = keep.size - int(keep.sum())
    for _, row, column in remaining[: n_drop - already_dropped]:
        keep[row, column] = False
    return keep


def wanda_published_mask(score: np.ndarray, sparsity: float) -> np.ndarray:
    """What Wanda's own code keeps: a stable sort of every row, of which the first `int(columns · S)` are dropped."""
    keep = np.ones(score.shape, dtype=bool)
    for i in range(score.shape[0]):
        ranked = sorted(range(score.shape[1]), key=score[i].__getitem__)
        for j in ranked[: int(score.shape[1] * sparsity)]:
            keep[i, j] = False
    return keep


def n_of_m_mask(score: np.ndarray, keep_n: int, group_m: int) -> np.ndarray:
    """Without the `group_m − keep_n` lowest of every `group_m` consecutive entries of a row; ties: `drop_order`."""
    rows, columns = score.shape
    keep = np.ones(score.shape, dtype=bool)
    for i in range(rows):
        for start in range(0, columns, group_m):
            ranked = drop_order([(score[i, j], i, j) for j in range(start, start + group_m)], score)
            for _, _, j in ranked[: group_m - keep_n]:
                keep[i, j] = False
    return keep


def retained(score: np.ndarray, order: list[int], keep_n: int, group_m: int) -> float:
    """Total score that an N:M mask keeps when the columns are laid out in `order`."""
    total = 0.0
    for start in range(0, len(order), group_m):
        total += group_retained(score, order[start : start + group_m], keep_n)
    return total


def group_retained(score: np.ndarray, columns: list[int], keep_n: int) -> float:
    """Score kept in one group of columns, summed over rows: the `keep_n` largest of each row."""
    return sum(sum(sorted((float(row[j]) for j in columns), reverse=True)[:keep_n]) for row in score)


def snake_order(score: np.ndarray, group_m: int, *, descending: bool) -> list[int]:
    """Columns ranked by their sum and dealt into `group_m` strips, every second one reversed; group g: g-th cards."""
    columns = score.shape[1]
    n_groups = columns // group_m
    ranked = sorted(range(columns), key=lambda j: sum(score[:, j]), reverse=descending)
    groups: list[list[int]] = [[] for _ in range(n_groups)]
    for strip in range(group_m):
        cards = ranked[strip * n_groups : (strip + 1) * n_groups]
        for g, column in enumerate(cards if strip % 2 == 0 else cards[::-1]):
            groups[g].append(column)
    return [column for group in groups for column in group]


def assignments_of_strip(order: list[int], strip: int, group_m: int) -> Iterator[list[int]]:
    """Every order that arises by redistributing one strip, the `strip`-th column of every group, over the groups."""
    positions = range(strip, len(order), group_m)
    for candidate in itertools.permutations([order[p] for p in positions]):
        trial = list(order)
        for position, column in zip(positions, candidate, strict=True):
            trial[position] = column
        yield trial


def permute_by_brute_force(score: np.ndarray, keep_n: int, group_m: int, *, descending: bool) -> list[int]:
    """Both stages of RIA's channel permutation, the second by trying every assignment of every strip in turn."""
    order = snake_order(score, group_m, descending=descending)
    for strip in range(group_m):
        trials = assignments_of_strip(order, strip, group_m)
        order = max(trials, key=lambda trial: retained(score, trial, keep_n, group_m))
    return order
