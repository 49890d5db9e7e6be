"""Whether a smaller study could have come to the verdicts of a larger one: by studies drawn from its kept rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labutils.claims.registry import judge
from labutils.claims.verdicts import Verdict
from labutils.core.seeding import generator
from labutils.stats.evidence import Evidence

ENOUGH = 0.8  # the usual power: of the studies of a size, how many must come to the outcome
STUDIES, RESAMPLES = 100, 500
UNITS = {"item": "evaluation", "draw": "calibration"}  # what is drawn anew, and within what
SETTINGS = (
    "model", "calibration", "evaluation", "task", "family", "domain", "method", "arm", "sparsity", "pattern",
    "contrast", "cell", "side",
)  # fmt: skip


def power_of(large: Verdict, small: Verdict, *, n_studies: int = STUDIES, seed: int = 0) -> float:
    """The share of studies of the small one's size that come to the large one's outcome.

        power_of(published, found)  # 0.93: a study of this size would have seen it

    Studies are drawn from the rows of the large one: as many items of each evaluation and as many calibration draws as
    the small one has, without replacement, at the sparsities and in the settings of the small one. What the large one
    does not have more of is taken whole, so the power of a study that is as large is 1.
    Units are drawn from one sample, so that near its size the power is told too high: of two equal studies with p near
    0.05 another sample would repeat the outcome in about half the cases.

    Args:
        large, small: verdicts on the same claim that keep their rows, as `judge` gives them or `judge_again`.

    Raises:
        ValueError: other claims, rows that are not kept, or nothing that both studied.
    """
    if large.claim != small.claim or large.judged is None or small.judged is None:
        raise ValueError(f"power needs two verdicts on one claim with their rows, not {large.claim} and {small.claim}")
    frame = _shared(large.judged.evidence.frame, small.judged.evidence.frame)
    sizes = {unit: _fewest(small.judged.evidence.frame, unit) for unit in UNITS}
    draw = generator(seed, "power", large.claim)
    outcomes = [_outcome(large, draw_study(frame, sizes, draw)) for _ in range(n_studies)]
    return outcomes.count(large.first_outcome) / n_studies


def draw_study(frame: pd.DataFrame, sizes: Mapping[str, int | None], draw: np.random.Generator) -> pd.DataFrame:
    """The rows of a smaller study: so many units of every kind, the same ones wherever they are shared.

    >>> draw_study(gain, {"item": 24, "draw": 2}, np.random.default_rng(0))

    Args:
        sizes: "item" per evaluation and "draw" per calibration text; None takes all.
    """
    for unit, within in UNITS.items():
        if sizes.get(unit) is None or unit not in frame:
            continue
        groups = frame[within] if within in frame else pd.Series("all", index=frame.index)
        kept = pd.Series(False, index=frame.index)
        for name in sorted(groups.unique()):
            own = frame.loc[groups == name, unit]
            known = np.sort(own.unique())
            chosen = draw.choice(known, size=min(sizes[unit], len(known)), replace=False)
            kept |= (groups == name) & frame[unit].isin(chosen)
        frame = frame[kept]
    return frame.reset_index(drop=True)


def _outcome(verdict: Verdict, frame: pd.DataFrame) -> str:
    evidence, given = verdict.judged.evidence, verdict.judged.options
    options = dict(evidence.options)
    if "n_resamples" in evidence.parameters():
        options["n_resamples"] = RESAMPLES
    interval = Evidence(evidence.function, evidence.part, frame, options, evidence.more).recompute()
    return judge(verdict.claim, interval=interval, scope=verdict.scope, **given).outcome


def _shared(large: pd.DataFrame, small: pd.DataFrame) -> pd.DataFrame:
    """The rows of the large study whose settings and cells the small one has too."""
    for column in [name for name in SETTINGS if name in large and name in small]:
        large = large[large[column].isin(small[column].unique())]
    if large.empty:
        raise ValueError("the two studies have no setting and no sparsity in common")
    return large


def _fewest(frame: pd.DataFrame, unit: str) -> int | None:
    """Units per group of the group that has fewest; None where there are no such units."""
    if unit not in frame:
        return None
    within = UNITS[unit]
    counts: Any = frame.groupby(within)[unit].nunique() if within in frame else pd.Series([frame[unit].nunique()])
    return int(counts.min())
