"""How much of what was lost comes back: (pruned − healed) / (pruned − dense), per cell and over models."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import Interval, crossed_bootstrap, paired_differences
from labutils.stats.evidence import keeps_evidence
from labutils.stats.few_units import interval_over_units

UNDAMAGED = "pruning lost nothing clear that could come back"


class ShareEffects(NamedTuple):
    """A share in every model over items and draws, and over models by Student's t; of one model its own interval."""

    by_model: dict[str, Interval]
    overall: Interval


@keeps_evidence()
def recovered_share(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, below: float = 0.0) -> Interval:
    """The share of the lost loss that came back in one model, less `below`, averaged over pairs and sparsities.

    >>> recovered_share(rows, [("blocks", "blocks → lora")], below=0.5)

    In every pair and at every sparsity it is the ratio of mean losses over items and draws; items and draws of all
    losses are resampled together.

    Args:
        rows: of `recovery_sweep`, of one model.
        pairs: arms before and after recovery.

    Returns:
        an undefined interval where some cell lost nothing clear: a share of it would mean nothing.
    """
    parts = [_gained_and_lost(rows, before, after) for before, after in pairs]
    return ratio_of_gains(parts, [before for before, _ in pairs], UNDAMAGED, below=below)


def ratio_of_gains(
    parts: Sequence[tuple[pd.DataFrame, pd.DataFrame]], names: Sequence[str], nothing: str, *, below: float = 0.0
) -> Interval:
    """The ratio of two mean differences, less `below`, averaged over several such and over sparsities, of one model.

    >>> ratio_of_gains([(gained, lost)], ["wanda"], "nothing was lost")

    Items and draws of all differences are resampled together.

    Args:
        parts: frames of `paired_differences` on the same items, draws and sparsities: what is divided, and by what.
        names: of the parts, for the reason of an undefined interval.
        nothing: the reason where some denominator, at some sparsity, is not clearly above zero.
    """
    for name, (_, whole) in zip(names, parts, strict=True):
        for sparsity, cell in whole.groupby("sparsity"):
            damage = crossed_bootstrap(cell, cells=(), n_resamples=2000)
            if not damage.low > 0:
                return Interval.undefined(f"{nothing} ({name} at {sparsity:g}: {damage})")
    named = [
        frame.assign(contrast=f"{number:03d} {place}")  # in this order they are cells of the resampling
        for number, part in enumerate(parts)
        for place, frame in enumerate(part)
    ]
    both = pd.concat(named, ignore_index=True)
    n_sparsities = both["sparsity"].nunique()

    def ratio(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        means = cell_means.reshape(len(cell_means), -1, len(parts), 2, n_sparsities).mean(axis=1)
        return (means[:, :, 0] / means[:, :, 1]).mean(axis=(1, 2)) - below

    return crossed_bootstrap(both, ratio, cells=("contrast", "sparsity"))


def _gained_and_lost(rows: pd.DataFrame, before: str, after: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What recovery gained and what pruning lost, item by item; both have the same items, draws and sparsities."""
    gained = paired_differences(rows, {"arm": before}, {"arm": after})
    dense = rows[rows["arm"] == "dense"].set_index(["evaluation", "item"])["loss"]
    places = pd.MultiIndex.from_frame(gained[["evaluation", "item"]])
    return gained, gained.assign(value=gained["reference"].to_numpy() - dense.reindex(places).to_numpy())


@keeps_evidence("overall")
def share_over_models(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, below: float = 0.0) -> ShareEffects:
    """`recovered_share` of every model, and over them.

    >>> share_over_models(rows, [("blocks", "blocks → lora")], below=0.5).overall
    """
    own = {str(model): recovered_share(part, pairs, below=below) for model, part in rows.groupby("model", sort=False)}
    return ShareEffects(own, over_models(own, "lost something clear"))


def over_models(own: Mapping[str, Interval], what: str) -> Interval:
    """A share over models, by Student's t over those in which it is defined; of one model its own interval.

    >>> over_models({"lab-llama": one, "lab-gpt2": other}, "lost something clear")

    Args:
        what: models with a share did, for the reason of an undefined interval.
    """
    usable = {model: each for model, each in own.items() if each.defined}
    if len(own) == 1 or not usable:
        return next(iter(own.values()))
    if len(usable) < 2:
        return Interval.undefined(f"{len(usable)} of {len(own)} models {what}")
    estimates = pd.DataFrame({"model": list(usable), "estimate": [each.estimate for each in usable.values()]})
    return interval_over_units(estimates, n_items=min(each.n_items for each in usable.values()))


def recovered_shares(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The share of every model, pair and sparsity by itself, beside what the recovery cost.

    >>> recovered_shares(rows, [("wanda", "wanda → lora")])

    Returns:
        ``model, arm, sparsity, estimate, low, high, seconds, wall_seconds, trained``; without numbers where nothing
        clear was lost. Both times are those of the recovery alone, per draw: of the processor, and by the clock.
    """
    found = []
    for (model, sparsity), _ in rows[rows["sparsity"] > 0].groupby(["model", "sparsity"], sort=False):
        own = rows[(rows["model"] == model) & ((rows["sparsity"] == sparsity) | (rows["arm"] == "dense"))]
        for before, after in pairs:
            share = recovered_share(own, [(before, after)])
            took = own.groupby("arm")[["seconds", "wall_seconds"]].mean()
            took = (took.loc[after] - took.loc[before]).to_dict()
            found.append(
                {
                    "model": model, "arm": after, "sparsity": sparsity, "estimate": share.estimate, "low": share.low,
                    "high": share.high, **took,
                    "trained": int(own.loc[own["arm"] == after, "trained"].iloc[0]),
                }
            )  # fmt: skip
    return pd.DataFrame(found)
