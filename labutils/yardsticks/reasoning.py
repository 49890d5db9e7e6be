"""Reasoning against plain language modelling: both losses as shares of what the dense model has."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest

from labutils.stats.bootstrap import Interval, crossed_bootstrap
from labutils.stats.evidence import keeps_evidence
from labutils.stats.few_units import interval_over_units
from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.shares import share_of


def reasoning_arms(tasks: pd.DataFrame, arms: Sequence[str], *, level: float = 0.95) -> list[str]:
    """The arms that still reason: in every model right more often than by chance, over all items of the tasks.

    >>> reasoning_arms(frames["tasks"], ["wanda@0.5", "wanda@0.9"])
    ['wanda@0.5']

    By the exact interval of Clopper and Pearson (1934); draws of an arm are averaged first.
    """
    found = []
    for arm in arms:
        own = tasks[tasks["arm"] == arm].groupby(["model", "task", "item"], as_index=False)[["score", "chance"]].mean()
        clear = [
            binomtest(round(part["score"].sum()), len(part)).proportion_ci(level, method="exact").low
            > part["chance"].mean()
            for _, part in own.groupby("model")
        ]
        found += [arm] if clear and all(clear) else []
    return found


@keeps_evidence()
def reasoning_contrast(
    tasks: pd.DataFrame, texts: pd.DataFrame, *, level: float = 0.95, n_resamples: int = 5000, seed: int = 0
) -> Interval:
    """Share of its reasoning that a model loses, minus the share by which its loss rises; positive: reasoning first.

    >>> reasoning_contrast(frames["tasks"], frames["texts"])

    Mean over tasks of (dense accuracy − accuracy) / (dense accuracy − chance), minus mean added loss / dense loss, over
    all arms and draws. Of several models by Student's t over models; of one, over items, windows and draws together,
    with what the shares are of. Tasks that the dense model does not do above chance must be left out before, and arms
    that do none (`reasoning_arms`): their share lost cannot grow any more, while the loss can.

    Raises:
        ValueError: a task at chance.
    """
    own = {
        model: _one_model(part, texts[texts["model"] == model], level, n_resamples, seed)
        for model, part in tasks.groupby("model", sort=False)
    }
    if len(own) == 1:
        return next(iter(own.values()))
    effects = pd.DataFrame({"model": list(own), "estimate": [each.estimate for each in own.values()]})
    return interval_over_units(effects, level=level, n_items=min(each.n_items for each in own.values()))


def _one_model(tasks: pd.DataFrame, texts: pd.DataFrame, level: float, n_resamples: int, seed: int) -> Interval:
    drops = _beside_dense(tasks, "score", ["task", "item"])
    beyond = (drops["dense"] - drops["chance"]).groupby(drops["task"]).transform("mean")
    if (beyond <= 0).any():
        task = drops.loc[beyond <= 0, "task"].iloc[0]
        raise ValueError(f"the dense model is not above chance on {task}: it has nothing to lose; leave it out")
    lost, base = drops["dense"] - drops["score"], drops["dense"] - drops["chance"]
    drops = drops.assign(part="tasks", value=share_of(lost, base, [drops["task"], drops["arm"]]))
    losses = _beside_dense(texts, "loss", ["item"])
    rises = share_of(losses["loss"] - losses["dense"], losses["dense"], [losses["arm"]])
    losses = losses.assign(part="texts", task="text", value=rises)
    frame = pd.concat([part[["part", "task", "arm", "draw", "item", "value"]] for part in (drops, losses)])
    order = sorted(frame.groupby(["part", "task"]).groups)
    is_text = np.array([part == "texts" for part, _ in order])

    def difference(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        per_stratum = cell_means.reshape(len(cell_means), len(order), -1).mean(axis=2)
        return per_stratum[:, ~is_text].mean(axis=1) - per_stratum[:, is_text].mean(axis=1)

    return crossed_bootstrap(
        frame, difference, cells=["arm"], strata=["part", "task"], n_resamples=n_resamples, level=level, seed=seed
    )


def _beside_dense(rows: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    dense = rows.loc[rows["arm"] == DENSE, [*keys, column]].rename(columns={column: "dense"})
    return rows[rows["arm"] != DENSE].merge(dense, on=keys, validate="many_to_one")
