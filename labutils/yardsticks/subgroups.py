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
    losses: pd.DataFrame, group: str, *, n_permutations: int = 5000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The largest excess loss of a group, minus what shuffled labels give on average.

    >>> largest_excess(losses, "pronoun")

    ψ_g = mean loss of group g − mean loss of all (Balancing Act, 2310.20673); the statistic is max_g ψ_g. It is above
    zero for any labels, the more so the smaller the groups, so the items' labels are shuffled: the estimate is the
    statistic minus its mean under shuffling, and the interval is the estimate plus the spread that shuffling alone
    gives. It excludes zero exactly when a permutation test rejects that labels do not matter; it is no interval for the
    size of a true excess, of which it does not know the spread.

    Args:
        losses: a row per item with ``value``, its mean loss over draws and arms, and `group`.

    Returns:
        undefined where there are fewer than two groups.

    Raises:
        LookupError: a column is missing.
        ValueError: a value that is not finite.
    """
    require_columns(losses, ["value", group])
    values = losses["value"].to_numpy(dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} losses are not finite")
    codes, names = pd.factorize(losses[group])
    if len(names) < 2:
        return Interval.undefined(f"one group of {group} only: nothing to compare it with")
    observed = _excess(values, codes).max()
    generator = np.random.default_rng(seed)
    shuffled = np.array([_excess(values, generator.permutation(codes)).max() for _ in range(n_permutations)])
    expected = shuffled.mean()
    return Interval.from_samples(
        float(observed - expected), observed - shuffled, level=level, n_items=len(values),
        note="the interval is that of shuffled labels", units=("item", "repetition"),
    )  # fmt: skip


def group_losses(rows: pd.DataFrame, questions: pd.DataFrame, arms: Sequence[str], *, yardstick: str) -> pd.DataFrame:
    """Of every question the accuracy lost, over arms and draws, and of planted ones the group of people it is about.

    >>> group_losses(frames["questions"], questions, ["wanda@0.5"], yardstick="answer")

    Returns:
        ``model, item, value``; and ``group``, "she, told 8 times", where the questions tell ``pronoun`` and
        ``occurrences``.
    """
    lost = accuracy_differences(rows, {arm: (DENSE, arm) for arm in arms}, yardstick=yardstick)
    found = lost.groupby(["model", "item"], as_index=False)["value"].mean()
    if "pronoun" not in questions:
        return found
    about = questions[["model", "item", "pronoun", "occurrences"]]
    found = found.merge(about, on=["model", "item"], validate="one_to_one")
    return found.assign(group=found["pronoun"] + ", told " + found["occurrences"].astype(str) + " times")


def text_excess(texts: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Of every window the share by which its loss rises, over arms, draws and models: ``item, source, value``.

    >>> largest_excess(text_excess(frames["texts"], ["wanda@0.5"]), "source")
    """
    keys = ["item", "source"]
    dense = texts[texts["arm"] == DENSE].groupby(keys)["loss"].mean()
    own = texts[texts["arm"].isin(list(arms))].groupby(keys)["loss"].mean()
    return (own / dense - 1).rename("value").reset_index()


def excess_table(losses: pd.DataFrame, group: str) -> pd.DataFrame:
    """The excess loss of every group: ``group, items, loss, excess``, the worst first.

    >>> excess_table(losses, "relation")
    """
    require_columns(losses, ["value", group])
    table = losses.groupby(group, sort=False)["value"].agg(["size", "mean"]).reset_index()
    table.columns = ["group", "items", "loss"]
    table["excess"] = table["loss"] - losses["value"].mean()
    return table.sort_values("excess", ascending=False, ignore_index=True)


def _excess(values: Float[np.ndarray, " items"], codes: Int64[np.ndarray, " items"]) -> Float[np.ndarray, " groups"]:
    return np.bincount(codes, weights=values) / np.bincount(codes) - values.mean()
