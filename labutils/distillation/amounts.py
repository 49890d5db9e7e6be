"""Verdicts by the amount of data: does the baseline distil there, and what does a method gain over it?

A claim that a method is no improvement on distillation can only be tested where distillation teaches something, and
says nothing about how much data there is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from labutils.claims.conditions import judge_under
from labutils.claims.registry import Guard, judge, not_testable
from labutils.claims.verdicts import Verdict
from labutils.distillation.arms import arm_at
from labutils.distillation.comparison import arm_differences, score_interval
from labutils.stats.bootstrap import Interval
from labutils.stats.few_units import interval_over_units

NOTHING, BASELINE = "none", "kd"  # a student that learns from labels alone, and one that also learns from outputs


class Amount(NamedTuple):
    """What is known at one amount of data.

    `taught` is plain distillation over labels alone, `gain` the method over its best rival, `rival` that rival; both
    intervals are None where `missing` names arms that the rows lack. `seeds` is what all arms share.
    """

    taught: Interval | None
    gain: Interval | None
    rival: str
    missing: list[str]


def task_interval(differences: pd.DataFrame, *, level: float = 0.95) -> Interval:
    """The mean gain over the tasks that these are a sample of: Student's t over the tasks' own means.

    >>> task_interval(arm_differences(sweep.items, {"ild": ("kd", "ild")}))

    Seeds and items vary the tasks' means, and so do the tasks themselves; a claim about methods is about all of it. Of
    one task there is no such interval; that of `score_interval` is returned, and its note says so.

    Args:
        differences: rows of `arm_differences`; several comparisons or blocks are averaged.
    """
    means = differences.groupby("evaluation", as_index=False, sort=False)["value"].mean()
    rows = means.rename(columns={"evaluation": "task", "value": "estimate"})
    if len(rows) < 2:
        return replace(score_interval(differences, level=level), note="one task: the interval says nothing of others")
    found = interval_over_units(rows, unit="task", level=level, n_items=differences["seed"].nunique())
    return replace(found, units=("seed", "task"))


def gains_by_amount(
    items: pd.DataFrame, candidate: str, rivals: Sequence[str], shares: Sequence[float | int], *, level: float = 0.95
) -> dict[float | int, Amount]:
    """What a method gains over the better of its rivals at every amount of data, and whether distillation teaches.

    >>> gains_by_amount(rows.items, "loraild", ["kd", "ild"], [0.25, 0.5, 1])[1].gain

    The better rival is the one with the higher mean over the tasks at that amount.

    Args:
        items: `items` of a `DistillSweep`.
        shares: training items as a share of the setting's, as the arms have them.
    """
    found = {}
    for share in shares:
        named = {arm: arm_at(arm, "share", share, 1) for arm in dict.fromkeys([NOTHING, BASELINE, *rivals, candidate])}
        missing = sorted(set(named.values()) - set(items["arm"]))
        if missing:
            found[share] = Amount(None, None, "", missing)
            continue
        taught = score_interval(arm_differences(items, {BASELINE: (named[NOTHING], named[BASELINE])}), level=level)
        over = {
            rival: task_interval(arm_differences(items, {rival: (named[rival], named[candidate])}), level=level)
            for rival in rivals
        }
        rival = min(over, key=lambda name: over[name].estimate)
        found[share] = Amount(taught, over[rival], rival, [])
    return found


def judge_amounts(
    claim_id: str,
    amounts: Mapping[float | int, Amount],
    *,
    n_train: int,
    scope: Mapping[str, Any],
    guard: Guard,
    unit: str,
) -> tuple[Verdict, pd.DataFrame]:
    """The verdict on a claim over all amounts of data at which distillation teaches, and a table of all of them.

    >>> judge_amounts("C14", gains_by_amount(…), n_train=256, scope=scope, guard=guard, unit="score")

    Where the whole interval of distillation's gain over labels alone does not lie above zero, the amount is no test of
    the claim: its baseline does not distil.

    Returns:
        the verdict of `judge_under` over the amounts that are a test; "not testable here" where none is. A row per
        amount: ``training items, distillation teaches, gain, rival, outcome``.
    """
    about = {"scope": scope, "guard": guard, "unit": unit}
    open_to_test, closed, rows = {}, [], []
    for share, amount in amounts.items():
        n = round(share * n_train)
        row = {"training items": n, "distillation teaches": "—", "gain": "—", "rival": amount.rival, "outcome": ""}
        if amount.missing:
            row["outcome"] = f"not in the rows ({', '.join(amount.missing)})"
            closed.append(f"{n} items: {row['outcome']}")
        else:
            row |= {"distillation teaches": f"{amount.taught:+.3f}", "gain": f"{amount.gain:+.3f}"}
            if amount.taught.low > 0:
                open_to_test[f"{n} items"] = amount.gain
                row["outcome"] = judge(claim_id, interval=amount.gain, **about).outcome
            else:
                row["outcome"] = "no test: the baseline does not distil"
                closed.append(f"{n} items: plain distillation gains {amount.taught:+.3f} over labels alone")
        rows.append(row)
    table = pd.DataFrame(rows)
    if not open_to_test:
        reason = f"the baseline does not distil, so nothing can be no improvement on it: {'; '.join(closed)}"
        return not_testable(claim_id, reason, scope=scope), table
    verdict, _ = judge_under(claim_id, open_to_test, what="amount of data", **about)
    left_out = f"no test at {'; '.join(closed)}" if closed else ""
    return replace(verdict, note="; ".join(filter(None, [verdict.note, left_out]))), table


def why_no_baseline(amounts: Mapping[float | int, Amount], share: float | int = 1) -> str:
    """Why nothing can be judged against plain distillation at one amount of data; empty where it can.

    >>> why_no_baseline(amounts)
    """
    amount = amounts[share]
    if amount.missing:
        return f"the rows lack the arms {', '.join(amount.missing)}"
    if amount.taught.low > 0:
        return ""
    return f"the baseline does not distil: plain distillation gains {amount.taught:+.3f} over labels alone"
