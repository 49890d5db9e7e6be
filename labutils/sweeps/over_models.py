"""One effect in each of several models, and over models: how far a finding holds for models that were not tried.

The unit of replication of a claim about models is the model. However many items each was read on, two or three models
give a wide interval, and it should be wide.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from labutils.stats.bootstrap import UNITS, Interval, Statistic, crossed_bootstrap, crossover
from labutils.stats.cells import STRATA
from labutils.stats.evidence import keeps_evidence
from labutils.stats.extremes import lowest_cell
from labutils.stats.few_units import interval_over_units, lowest_over_units

CELLS = ("contrast", "sparsity")
NOTHING = "the rows hold no pair of arms and no sparsities to compare"


class ModelEffects(NamedTuple):
    """An effect in every model over items and draws, and the interval that a claim is judged by.

    Attributes:
        by_model: model → the interval of its own effect.
        overall: over models; of one model its own interval, which says nothing of others.
    """

    by_model: dict[str, Interval]
    overall: Interval


@keeps_evidence("overall")
def effects_over_models(
    differences: pd.DataFrame, statistic: str | Statistic = "mean", *, n_resamples: int = 10_000,
    units: Sequence[str] = UNITS,
) -> ModelEffects:  # fmt: skip
    """A statistic of cell means in every model, and its mean over models by Student's t.

    >>> effects_over_models(contrast(rows, {"ria": ("ria/uniform", "ria/owl")})).overall

    Args:
        differences: a frame of contrasts of one or more models.
        statistic: as for `crossed_bootstrap`; the cells are contrast × sparsity.
        n_resamples: of the models' own intervals.
        units: what the columns `item` and `draw` count, in the singular, as `Interval.units`.

    Returns:
        undefined intervals of a frame without rows.
    """
    own = {
        str(model): crossed_bootstrap(part, statistic, cells=CELLS, n_resamples=n_resamples, units=tuple(units))
        for model, part in differences.groupby("model", sort=False)
    }
    if len(own) < 2:
        return ModelEffects(own, next(iter(own.values()), Interval.undefined(NOTHING)))
    effects = pd.DataFrame({"model": list(own), "estimate": [each.estimate for each in own.values()]})
    return ModelEffects(own, interval_over_units(effects, n_items=_fewest(own)))


@keeps_evidence("overall")
def lowest_over_models(
    differences: pd.DataFrame, *, cells: Sequence[str] = CELLS, n_resamples: int = 10_000
) -> ModelEffects:
    """The lowest cell, for a claim that holds only where it holds in every cell: in every model, and over models.

    >>> lowest_over_models(uniform_over_owl[uniform_over_owl["sparsity"] <= 0.4])

    Every text (calibration and evaluation) has cells of its own, so that a mean over texts hides none. In each model
    the interval is that of `lowest_cell`, over models that of `lowest_over_units` from the models' means.

    Args:
        differences: a frame of contrasts of one or more models.
        cells: columns that tell the cells of a text apart; every model has all of them on every text.
        n_resamples: of the models' own intervals.

    Returns:
        undefined intervals of a frame without rows.

    Raises:
        ValueError: a model lacks a cell or a text that another has.
    """
    own = {
        str(model): lowest_cell(part, cells=cells, n_resamples=n_resamples).interval
        for model, part in differences.groupby("model", sort=False)
    }
    if len(own) < 2:
        return ModelEffects(own, next(iter(own.values()), Interval.undefined(NOTHING)))
    keys = [*(name for name in STRATA if name in differences and name != "model"), *cells]
    means = differences.groupby([*keys, "model"], sort=False)["value"].mean().unstack("model")
    if means.isna().any(axis=None):
        (*where, model), *others = means.isna().stack().loc[lambda missing: missing].index
        cell = ", ".join(f"{name}={value}" for name, value in zip(keys, where, strict=True))
        raise ValueError(
            f"{model} has no rows at {cell}, which another model has ({len(others) + 1} such gaps in all): give the "
            "cells and texts that all models have"
        )
    return ModelEffects(own, lowest_over_units(means.to_numpy(dtype=float), n_items=_fewest(own)))


class Crossing(NamedTuple):
    """Whether a difference goes from below zero to above it as sparsity grows.

    Attributes:
        lowest, highest: the difference at the ends of the grid.
        turn: the sparsity at which the mean difference last turns positive; without a value where it does not.
        crosses: whether the first is clearly below zero and the other clearly above.
    """

    lowest: Interval
    highest: Interval
    turn: Interval
    crosses: bool

    def sentence(self) -> str:
        """What is shown, for a reader: "the curves cross at a sparsity of 0.43 [0.40, 0.46]"."""
        if self.crosses:
            return f"the curves cross at a sparsity of {self.turn:.2f}"
        return f"no crossing is shown: at the ends of the grid the gain is {self.lowest} and {self.highest}"


def find_crossing(differences: pd.DataFrame) -> Crossing:
    """Where the curves of two arms cross, if it can be told: both ends must lie clearly on their own side of zero.

    >>> find_crossing(contrast(rows, {"ria": ("ria/uniform", "ria/owl")})).sentence()

    Args:
        differences: a frame of contrasts of one model.

    Raises:
        ValueError: fewer than two sparsities.
    """
    grid = sorted(differences["sparsity"].unique())
    turned = crossed_bootstrap(differences, crossover(grid), cells=CELLS, n_resamples=2000)
    lowest, highest = (
        crossed_bootstrap(differences[differences["sparsity"] == end], cells=CELLS, n_resamples=2000)
        for end in (grid[0], grid[-1])
    )
    return Crossing(lowest, highest, turned, lowest.high < 0 < highest.low)


def model_table(effects: ModelEffects, **about: object) -> pd.DataFrame:
    """One row per model and, of several, one "over models": ``model, estimate, low, high`` and the columns `about`."""
    rows = dict(effects.by_model)
    if len(rows) > 1:
        rows["over models"] = effects.overall
    return pd.DataFrame(
        [{**about, "model": name, "estimate": each.estimate, "low": each.low, "high": each.high}
         for name, each in rows.items()],
        columns=[*about, "model", "estimate", "low", "high"],
    )  # fmt: skip


def _fewest(own: dict[str, Interval]) -> int:
    return min(each.n_items for each in own.values())
