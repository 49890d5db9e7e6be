"""Whether a study of another size could have come to the verdicts of one: by studies drawn from its kept rows."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from labutils.claims.registry import judge
from labutils.claims.smaller_studies import draw_study, sizes_of, units_of
from labutils.claims.verdicts import Verdict
from labutils.core.seeding import generator
from labutils.stats.evidence import Evidence

ENOUGH = 0.8  # the usual power: of the studies of a size, how many must come to the outcome
STUDIES, RESAMPLES = 100, 500
SETTINGS = (
    "model", "calibration", "evaluation", "task", "family", "domain", "method", "arm", "sparsity", "pattern",
    "contrast", "cell", "side",
)  # fmt: skip


def power_of(large: Verdict, small: Verdict, *, n_studies: int = STUDIES, seed: int = 0) -> float:
    """The share of studies of the small one's size that come to the large one's outcome.

        power_of(published, found)  # 0.93: a study of this size would have seen it

    Studies are drawn from the rows of the large one, at the sparsities and in the settings of the small one, and judged
    as the small one was: as many units of each kind as it has (`units_of`: items of each text or data set, calibration
    draws, clusters), with replacement. So two studies of one size are told apart by chance as fresh ones are: of those
    with p near 0.05, another comes to the outcome in about half the cases. The rows stand for the population. What is
    right in them by chance is right in the studies drawn, and few units vary less among themselves than fresh ones do:
    of three draws, the power is told too high.

    Args:
        large, small: verdicts on the same claim that keep their rows, as `judge` gives them or `judge_again`.

    Raises:
        ValueError: other claims, rows that are not kept, rows judged by other functions, or nothing that both studied.
    """
    if large.claim != small.claim or large.judged is None or small.judged is None:
        raise ValueError(f"power needs two verdicts on one claim with their rows, not {large.claim} and {small.claim}")
    ours, theirs = large.judged.evidence, small.judged.evidence
    if (ours.function, ours.part, set(ours.more)) != (theirs.function, theirs.part, set(theirs.more)):
        raise ValueError(f"the two studies were judged by other functions, {ours.function} and {theirs.function}")
    within = units_of(theirs)
    tables = {"": (ours.frame, theirs.frame)} | {name: (ours.more[name], theirs.more[name]) for name in ours.more}
    shared = {name: _shared(*pair, without=within) for name, pair in tables.items()}
    _check_grid(theirs, shared[""])
    sizes = {name: sizes_of(small_table, within) for name, (_, small_table) in tables.items()}
    draw = generator(seed, "power", large.claim)
    outcomes = []
    for _ in range(n_studies):
        drawn: dict[str, pd.DataFrame] = {}
        study = {name: draw_study(table, sizes[name], draw, within=within, drawn=drawn)
                 for name, table in shared.items()}  # fmt: skip
        outcomes.append(_outcome(small, study.pop(""), study))
    return outcomes.count(large.first_outcome) / n_studies


def _outcome(verdict: Verdict, frame: pd.DataFrame, more: dict[str, pd.DataFrame]) -> str:
    """The outcome of other rows that are judged as those of a verdict were."""
    evidence, given = verdict.judged.evidence, verdict.judged.options
    options = dict(evidence.options)
    if "n_resamples" in evidence.parameters():
        options["n_resamples"] = RESAMPLES
    interval = Evidence(evidence.function, evidence.part, frame, options, more).recompute()
    return judge(verdict.claim, interval=interval, scope=verdict.scope, **given).outcome


def _shared(large: pd.DataFrame, small: pd.DataFrame, *, without: Iterable[str]) -> pd.DataFrame:
    """The rows of the large study whose settings and cells the small one has too; units are no settings."""
    for column in [name for name in SETTINGS if name in large and name in small and name not in set(without)]:
        large = large[large[column].isin(small[column].unique())]
    if large.empty:
        raise ValueError("the two studies have no setting and no sparsity in common")
    return large


def _check_grid(evidence: Evidence, shared: pd.DataFrame) -> None:
    """A slope or a crossing is over the grid of one study; what both share must be all of it."""
    statistic = evidence.argument("statistic")
    grid = statistic.get("x") if isinstance(statistic, dict) else None
    if grid is not None and "sparsity" in shared and not np.array_equal(sorted(shared["sparsity"].unique()), grid):
        raise ValueError(f"the statistic is over {list(grid)}, of which the two studies share a part only")
