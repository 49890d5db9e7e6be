"""Did adaptation adapt? What adaptation is good for can be studied only where the model came to know the domain."""

import pandas as pd

from labutils.adaptation.jobs import NO_ADAPTATION
from labutils.stats.bootstrap import Interval
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import require_columns

COLUMNS = ["sample", "adaptation", "heldout_before", "heldout_after"]


def heldout_changes(runs: pd.DataFrame) -> pd.DataFrame:
    """What every adaptation did to the loss on unseen text of the domain, in nats per token; below zero is better.

    >>> heldout_changes(rows.runs)["change"].mean()

    Args:
        runs: `runs` of a study, with the columns ``sample, adaptation, heldout_before, heldout_after``.

    Returns:
        one row per sample and adaptation: ``sample, adaptation, change``.

    Raises:
        LookupError: a column is missing. ValueError: no run of an adapted model.
    """
    require_columns(runs, COLUMNS)
    adapted = runs[runs["adaptation"] != NO_ADAPTATION]
    if adapted.empty:
        raise ValueError(f"no run of an adapted model among {len(runs)} runs: there is no adaptation to check")
    table = adapted.drop_duplicates(["sample", "adaptation"])[COLUMNS].reset_index(drop=True)
    return table.assign(change=table["heldout_after"] - table["heldout_before"])[["sample", "adaptation", "change"]]


def manipulation_check(runs: pd.DataFrame, *, level: float = 0.95) -> Interval:
    """The mean change of the domain's loss by adaptation, with an interval over the samples of text.

    >>> manipulation_check(rows.runs).high < 0  # adaptation did adapt

    Adaptations of one sample share its text, so they are averaged first; Student's t over the samples' means follows
    (`interval_over_units`). Hauser et al. (2018, Frontiers in Psychology 9:998) on what such checks are for.

    Raises:
        LookupError, ValueError: as `heldout_changes`; ValueError for fewer than two samples.
    """
    changes = heldout_changes(runs)
    means = changes.groupby("sample", as_index=False)["change"].mean()
    return interval_over_units(means, unit="sample", value="change", level=level, n_items=len(changes))


def why_not_adapted(runs: pd.DataFrame) -> str:
    """The reason for which nothing about adaptation can be judged on these runs; empty where it can.

    >>> reason = why_not_adapted(rows.runs)

    The gate: the whole interval of `manipulation_check` must lie below zero.

    Raises:
        LookupError, ValueError: as `manipulation_check`.
    """
    found = manipulation_check(runs)
    if found.high < 0:
        return ""
    return (
        "adaptation did not teach the model the domain: it changed the loss on unseen text of the domain by "
        f"{found:+.3f nats per token}, and an effect of adaptation needs a model that it has adapted"
    )
