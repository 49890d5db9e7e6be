"""The smallest output error that any mask of a small matrix can have: what every method is to be measured by.

A study of methods asks how far each is from the best one possible. On matrices small enough the best mask of a row is
found exactly, by branch and bound over which weights to drop. To drop weight j of a row whose kept weights are optimal
costs v_j² / P_jj, with v the weights and P the inverse Hessian of what is kept, and both are then updated in one step
(Hassibi & Stork 1993). The error never falls as more is dropped, so a branch ends where what it has lost, and what the
drops still due must at least lose, is no less than the best mask known. These drops lose no less than the dearest of
the cheapest ones does alone, and no less than Σ v_j² over the smallest of them, over the largest eigenvalue of P.

On larger matrices the best *known* mask stands in for it; see `errors_on_masks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labutils.pruning.least_squares import least_squares
from labutils.pruning.patterns import inside_mask
from labutils.pruning.reconstruction import damped_hessian

MOST_BRANCHES = 2_000_000  # of all rows together
STALE = 1e-9  # relative; what is nearer to the best known error than that is no better


@dataclass(frozen=True)
class BestMask:
    """The best of all masks.

    Attributes:
        mask: True = kept.
        weight: least squares on it.
        errors: per row, (w − v) H (w − v)ᵀ with the damped Hessian, which no mask of that size falls below.
        branches: that were looked at.
    """

    mask: Bool[Tensor, "out in"]
    weight: Float[Tensor, "out in"]
    errors: Float[Tensor, " out"]
    branches: int


def best_mask(
    weight: Float[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    n_drop: int,
    *,
    pattern: tuple[int, int] | None = None,
    damping: float = 0.01,
    most_branches: int = MOST_BRANCHES,
) -> BestMask:
    """The mask with the smallest damped output error after exact least squares, over all masks that there are.

    Rows are told apart: every row loses `n_drop` weights, or those that a pattern asks for. Meant for studies of some
    twenty inputs; the branches double with every input or two.

    >>> best_mask(torch.tensor([[2.0, -1.5, 3.0]]), torch.tensor([[6.0, 3.0, 2.0], [3.0, 6.0, 1.0], [2.0, 1.0, 2.0]]),
    ...           2, damping=0.0).errors
    tensor([16.3750], dtype=torch.float64)

    Args:
        n_drop: weights of every row that go; with a pattern (M − N) / M of them.
        most_branches: after which the search is given up.

    Raises:
        ValueError: more or fewer weights than there are, or than the pattern asks for; or more branches than allowed.
    """
    rows, columns = weight.shape
    if not 0 <= n_drop <= columns:
        raise ValueError(f"n_drop={n_drop} is outside [0, {columns}], the weights of a row.")
    if pattern and (columns % pattern[1] or n_drop * pattern[1] != columns * (pattern[1] - pattern[0])):
        wanted = columns * (pattern[1] - pattern[0]) / pattern[1]
        raise ValueError(f"A {pattern[0]}:{pattern[1]} pattern on {columns} inputs drops {wanted:g}; got {n_drop}.")
    damped = damped_hessian(hessian.double(), damping).cpu().numpy()
    inverse, mask, branches = np.linalg.inv(damped), torch.ones(weight.shape, dtype=torch.bool), 0
    for row in range(rows):
        search = _Search(n_drop, pattern, most_branches - branches, len(damped))
        search.go(weight[row].double().cpu().numpy(), inverse, np.arange(columns), np.arange(0), 0.0)
        branches += search.branches
        mask[row, torch.from_numpy(search.best_dropped)] = False
    mask = mask.to(weight.device)
    solved = least_squares(weight.double(), mask, hessian.double(), damping=damping)
    lost = weight.double() - solved
    errors = ((lost @ torch.from_numpy(damped).to(lost.device)) * lost).sum(dim=1)
    return BestMask(mask, solved.to(weight.dtype), errors, branches)


class _Search:
    """Branch and bound over the weights of one row; the cheapest weight is dropped first, so a good mask comes soon."""

    def __init__(self, n_drop: int, pattern: tuple[int, int] | None, most_branches: int, columns: int):
        self.n_drop, self.pattern, self.most_branches = n_drop, pattern, most_branches
        self.best_error, self.best_dropped, self.branches = np.inf, np.arange(0), 0
        self.columns = columns

    def go(self, weight: np.ndarray, inverse: np.ndarray, free: np.ndarray, dropped: np.ndarray, error: float) -> None:
        """Try every way to drop what is still due.

        Args:
            weight, inverse: of the kept inputs, zero where an input is dropped.
            free: inputs that are not decided; the rest is dropped or stays.
            error: of the row so far.
        """
        self.branches += 1
        if self.branches > self.most_branches:
            raise ValueError(
                f"The best mask was not found in {self.branches - 1} branches. Take fewer inputs, or compare with the "
                "best mask known: `errors_on_masks`."
            )
        due = self.n_drop - len(dropped)
        if due == 0:
            if error < self.best_error * (1 - STALE):
                self.best_error, self.best_dropped = error, dropped
            return
        free = self._allowed(free, dropped)
        if len(free) < due:
            return
        costs = weight[free] ** 2 / inverse[free, free]
        order = np.argsort(costs, kind="stable")
        free, costs = free[order], costs[order]
        for place, input_ in enumerate(free):
            rest = free[place:]  # what stands before was decided to stay
            if len(rest) < due or error + self._least(weight, inverse, rest, costs[place:], due) >= self.best_error:
                return
            column = inverse[:, input_] / inverse[input_, input_]
            lower = inverse - np.outer(column, inverse[input_])
            moved = weight - weight[input_] * column
            moved[input_] = 0.0
            self.go(moved, lower, free[place + 1 :], np.append(dropped, input_), error + costs[place])

    def _allowed(self, free: np.ndarray, dropped: np.ndarray) -> np.ndarray:
        """Without the groups of a pattern that have lost all they may lose."""
        if self.pattern is None:
            return free
        keep_n, group_m = self.pattern
        lost = np.bincount(dropped // group_m, minlength=self.columns // group_m)
        return free[lost[free // group_m] < group_m - keep_n]

    @staticmethod
    def _least(weight: np.ndarray, inverse: np.ndarray, free: np.ndarray, costs: np.ndarray, due: int) -> float:
        """What the drops still due lose at least; costs ascend."""
        smallest = np.sort(weight[free] ** 2)[:due].sum()
        return max(costs[due - 1], smallest / np.linalg.eigvalsh(inverse[np.ix_(free, free)])[-1])


def errors_on_masks(
    weight: Float[Tensor, "out in"],
    masks: Mapping[str, Bool[Tensor, "out in"]],
    hessian: Float[Tensor, "in in"],
    *,
    damping: float = 0.01,
) -> pd.DataFrame:
    """How good masks are, each with its weights as they were and after exact least squares; the best is the best known.

    >>> errors_on_masks(weight, {"wanda": wanda_mask, "swaps": swapped_mask}, inputs.T @ inputs)

    Args:
        masks: by name; of the same number of weights, else the densest wins.
        damping: of the least squares and of the errors.

    Returns:
        a row per mask, the best first: mask, kept (share of weights), masked and solved (errors relative to the
        output), and ratio, the solved error over that of the best known mask.

    Raises:
        ValueError: no masks.
    """
    if not masks:
        raise ValueError("errors_on_masks needs at least one mask, by name.")
    dense, damped = weight.double(), damped_hessian(hessian.double(), damping)
    total = float(((dense @ damped) * dense).sum())
    rows = []
    for name, mask in masks.items():
        solved = least_squares(dense, mask, hessian.double(), damping=damping)
        errors = []
        for new in (inside_mask(dense, mask), solved):
            errors.append(float((((dense - new) @ damped) * (dense - new)).sum()) / total if total > 0 else 0.0)
        rows.append({"mask": name, "kept": float(mask.float().mean()), "masked": errors[0], "solved": errors[1]})
    table = pd.DataFrame(rows).sort_values("solved", kind="stable", ignore_index=True)
    best = table["solved"].iloc[0]
    return table.assign(ratio=table["solved"] / best if best > 0 else 1.0)
