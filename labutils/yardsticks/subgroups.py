"""Does the loss fall on some groups more than on others? The largest excess of a group, against shuffled labels."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from labutils.stats.bootstrap import Interval
from labutils.stats.evidence import keeps_evidence
from labutils.stats.pairing import require_columns
from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.knowledge import accuracy_differences


@keeps_evidence()
def largest_excess(
    losses: pd.DataFrame,
    group: str,
    *,
    within: Sequence[str] = (),
    n_permutations: int = 5000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The largest excess loss of a group, minus what shuffled labels give on average.

    >>> largest_excess(group_losses(rows, questions, arms, yardstick="answer"), "pronoun", within=["model"])

    ψ_g = mean loss of group g − mean loss of all (Balancing Act, 2310.20673); the statistic is max_g ψ_g. It is above
    zero for any labels, the more so the smaller the groups, so the items' labels are shuffled: the estimate is the
    statistic minus its mean under shuffling, and the interval is the estimate plus the spread that shuffling alone
    gives. It excludes zero exactly when a permutation test rejects that labels do not matter; it is no interval for the
    size of a true excess, of which it does not know the spread.

    Args:
        losses: a row per item with ``value``, its mean loss over draws and arms, and `group`.
        within: columns that also decide what there is to lose, and that groups may have unequally much of. Each loss
            counts from the mean of its stratum, and labels are shuffled within strata only.

    Returns:
        undefined where there are fewer than two groups, or no stratum holds two.

    Raises:
        LookupError: a column is missing.
        ValueError: a value that is not finite.
    """
    require_columns(losses, ["value", group, *within])
    values = losses["value"].to_numpy(dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} losses are not finite")
    codes, names = pd.factorize(losses[group])
    strata = losses.groupby(list(within)).ngroup().to_numpy() if within else np.zeros(len(losses), dtype=int)
    if len(names) < 2 or (pd.Series(codes).groupby(strata).nunique() < 2).all():
        return Interval.undefined(f"one group of {group} only: nothing to compare it with")
    values = values - (np.bincount(strata, weights=values) / np.bincount(strata))[strata]
    observed = _excess(values, codes).max()
    generator = np.random.default_rng(seed)
    shuffled = np.array([_excess(values, _shuffle(codes, strata, generator)).max() for _ in range(n_permutations)])
    expected = shuffled.mean()
    return Interval.from_samples(
        float(observed - expected), observed - shuffled, level=level, n_items=len(values),
        note="the interval is that of shuffled labels", units=("item", "repetition"),
    )  # fmt: skip


def group_losses(rows: pd.DataFrame, questions: pd.DataFrame, arms: Sequence[str], *, yardstick: str) -> pd.DataFrame:
    """Of every question that the dense model gets right, the share of readings that no longer do, over arms and draws.

    >>> group_losses(frames["questions"], questions, ["wanda@0.5"], yardstick="answer")

    What is not known cannot be lost, so that a group of which less is known would seem to be spared.

    Returns:
        ``model, item, value``, and ``pronoun, occurrences`` where the questions tell them.

    Raises:
        LookupError: an arm or yardstick that the rows do not have.
    """
    lost = accuracy_differences(rows, {arm: (DENSE, arm) for arm in arms}, yardstick=yardstick)
    found = lost.groupby(["model", "item"], as_index=False)["value"].mean()
    known = rows.loc[(rows["arm"] == DENSE) & (rows[yardstick] == 1), ["model", "item"]]
    found = found.merge(known, on=["model", "item"], validate="one_to_one")
    about = [name for name in ("pronoun", "occurrences") if name in questions]
    return found.merge(questions[["model", "item", *about]], on=["model", "item"], validate="one_to_one")


def text_excess(texts: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Of every window the share by which its loss rises, over arms, draws and models: ``item, source, value``.

    >>> largest_excess(text_excess(frames["texts"], ["wanda@0.5"]), "source")
    """
    keys = ["item", "source"]
    dense = texts[texts["arm"] == DENSE].groupby(keys)["loss"].mean()
    own = texts[texts["arm"].isin(list(arms))].groupby(keys)["loss"].mean()
    return (own / dense - 1).rename("value").reset_index()


def excess_table(losses: pd.DataFrame, group: str, *, within: Sequence[str] = ()) -> pd.DataFrame:
    """The excess loss of every group: ``group, items, loss, excess``, the worst first.

    >>> excess_table(losses, "pronoun", within=["model", "occurrences"])

    Args:
        within: as for `largest_excess`; ``excess`` is then the mean of what losses exceed their stratum's mean by.
    """
    require_columns(losses, ["value", group, *within])
    means = losses.groupby(list(within))["value"].transform("mean") if within else losses["value"].mean()
    found = losses.assign(beyond=losses["value"] - means).groupby(group, sort=False)
    table = found.agg(items=("value", "size"), loss=("value", "mean"), excess=("beyond", "mean")).reset_index()
    table = table.rename(columns={group: "group"})
    return table.sort_values("excess", ascending=False, ignore_index=True)


def _shuffle(
    codes: Int64[np.ndarray, " items"], strata: Int64[np.ndarray, " items"], generator: np.random.Generator
) -> Int64[np.ndarray, " items"]:
    """Labels in random order within every stratum."""
    to, source = np.argsort(strata, kind="stable"), np.lexsort((generator.random(len(codes)), strata))
    found = np.empty_like(codes)
    found[to] = codes[source]
    return found


def _excess(values: Float[np.ndarray, " items"], codes: Int64[np.ndarray, " items"]) -> Float[np.ndarray, " groups"]:
    return np.bincount(codes, weights=values) / np.bincount(codes) - values.mean()
