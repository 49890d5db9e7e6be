"""What the figures of the adaptation study show, in one sentence each, computed from their rows."""

import numpy as np
import pandas as pd

from labutils.adaptation.figures import sample_gains
from labutils.adaptation.jobs import NO_ADAPTATION
from labutils.adaptation.manipulation import heldout_changes, manipulation_check

AXES = {"complexity": "complexity", "term_share": "the share of terms"}
ALPHA = 0.05


def describe_spread(samples: pd.DataFrame) -> str:
    """How far the two aims of the samples go together, and the widest band that no sample covers.

    >>> describe_spread(describe_samples(samples))

    Args:
        samples: rows of `describe_samples`; at least two.
    """
    together = samples["complexity"].corr(samples["term_share"])
    bands = []
    for column, name in AXES.items():
        values = np.sort(samples[column].to_numpy(dtype=float))
        widths = np.diff(values)
        place, spread = int(widths.argmax()), values[-1] - values[0]
        bands.append((widths[place] / spread if spread else 0.0, name, values[place], values[place + 1]))
    share, name, low, high = max(bands)
    return (
        f"Complexity and term share go together with r = {together:.2f}".replace("-", "−")
        + f"; the widest empty band is that of {name} from {low:.3f} to {high:.3f}, {share:.0%} of its range, of which "
        "the study can say nothing."
    )


def describe_check(runs: pd.DataFrame) -> str:
    """Whether adaptation lowered the loss on unseen text of the domain: the mean change, and in how many adaptations.

    >>> describe_check(rows.runs)

    Args:
        runs: `runs` of a study.
    """
    changes, found = heldout_changes(runs), manipulation_check(runs)
    verdict = "fell" if found.high < 0 else "rose" if found.low > 0 else "did not change for certain"
    fell = int((changes["change"] < 0).sum())
    return (
        f"The loss on unseen text of the domain {verdict}: {found:+.3f nats per token} over {found.n_draws} samples; "
        f"it fell in {fell} of {len(changes)} adaptations."
    )


def describe_samples_gains(gains: pd.DataFrame) -> str:
    """In how many samples the gain is clear, either way, and how many such findings chance alone would give.

    >>> describe_samples_gains(adaptation_gain(rows))

    Args:
        gains: rows of `adaptation_gain`.
    """
    return _count_clear(sample_gains(gains), "samples and adaptations")


def describe_configuration_gains(table: pd.DataFrame) -> str:
    """The same for fine-tunings, from a table with the columns `low` and `high`.

    >>> describe_configuration_gains(interval_table(gains, ["finetuning", "adaptation"]))
    """
    return _count_clear(table, "fine-tunings and adaptations")


def describe_scores(runs: pd.DataFrame) -> str:
    """How much fine-tuning adds to the cosines, without adaptation and with it: the room there is for a gain.

    >>> describe_scores(rows.runs)

    Args:
        runs: `runs` of a study.
    """
    adapted = runs["adaptation"] != NO_ADAPTATION
    zero, tuned = runs.loc[~adapted, "zero_shot"].mean(), runs.loc[~adapted, "pearson"].mean()
    zero_adapted, tuned_adapted = runs.loc[adapted, "zero_shot"].mean(), runs.loc[adapted, "pearson"].mean()
    best = runs.loc[~adapted].groupby("finetuning_line")["pearson"].mean()
    return (
        f"Without adaptation the cosines alone reach r = {zero:.3f} and the fine-tuned models {tuned:.3f} on average, "
        f"{best.max():.3f} with the best fine-tuning; with adaptation {zero_adapted:.3f} and {tuned_adapted:.3f}."
    )


def _count_clear(table: pd.DataFrame, what: str) -> str:
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    return (
        f"Of {len(table)} {what}, {above} gain and {below} lose beyond chance; without any effect "
        f"{ALPHA * len(table):.1f} such findings are expected."
    )
