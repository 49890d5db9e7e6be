"""Contrasts between arms of a sweep: who gains what over whom, the regret of a method, and how general a sign is.

A contrast is named and signed so that a positive value favours its second arm. Frames of several contrasts carry a
column `contrast`, and are resampled with the cells (`contrast`, `sparsity`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import Interval, Statistic, crossed_bootstrap, paired_differences
from labutils.stats.tables import interval_table

CELLS = ("contrast", "sparsity")


def contrast(rows: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Loss of the first arm minus loss of the second, item by item, for every named pair of arms.

    >>> gains = contrast(rows, {"owl": ("ria/uniform", "ria/owl")})

    Args:
        rows: rows of `sweep`, for instance those of the low sparsities only.
        pairs: name → (reference arm, candidate arm), as {"ria": ("ria/uniform", "ria/owl")}.

    Returns:
        the columns of `paired_differences` and `contrast`; a positive `value` favours the candidate.

    Raises:
        ValueError: an arm is missing, or was not run on the same items, draws and sparsities as its partner.
    """
    frames = [
        paired_differences(rows, {"arm": reference}, {"arm": candidate}).assign(contrast=name)
        for name, (reference, candidate) in pairs.items()
    ]
    return pd.concat(frames, ignore_index=True)


def contrast_interval(differences: pd.DataFrame, statistic: str | Statistic = "mean", *, seed: int = 0) -> Interval:
    """The interval of a statistic over a frame of contrasts, items and calibration draws resampled together.

    >>> contrast_interval(contrast(rows, {"ria": ("ria/uniform", "ria/owl")}), slope([0.5, 0.6, 0.7]))

    Of a frame without rows the interval is undefined.
    """
    if differences.empty:
        return Interval.undefined("the rows hold no pair of arms and no sparsities to compare")
    return crossed_bootstrap(differences, statistic, cells=CELLS, seed=seed)


def advantage_over(rows: pd.DataFrame, arm: str, components: Sequence[str]) -> pd.DataFrame:
    """What `arm` gains over each of its components: a frame of contrasts named after the components.

    >>> gain = advantage_over(rows, "optiprune", ["ria/uniform", "sparsegpt/uniform"])
    """
    return contrast(rows, {component: (component, arm) for component in components})


def smallest_advantage(n_cells: int) -> Statistic:
    """Statistic for `advantage_over`: minus the largest regret over components and sparsities, averaged over strata.

    >>> contrast_interval(gain, smallest_advantage(2 * 3))  # two components at three sparsities

    The regret at a sparsity is the arm's loss minus the lowest loss among its components; the smallest advantage over
    any component at any sparsity is minus the largest of them.

    Args:
        n_cells: components × sparsities.
    """

    def smallest(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        return cell_means.reshape(len(cell_means), -1, n_cells).mean(axis=1).min(axis=1)

    return smallest


def regret_table(rows: pd.DataFrame, arm: str, components: Sequence[str], *, relative: bool = True) -> pd.DataFrame:
    """Regret of `arm` per setting (row) and sparsity (column): its mean loss minus the lowest among the components.

    >>> regret_table(rows, "optiprune", ["ria/uniform", "sparsegpt/uniform"])

    Args:
        relative: divide by the dense model's loss in the same setting, so that unlike settings can be compared.
    """
    settings = ["model", "evaluation"]
    means = rows.groupby([*settings, "arm", "sparsity"])["loss"].mean().unstack("arm")
    regret = (means[arm] - means[list(components)].min(axis=1)).dropna().unstack("sparsity")
    if relative:
        regret = regret.div(means["dense"].dropna().droplevel("sparsity"), axis=0)
    return regret.loc[list(dict.fromkeys(zip(rows["model"], rows["evaluation"], strict=True)))]


def cross_fitted_regret(
    rows: pd.DataFrame, arm: str, components: Sequence[str], *, n_splits: int = 50, seed: int = 0
) -> pd.DataFrame:
    """The table of `regret_table` (relative) without the winner's curse.

    >>> cross_fitted_regret(rows, "optiprune", ["ria/uniform", "sparsegpt/uniform"])

    The lowest of several noisy means is lower than the mean of the best component, so plain regret is above zero even
    where all arms are equally good. Here one half of the items says which component is best and the other half what the
    arm loses to it, both ways round, averaged over random splits into halves.

    Raises:
        ValueError: fewer than two items.
    """
    found = {}
    for setting, part in rows.groupby(["model", "evaluation"], sort=False):
        dense = part.loc[part["arm"] == "dense", "loss"].mean()
        found[setting] = _cross_fitted(part, arm, components, n_splits, np.random.default_rng(seed)) / dense
    return pd.DataFrame(found).T.rename_axis(index=["model", "evaluation"], columns="sparsity")


def _cross_fitted(
    rows: pd.DataFrame, arm: str, components: Sequence[str], n_splits: int, generator: np.random.Generator
) -> pd.Series:
    """Regret per sparsity in one setting, averaged over the splits."""
    means = rows.groupby(["arm", "sparsity", "item"])["loss"].mean().unstack("item")
    own, others = means.loc[arm].to_numpy(), np.stack([means.loc[name].to_numpy() for name in components])
    n_items = own.shape[1]
    if n_items < 2:
        raise ValueError("halves need at least two items; evaluate on more")
    total = np.zeros(len(own))
    for _ in range(n_splits):
        order = generator.permutation(n_items)
        halves = order[: n_items // 2], order[n_items // 2 :]
        for chosen_on, read_on in (halves, halves[::-1]):
            best = others[:, :, chosen_on].mean(axis=2).argmin(axis=0)
            lost = own[:, read_on] - others[best, np.arange(len(own))][:, read_on]
            total += lost.mean(axis=1)
    return pd.Series(total / (2 * n_splits), index=means.loc[arm].index)


def expected_sign_share(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
    """Statistic: the share of cells with a positive mean, minus one half.

    >>> contrast_interval(signs, expected_sign_share)
    """
    return (cell_means > 0).mean(axis=1) - 0.5


def stratum_estimates(differences: pd.DataFrame, *, by: Sequence[str] = ("model", "evaluation")) -> pd.DataFrame:
    """Estimate, interval and standard error of the mean difference in every setting, one row each.

    >>> effects = stratum_estimates(signs)
    >>> heterogeneity(effects["estimate"], effects["error"])
    """
    if differences.empty:
        return pd.DataFrame(columns=[*by, "estimate", "low", "high", "error"])
    return interval_table(differences, by, crossed_bootstrap, cells=CELLS)


def expected_signs(rows: pd.DataFrame, *, low: float, high: float, margin: float) -> pd.DataFrame:
    """The contrasts of C01 to C05 in one frame, each averaged over its sparsities and positive where the claim holds.

    >>> signs = expected_signs(rows, low=0.5, high=0.7, margin=0.01)

    C01 claims "no worse", so `margin` is added to its difference. C03's value is the slope over sparsity, which is a
    weighted sum of the differences. The column `sparsity` keeps one value, since each contrast has its own grid.

    Args:
        rows: a sweep with the arms ria and sparsegpt × uniform and owl.

    Returns:
        a frame of contrasts; without rows where an arm is missing, or sparsities for one of the five claims, which are
        judged together.
    """
    keys = ["model", "calibration", "evaluation", "draw", "item"]
    sparsities = set(rows.loc[rows["arm"] != "dense", "sparsity"])
    needed = {f"{score}/{allocation}" for score in ("ria", "sparsegpt") for allocation in ("uniform", "owl")}
    if not needed <= set(rows["arm"]) or len(sparsities) < 2 or min(sparsities) > low or max(sparsities) < high:
        return pd.DataFrame(columns=[*keys, "value", "contrast", "sparsity"])
    spread = contrast(rows, {score: (f"{score}/uniform", f"{score}/owl") for score in ("ria", "sparsegpt")})
    repair = contrast(rows, {"sparsegpt": ("ria/uniform", "sparsegpt/uniform")})
    grid = np.array(sorted(spread["sparsity"].unique()))
    weights = dict(zip(grid, (grid - grid.mean()) / np.square(grid - grid.mean()).sum() * len(grid), strict=True))
    signed = {
        "C01": spread[spread["sparsity"] <= low].assign(value=lambda frame: margin - frame["value"]),
        "C02": spread[spread["sparsity"] >= high],
        "C03": spread.assign(value=spread["value"] * spread["sparsity"].map(weights)),
        "C04": repair[repair["sparsity"] <= low].assign(value=lambda frame: -frame["value"]),
        "C05": repair[repair["sparsity"] >= high],
    }
    frames = [
        frame.groupby(keys, as_index=False)["value"].mean().assign(contrast=name, sparsity=0.0)
        for name, frame in signed.items()
    ]
    return pd.concat(frames, ignore_index=True)
