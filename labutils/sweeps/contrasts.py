"""Contrasts between arms of a sweep: who gains what over whom, and the regret of a method.

A contrast is named and signed so that a positive value favours its second arm. Frames of several contrasts carry a
column `contrast`, and are resampled with the cells (`contrast`, `sparsity`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import Interval, Statistic, crossed_bootstrap, paired_differences
from labutils.stats.pairing import PAIRING, pair_with_dense, require_columns

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


def average_contrasts(differences: pd.DataFrame) -> pd.DataFrame:
    """The mean over contrasts of every item and draw: what several scores say together, for a figure.

    >>> average_contrasts(contrast(rows, {"ria": ("ria/uniform", "ria/owl"), "wanda": ("wanda/uniform", "wanda/owl")}))

    Raises:
        LookupError: a column is missing.
    """
    require_columns(differences, [*PAIRING, "value"])
    return differences.groupby(list(PAIRING), as_index=False, sort=False)["value"].mean()


def added_loss(rows: pd.DataFrame) -> pd.DataFrame:
    """The pruned rows with the loss that pruning added, item by item, as `value`.

    >>> lab.stats.interval_table(added_loss(rows), ["method", "sparsity"])
    """
    pruned = pair_with_dense(rows, "loss", on=["model", "calibration", "evaluation", "item"])
    return pruned.assign(value=pruned["loss"] - pruned["dense"])


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


def share_of_gain(rows: pd.DataFrame, *, whole: tuple[str, str], part: tuple[str, str]) -> Interval:
    """The share of one gain that another one makes up, as the ratio of their means over sparsities.

    >>> share_of_gain(rows, whole=("ria/uniform", "sparsegpt/uniform"), part=("ria/uniform", "ria+obs/uniform"))

    Both means are resampled together. Where the whole gain is not clearly different from zero there is nothing to take
    a share of, and the interval is undefined.

    Args:
        rows: of the sparsities in question.
        whole, part: pairs of arms as for `contrast`.
    """
    gains = contrast(rows, {"part": part, "whole": whole})
    n_sparsities = gains["sparsity"].nunique()
    full = contrast_interval(gains[gains["contrast"] == "whole"])
    if full.low <= 0 <= full.high:
        return Interval.undefined(f"{whole[1]} gains {full} over {whole[0]}, which may be nothing: it has no shares")

    def ratio(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        means = cell_means.reshape(len(cell_means), -1, 2, n_sparsities).mean(axis=(1, 3))
        return means[:, 0] / means[:, 1]

    return contrast_interval(gains, ratio)
