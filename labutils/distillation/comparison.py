"""Which arm of a sweep scores higher, by how much, and whether the design could have told.

A comparison is named and signed so that a positive difference favours its second arm; differences are in units of the
score (accuracy, or Spearman's ρ).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from labutils.claims.registry import Guard
from labutils.distillation.arms import arm_at
from labutils.stats.bootstrap import Interval, Statistic, crossed_bootstrap, paired_differences
from labutils.stats.tables import interval_table

PAIRING = ("model", "calibration", "evaluation", "seed", "item")
POWER = 0.8


def arm_differences(items: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Loss of the first arm minus loss of the second, on the same item after training with the same seed.

    >>> arm_differences(sweep.items, {"ild": ("kd", "ild")})

    Args:
        items: `items` or `probes` of a `DistillSweep`; probes are paired block by block.
        pairs: name → (reference arm, candidate arm), as {"ild": ("kd", "ild")}. Where one arm has further seeds, those
            that both have count.

    Returns:
        the columns of `paired_differences` and `comparison`; a positive `value` favours the candidate.

    Raises:
        ValueError: an arm is missing, or was not run on the same items and seeds as its partner.
    """
    on = [*PAIRING, *(["block"] if "block" in items else [])]
    frames = [
        paired_differences(_of_shared_seeds(items, pair), {"arm": pair[0]}, {"arm": pair[1]}, on=on).assign(
            comparison=name
        )
        for name, pair in pairs.items()
    ]
    return pd.concat(frames, ignore_index=True)


def score_interval(differences: pd.DataFrame, statistic: str | Statistic = "mean", *, level: float = 0.95) -> Interval:
    """The interval of a statistic over a frame of differences; items and seeds are resampled, tasks are strata.

    >>> score_interval(arm_differences(sweep.items, {"ild": ("kd", "ild")}))

    `n_draws` counts the seeds. Comparisons (and blocks) are cells, with comparisons as the slower ones; seeds that not
    all comparisons have are left out.
    """
    cells = [name for name in ("comparison", "block") if name in differences]
    if "comparison" in differences:
        seeds = [set(part["seed"]) for _, part in differences.groupby("comparison")]
        differences = differences[differences["seed"].isin(set.intersection(*seeds))]
    found = crossed_bootstrap(differences, statistic, cells=cells, level=level)
    return replace(found, n_draws=int(differences["seed"].nunique()), units=("test item", "seed"))


def interval_rows(differences: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`estimate, low, high` of the mean difference for every group of some columns.

    >>> interval_rows(differences, ["evaluation", "comparison"])
    """
    return interval_table(differences, by, score_interval).drop(columns="error")


def gains_along(
    items: pd.DataFrame,
    methods: Sequence[str],
    *,
    reference: str,
    part: Literal["rank", "share"],
    values: Sequence[float | int],
    default: float | int,
) -> pd.DataFrame:
    """What each method gains over a reference at the same rank or share (arms of `arms_along`), over all tasks.

    At every value on the same seeds, those that all the arms have, so that points differ by the value alone.

    >>> gains_along(sweep.items, ["loraild"], reference="kd", part="rank", values=[4, 8, 16], default=8)

    Returns:
        `comparison` (the method), the value in a column called `part`, and `estimate, low, high`.
    """
    arms = [arm_at(method, part, value, default) for value in values for method in [reference, *methods]]
    items = items[items["seed"].isin(shared_seeds(items, arms))]
    frames = []
    for value in values:
        names = {method: arm_at(method, part, value, default) for method in [reference, *methods]}
        pairs = {method: (names[reference], names[method]) for method in methods}
        frames.append(interval_rows(arm_differences(items, pairs), ["comparison"]).assign(**{part: value}))
    return pd.concat(frames, ignore_index=True)


def gains_by_start(items: pd.DataFrame, methods: Sequence[str], *, reference: str) -> pd.DataFrame:
    """What each method gains over a reference, by what the students start from, over all tasks and on the same seeds.

    >>> gains_by_start(sweep.items, ["none", "ild"], reference="kd")

    Returns:
        `start` ("random weights" or "pretrained blocks"), `comparison` (the method), `estimate, low, high`. Arms that
        the rows lack are left out.
    """
    ends = {"random weights": "", "pretrained blocks": "/cut"}
    there = set(items["arm"])
    arms = [f"{method}{end}" for method in [reference, *methods] for end in ends.values()]
    items = items[items["seed"].isin(shared_seeds(items, [arm for arm in arms if arm in there]))]
    frames = []
    for start, end in ends.items():
        pairs = {
            name: (f"{reference}{end}", f"{name}{end}")
            for name in methods
            if {f"{reference}{end}", f"{name}{end}"} <= there
        }
        if pairs:
            frames.append(interval_rows(arm_differences(items, pairs), ["comparison"]).assign(start=start))
    return pd.concat(frames, ignore_index=True)[["start", "comparison", "estimate", "low", "high"]]


def shared_seeds(items: pd.DataFrame, arms: Sequence[str]) -> list[int]:
    """The seeds that all of the arms that have rows were trained with, but for the teacher.

    >>> shared_seeds(rows.items, ["none", "kd"])
    """
    students = items[items["arm"].isin(arms) & (items["arm"] != "teacher")]
    sets = [set(part["seed"]) for _, part in students.groupby("arm")]
    return sorted(set.intersection(*sets)) if sets else []


def seed_tests(runs: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], *, margin: float) -> pd.DataFrame:
    """Differences between arms with the seeds as units, per task and over all tasks, as the paper tests them.

    >>> seed_tests(sweep.runs, {"ild": ("kd", "ild")}, margin=0.02)

    Args:
        runs: `runs` of a `DistillSweep`.
        margin: the largest difference that counts as none, in units of the score.

    Returns:
        one row per comparison and task (then "all": the tasks' mean of each seed): `difference`, `seeds`,
        `p_better` (one-sided permutation test of the mean: random signs of the paired differences), `p_equivalent` (two
        one-sided t tests against ± `margin`, Schuirmann 1987) and `detectable`, the true difference that a two-sided
        t test at 5 % would find in four of five such studies, from the spread seen in this one.
    """
    rows = []
    for name, (reference, candidate) in pairs.items():
        table = _paired_scores(runs, reference, candidate)
        for task, values in [*table.items(), ("all", table.mean(axis=1))]:
            about = {"comparison": name, "task": task}
            rows.append(about | _one_test(values.to_numpy(), margin))
    return pd.DataFrame(rows)


def floor_guard(items: pd.DataFrame, runs: pd.DataFrame, arm: str = "none") -> Guard:
    """Mean score of an arm over all tasks with its interval, beside that of guessing: did it learn at all?

    >>> floor_guard(sweep.items, sweep.runs)
    """
    losses = items[items["arm"] == arm].assign(value=lambda frame: 1 - frame["loss"])
    if losses.empty:
        raise ValueError(f"no rows of the arm {arm!r}; there are {', '.join(items['arm'].unique())}")
    found = score_interval(losses)
    return Guard(found.low, found.high, float(runs.groupby("evaluation")["chance"].first().mean()))


def _of_shared_seeds(rows: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """The rows of two arms, without the further seeds of one of them.

    Where each has seeds that the other lacks, all rows stay, and pairing them then names what has no partner.
    """
    first, second = (set(rows.loc[rows["arm"] == arm, "seed"]) for arm in pair)
    nested = first <= second or second <= first
    return rows[rows["arm"].isin(pair) & (rows["seed"].isin(first & second) | (not nested))]


def _paired_scores(runs: pd.DataFrame, reference: str, candidate: str) -> pd.DataFrame:
    """Candidate minus reference: seeds as rows, tasks as columns."""
    table = runs.pivot(index=["evaluation", "seed"], columns="arm", values="test")
    for arm in (reference, candidate):
        if arm not in table:
            raise ValueError(f"no runs of the arm {arm!r}; there are {', '.join(table.columns)}")
    return (table[candidate] - table[reference]).unstack("evaluation").dropna()


def _one_test(values: Float[np.ndarray, " seeds"], margin: float) -> dict[str, float]:
    mean, n = float(values.mean()), len(values)
    if n < 2:
        raise ValueError(f"{n} paired seed has no test: run at least two seeds of both arms")
    error = float(values.std(ddof=1)) / n**0.5
    signs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="greater", n_resamples=9999, rng=0
    )
    if error == 0:
        equivalent = 0.0 if abs(mean) < margin else 1.0
    else:
        equivalent = float(max(stats.t.sf((mean + margin) / error, n - 1), stats.t.cdf((mean - margin) / error, n - 1)))
    detectable = (stats.t.ppf(0.975, n - 1) + stats.t.ppf(POWER, n - 1)) * error
    return {
        "difference": mean, "seeds": n, "p_better": float(signs.pvalue), "p_equivalent": equivalent,
        "detectable": float(detectable),
    }  # fmt: skip
