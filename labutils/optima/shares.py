"""How much of the differences between methods is due to the mask, and how much to the reconstruction."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from labutils.stats.bootstrap import Interval, crossed_bootstrap
from labutils.stats.few_units import interval_over_units
from labutils.stats.two_way import PARTS, two_way_share

NAMES = {"rows": "mask", "columns": "reconstruction", "interaction": "both together"}


def two_way_shares(
    rows: pd.DataFrame,
    masks: Sequence[str],
    reconstructions: Sequence[str],
    by: Sequence[str] = ("sparsity", "pattern"),
) -> pd.DataFrame:
    """Shares of the variance of the loss over all pairs of a mask and a reconstruction, at every sparsity.

    The loss of a pair is its mean over items and draws. Its variance over the pairs is split as in an analysis of
    variance with two factors. Intervals resample items and calibration draws; what is left of their noise in the means
    counts as interaction, which is too large by that.

    >>> two_way_shares(rows, ["magnitude", "wanda"], ["none", "ls"])

    Args:
        rows: of `sweep`, with the methods "mask" and "mask+reconstruction".
        reconstructions: "none" for the mask alone.

    Returns:
        the columns `by`, model, part ("mask", "reconstruction", "both together"), estimate, low, high, and spread, the
        largest minus the smallest mean loss of all pairs.

    Raises:
        LookupError: a pair that the rows lack.
    """
    chosen = _pairs(rows, masks, reconstructions).rename(columns={"loss": "value"})
    found = []
    for key, part in chosen.groupby([*by, "model"], sort=False):
        means = part.groupby(["mask", "step"])["value"].mean()
        for each in PARTS:
            statistic = two_way_share(each, (len(masks), len(reconstructions)))
            share = crossed_bootstrap(part, statistic, cells=("mask", "step"), n_resamples=2000)
            ends = {"estimate": share.estimate, "low": share.low, "high": share.high}
            about = dict(zip([*by, "model"], key, strict=True))
            found.append({**about, "part": NAMES[each], **ends, "spread": float(np.ptp(means))})
    return pd.DataFrame(found)


def _pairs(rows: pd.DataFrame, masks: Sequence[str], reconstructions: Sequence[str]) -> pd.DataFrame:
    """The rows of all pairs, with the columns mask and step."""
    wanted = {
        f"{mask}{'' if step == 'none' else f'+{step}'}": (mask, step) for mask in masks for step in reconstructions
    }
    if missing := set(wanted) - set(rows["method"]):
        raise LookupError(f"the rows hold no {', '.join(sorted(missing))}; sweep every mask with every reconstruction")
    chosen = rows[rows["method"].isin(list(wanted))]
    pairs = pd.DataFrame([wanted[name] for name in chosen["method"]], columns=["mask", "step"], index=chosen.index)
    return pd.concat([chosen, pairs], axis=1)


def mean_shares(
    rows: pd.DataFrame, masks: Sequence[str], reconstructions: Sequence[str], *, logs: bool = False
) -> dict[str, Interval]:
    """Shares of the variance as of `two_way_shares`, a mean over sparsities and patterns, with an interval over models.

    Of several models the interval is Student's t over their shares, as the shares of other models are what is asked
    for, cut to what a share can be; of one model it resamples items and calibration draws, and tells nothing of others.

    >>> mean_shares(rows, ["magnitude", "wanda"], ["none", "ls"])["mask"]

    Args:
        rows: of `sweep`, of all models at the same sparsities and patterns, with the dense model's where `logs`.
        logs: whether the logarithm of the loss that pruning adds is split, in which no pair outweighs the others.

    Returns:
        "mask", "reconstruction" and "both together" → the share.

    Raises:
        LookupError: a pair that the rows lack.
    """
    chosen = _pairs(_added(rows) if logs else rows, masks, reconstructions).rename(columns={"loss": "value"})
    shape, cells = (len(masks), len(reconstructions)), ("pattern", "sparsity", "mask", "step")
    found = {}
    for each in PARTS:
        statistic = two_way_share(each, shape, logs=logs)
        own = {model: crossed_bootstrap(part, statistic, cells=cells, n_resamples=2000)
               for model, part in chosen.groupby("model", sort=False)}  # fmt: skip
        table = pd.DataFrame({"model": list(own), "estimate": [share.estimate for share in own.values()]})
        several = len(own) > 1 and np.isfinite(table["estimate"]).all()
        share = interval_over_units(table) if several else next(iter(own.values()))
        low, high = (float(np.clip(end, 0, 1)) for end in (share.low, share.high))
        found[NAMES[each]] = dataclasses.replace(share, low=low, high=high)
    return found


def _added(rows: pd.DataFrame) -> pd.DataFrame:
    """The loss over that of the dense model on the same items."""
    keys = [name for name in ("model", "calibration", "evaluation") if name in rows]
    dense = rows[rows["method"] == "dense"].groupby([*keys, "item"])["loss"].mean().rename("dense").reset_index()
    pruned = rows[rows["method"] != "dense"].merge(dense.drop_duplicates([*keys, "item"]), on=[*keys, "item"])
    return pruned.assign(loss=pruned["loss"] - pruned["dense"])


def named_shares(shares: pd.DataFrame, part: str) -> str:
    """The smallest and the largest share of a part over the rows: "12% to 34%".

    >>> named_shares(two_way_shares(rows, masks, steps), "mask")
    """
    own = shares.loc[shares["part"] == part, "estimate"]
    low, high = f"{own.min():.0%}", f"{own.max():.0%}"
    return low if low == high else f"{low} to {high}"
