"""Regret of a method that combines others: by setting, at its worst, and what other choices of its rule would cost."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labutils.stats.extremes import lowest_cell
from labutils.sweeps.contrasts import advantage_over
from labutils.sweeps.replication import SETTING, dense_losses, per_dense_loss

CELLS = ("contrast", "sparsity")


def relative_advantage(rows: pd.DataFrame, arm: str, components: Sequence[str]) -> pd.DataFrame:
    """What `arm` gains over each component in per cent of the dense model's loss in the same setting.

    >>> lowest_cell(relative_advantage(rows, "optiprune", components), cells=("contrast", "sparsity")).interval

    The lowest value over components, sparsities and settings is minus the largest regret.
    """
    share = per_dense_loss(advantage_over(rows, arm, components), rows)
    return share.assign(value=100 * share["value"])


def worst_regrets(rows: pd.DataFrame, arm: str, components: Sequence[str]) -> pd.DataFrame:
    """The largest regret of `arm` in every setting, in per cent of the dense model's loss, and where it is.

    >>> worst_regrets(rows, "optiprune", ["ria/uniform", "sparsegpt/uniform"])

    Returns:
        ``model, evaluation, sparsity, component, regret, low, high``: the interval is that of `lowest_cell` with its
        sign turned.
    """
    found = []
    for (model, evaluation), part in relative_advantage(rows, arm, components).groupby(SETTING, sort=False):
        lowest = lowest_cell(part, cells=CELLS, n_resamples=2000)
        where = lowest.cells.loc[lowest.cells["estimate"].idxmin()]
        found.append(
            {"model": model, "evaluation": evaluation, "sparsity": where["sparsity"], "component": where["contrast"],
             "regret": -lowest.interval.estimate, "low": -lowest.interval.high, "high": -lowest.interval.low}
        )  # fmt: skip
    return pd.DataFrame(found)


def rule_regrets(
    rows: pd.DataFrame, *, below: str = "ria", above: str = "sparsegpt", rule: str = "owl"
) -> pd.DataFrame:
    """Regret of every rule that changes the method at one sparsity and the allocation at another.

    >>> rule_regrets(rows).groupby(["threshold", "spread_from"])["regret"].max().unstack()

    Such a rule prunes by `below` under a threshold and by `above` from it on, spread uniformly under one sparsity and
    by `rule` from it on. At each sparsity it is one of the four components, so no pruning is needed to know its loss.

    Args:
        rows: a sweep with the four arms.

    Returns:
        ``threshold, spread_from, model, evaluation, sparsity, regret``: thresholds are the grid's sparsities, and
        infinity for never; the regret is a share of the dense model's loss. No rows where an arm is missing.
    """
    components = {(late, spread): f"{(below, above)[late]}/{('uniform', rule)[spread]}"
                  for late in (0, 1) for spread in (0, 1)}  # fmt: skip
    columns = ["threshold", "spread_from", *SETTING, "sparsity", "regret"]
    if not set(components.values()) <= set(rows["arm"]):
        return pd.DataFrame(columns=columns)
    of_components = rows[rows["arm"].isin(components.values())]
    table = of_components.groupby([*SETTING, "sparsity", "arm"], sort=False)["loss"].mean().unstack("arm")
    regret = table.sub(table.min(axis=1), axis=0).div(
        dense_losses(rows).reindex(table.index.droplevel("sparsity")).to_numpy(), axis=0
    )
    sparsities = table.index.get_level_values("sparsity")
    choices = [*sorted(sparsities.unique()), np.inf]
    found = []
    for threshold in choices:
        for start in choices:
            names = [components[int(s >= threshold), int(s >= start)] for s in sparsities]
            own = [regret.at[key, name] for key, name in zip(regret.index, names, strict=True)]
            found.append(regret.index.to_frame(index=False).assign(threshold=threshold, spread_from=start, regret=own))
    return pd.concat(found, ignore_index=True)[columns]
