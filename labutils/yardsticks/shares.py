"""Shares of what the dense model has beyond guessing that are lost, with the uncertainty of what they are shares of."""

from collections.abc import Mapping, Sequence

import pandas as pd

from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.knowledge import KEYS, beside
from labutils.yardsticks.reading import CHOSEN, YARDSTICKS


def lost_shares(rows: pd.DataFrame, arms: Sequence[str], *, yardstick: str) -> pd.DataFrame:
    """What each arm loses, as a share of what the dense model has beyond guessing, question by question.

    >>> lost_shares(rows, ["wanda@0.5"], yardstick="answer")["value"].mean()

    The mean of ``value`` over questions and draws is mean (dense − damaged) / mean (dense − chance). By `share_of` its
    spread is that of this ratio: the dense model was read on the same few questions, and is as uncertain.

    Raises:
        LookupError: an arm or yardstick that the rows do not have.
        ValueError: a dense model that is not above guessing: it has nothing to lose.
    """
    parts = []
    for arm in arms:
        pair = beside(rows, DENSE, arm, [yardstick, "chance"])
        guessing = pair["chance_first"] if yardstick in CHOSEN else 0.0
        own = pair[f"{yardstick}_first"] - guessing
        beyond = own.groupby(pair["model"]).transform("mean")
        if not (beyond > 0).all():
            named = ", ".join(pair.loc[beyond <= 0, "model"].unique())
            raise ValueError(f"{named} is not above guessing by {yardstick!r}: it has nothing to lose; leave it out")
        value = share_of(pair[f"{yardstick}_first"] - pair[f"{yardstick}_second"], own, [pair["model"]])
        parts.append(pair.assign(contrast=arm, sparsity=0.0, value=value)[KEYS])
    return pd.concat(parts, ignore_index=True)


def kept_shares(rows: pd.DataFrame, arms: Mapping[str, Sequence[str]], yardsticks: Sequence[str]) -> pd.DataFrame:
    """`lost_shares` by several yardsticks, with ``kind`` (the key of `arms`) and ``yardstick`` (its label).

    >>> kept_shares(rows, {"wanda": ["wanda@0.5"]}, ["choice", "answer"])
    """
    parts = [
        lost_shares(rows, group, yardstick=column).assign(kind=kind, yardstick=YARDSTICKS[column])
        for column in yardsticks
        for kind, group in arms.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*KEYS, "kind", "yardstick"])


def compare_losses(rows: pd.DataFrame, arms: Sequence[str], *, more: str, less: str) -> pd.DataFrame:
    """The share lost by one yardstick minus that by another, on the same questions; positive: `more` loses more.

    >>> compare_losses(rows, ["wanda@0.5"], more="answer", less="answer_in_context")

    Errors as in `lost_shares`.
    """
    first, second = (lost_shares(rows, arms, yardstick=each) for each in (more, less))
    keys = [key for key in KEYS if key != "value"]
    pairs = first.merge(second, on=keys, suffixes=("", "_less"), validate="one_to_one")
    return pairs.assign(value=pairs["value"] - pairs["value_less"])[KEYS]


def share_of(lost: pd.Series, base: pd.Series, groups: list[pd.Series]) -> pd.Series:
    """Values whose mean in every group is mean(lost) / mean(base), and whose spread is that of the ratio.

    >>> share_of(dense - damaged, dense - chance, [models])

    Linearised (delta method): share + (lost − share · base) / mean(base). So whatever resamples them also resamples
    what the share is of, and nothing is divided by a resample that may be near zero.
    """
    frame = pd.DataFrame({"lost": lost, "base": base})
    means = frame.groupby(groups).transform("mean")
    share = means["lost"] / means["base"]
    return share + (lost - share * base) / means["base"]
