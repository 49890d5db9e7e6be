"""Where a score's variation comes from: the calibration set, the calibration draw within a set, or the items.

Scores y[set, draw, item] are balanced: every draw of every set is read on the same items, draws are nested in sets.
Components are estimated from the mean squares of the analysis of variance (Searle, Casella & McCulloch 1992).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import Interval

SMALLEST_RATIO = 1e-3  # of two variances; what is smaller, or negative by chance, counts as this (the inverse likewise)
COMPONENTS = ("set", "draw", "item", "set × item", "residual")
Scores = Float[np.ndarray, "sets draws items"]


class SetEffect(NamedTuple):
    """Does the calibration set matter more than its draw?

    `log_ratio` is the judged number: log of (variance between sets / variance between draws within a set). `f_ratio`
    compares the mean squares, 1 where only chance tells sets apart. `intraclass` is the share of the variance of a
    single draw's score that is due to its set.
    """

    log_ratio: Interval
    f_ratio: float
    intraclass: float


def score_table(drops: pd.DataFrame, *, value: str = "value") -> Scores:
    """The values as sets × draws × items, averaged over methods and sparsities; items of all tasks stand side by side.

    >>> scores = score_table(add_drops(rows))

    Raises:
        ValueError: some combination is missing.
    """
    cells = drops.groupby(["calibration", "draw", "task", "item"])[value].mean()
    table = cells.unstack(["task", "item"])
    n_sets, n_draws = (table.index.get_level_values(level).nunique() for level in ("calibration", "draw"))
    if table.isna().any(axis=None) or len(table) != n_sets * n_draws:
        raise ValueError(
            f"{n_sets} calibration sets × {n_draws} draws: every draw of every set must be read on the same items"
        )
    return table.sort_index().to_numpy().reshape(n_sets, n_draws, -1)


def variance_components(scores: Scores) -> pd.DataFrame:
    """Variance due to sets, draws within sets, items, set × item, and the rest; estimates below 0 are put at 0.

    >>> variance_components(scores)[["component", "share"]]

    Returns:
        ``component, variance, share``: one row each for set, draw, item, set × item, residual; NaN from fewer than two
        sets, draws or items.
    """
    n_sets, n_draws, n_items = scores.shape
    if min(scores.shape) < 2:
        return pd.DataFrame({"component": list(COMPONENTS), "variance": np.nan, "share": np.nan})
    grand = scores.mean()
    by_set, by_item = scores.mean((1, 2)), scores.mean((0, 1))
    by_draw, by_both = scores.mean(2), scores.mean(1)
    squares = {
        "set": n_draws * n_items * np.square(by_set - grand).sum() / (n_sets - 1),
        "draw": n_items * np.square(by_draw - by_set[:, None]).sum() / (n_sets * (n_draws - 1)),
        "item": n_sets * n_draws * np.square(by_item - grand).sum() / (n_items - 1),
        "set × item": n_draws
        * np.square(by_both - by_set[:, None] - by_item + grand).sum()
        / ((n_sets - 1) * (n_items - 1)),
        "residual": np.square(scores - by_draw[:, :, None] - by_both[:, None] + by_set[:, None, None]).sum()
        / (n_sets * (n_draws - 1) * (n_items - 1)),
    }
    rest = squares["residual"]
    found = {
        "set": (squares["set"] - squares["draw"] - squares["set × item"] + rest) / (n_draws * n_items),
        "draw": (squares["draw"] - rest) / n_items,
        "item": (squares["item"] - squares["set × item"]) / (n_sets * n_draws),
        "set × item": (squares["set × item"] - rest) / n_draws,
        "residual": rest,
    }
    frame = pd.DataFrame({"component": list(found), "variance": [max(0.0, float(part)) for part in found.values()]})
    return frame.assign(share=frame["variance"] / frame["variance"].sum())


def set_effect(scores: Scores, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0) -> SetEffect:
    """The variance between sets against that between draws, with an interval.

    >>> lab.judge("C07", interval=set_effect(scores).log_ratio, scope={"model": "lab-llama"})

    With F the ratio of the mean squares of the draws' scores (means over items) and n draws per set, (F / f − 1) / n,
    f distributed as F with the same degrees of freedom, is the pivot of the ratio of the two variances: its quantiles
    are the exact interval for normal scores. The items are held fixed: resampling them would add their noise to the
    draws' a second time. Ratios below `SMALLEST_RATIO` count as that. From fewer than two sets or draws the interval is
    undefined, and the numbers are NaN.
    """
    n_sets, n_draws, n_items = scores.shape
    if min(n_sets, n_draws) < 2:
        reason = f"at least two calibration sets with two draws each are needed; there are {n_sets} with {n_draws}"
        return SetEffect(Interval.undefined(reason), float("nan"), float("nan"))
    f_ratio = _f_ratio(scores.mean(2))
    chance = np.random.default_rng(seed).f(n_sets - 1, n_sets * (n_draws - 1), size=n_resamples)
    samples = _log_ratio(f_ratio / chance, n_draws)
    interval = Interval.from_samples(
        float(_log_ratio(np.array([f_ratio]), n_draws)[0]),
        samples,
        level=level,
        n_items=n_items,
        n_draws=n_draws,
        note="the items are held fixed",
        units=("item", "draw of every calibration set"),
    )
    ratio = max(0.0, (f_ratio - 1) / n_draws)
    return SetEffect(interval, f_ratio, ratio / (1 + ratio) if np.isfinite(ratio) else 1.0)


def _f_ratio(means: Float[np.ndarray, "sets draws"]) -> float:
    """Mean square between sets over mean square between draws within sets; infinite where the draws agree exactly."""
    n_sets, n_draws = means.shape
    centres = means.mean(1)
    between = n_draws * np.square(centres - centres.mean()).sum() / (n_sets - 1)
    within = np.square(means - centres[:, None]).sum() / (n_sets * (n_draws - 1))
    if within == 0:
        return float("inf") if between > 0 else 1.0
    return float(between / within)


def _log_ratio(f_ratio: Float[np.ndarray, " samples"], n_draws: int) -> Float[np.ndarray, " samples"]:
    return np.log(np.clip((f_ratio - 1) / n_draws, SMALLEST_RATIO, 1 / SMALLEST_RATIO))
