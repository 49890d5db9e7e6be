"""How much of the differences between methods is due to the mask, and how much to the reconstruction."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labutils.stats.bootstrap import Interval, crossed_bootstrap
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
    wanted = {
        f"{mask}{'' if step == 'none' else f'+{step}'}": (mask, step) for mask in masks for step in reconstructions
    }
    if missing := set(wanted) - set(rows["method"]):
        raise LookupError(f"the rows hold no {', '.join(sorted(missing))}; sweep every mask with every reconstruction")
    chosen = rows[rows["method"].isin(list(wanted))]
    pairs = pd.DataFrame([wanted[name] for name in chosen["method"]], columns=["mask", "step"], index=chosen.index)
    chosen = pd.concat([chosen.assign(value=chosen["loss"]), pairs], axis=1)
    found = []
    for key, part in chosen.groupby([*by, "model"], sort=False):
        means = part.groupby(["mask", "step"])["value"].mean()
        for each in PARTS:
            share = _share(part, each, (len(masks), len(reconstructions)))
            ends = {"estimate": share.estimate, "low": share.low, "high": share.high}
            about = dict(zip([*by, "model"], key, strict=True))
            found.append({**about, "part": NAMES[each], **ends, "spread": float(np.ptp(means))})
    return pd.DataFrame(found)


def _share(part: pd.DataFrame, each: str, shape: tuple[int, int]) -> Interval:
    return crossed_bootstrap(part, two_way_share(each, shape), cells=("mask", "step"), n_resamples=2000)


def named_shares(shares: pd.DataFrame, part: str) -> str:
    """The smallest and the largest share of a part over the rows: "12% to 34%".

    >>> named_shares(two_way_shares(rows, masks, steps), "mask")
    """
    own = shares.loc[shares["part"] == part, "estimate"]
    low, high = f"{own.min():.0%}", f"{own.max():.0%}"
    return low if low == high else f"{low} to {high}"
