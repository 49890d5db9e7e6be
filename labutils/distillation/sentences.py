"""What the figures of the distillation study show, in one sentence each, computed from their rows."""

from collections.abc import Sequence

import pandas as pd

from labutils.data.sources import short_source

CEILING = 0.98  # a teacher above it says little more than the labels do


def describe_teachers(teachers: pd.DataFrame) -> str:
    """How many teachers had something to teach, and why the others had not.

    >>> describe_teachers(rows.teachers)

    Args:
        teachers: of a `DistillSweep`; empty for rows that were stored before teachers were asked.
    """
    if teachers.empty:
        return "These rows do not say how well the teachers did on validation items: every task was taken."
    left_out = teachers[~teachers["admitted"]]
    told = [f"{short_source(row.task)} {row.validation:.2f}" for row in left_out.itertuples()]
    why = f" Left out, with the teacher's validation score: {', '.join(told)}." if told else ""
    return f"Students are trained on {len(teachers) - len(left_out)} of {len(teachers)} tasks.{why}"


def describe_score_table(table: pd.DataFrame, seeds: Sequence[int]) -> str:
    """The teacher, labels alone and plain distillation over all tasks, and the tasks whose teacher is at its ceiling.

    >>> describe_score_table(score_table(rows, ["teacher", "none", "kd"]), range(8))

    Args:
        table: from `score_table`, with the rows named teacher, none and kd.
        seeds: that every arm shares.
    """
    mean, teacher = table["mean"], table.loc["teacher"].drop("mean")
    at_ceiling = [str(task) for task in teacher.index[teacher >= CEILING]]
    told = f"at a ceiling ({CEILING:g} or more) on {', '.join(at_ceiling)}" if at_ceiling else "at a ceiling nowhere"
    return (
        f"Over all tasks and the {len(seeds)} seeds that every method has, the teacher reaches {mean['teacher']:.3f}, "
        f"students from labels alone {mean['none']:.3f} and plain distillation {mean['kd']:.3f}; the teacher is {told}."
    )


def describe_baseline(taught: str, reason: str) -> str:
    """Whether plain distillation teaches anything, and what follows where it does not.

    >>> describe_baseline("+0.02 [0.01, 0.03]", "")

    Args:
        taught: its gain over labels alone, written out.
        reason: of `why_no_baseline`; empty where it does teach.
    """
    if reason:
        return f"The gate is shut: {reason}. Nothing is judged against plain distillation."
    return f"The gate is open: plain distillation gains {taught} over labels alone."


def describe_task_gains(gains: pd.DataFrame, reference: str, *, what: str = "tasks") -> str:
    """For every comparison, on how many tasks it is clearly better, and clearly worse, than the reference.

    >>> describe_task_gains(interval_rows(gains, ["evaluation", "comparison"]), "kd")

    Args:
        what: what the column `evaluation` holds.
    """
    told = []
    for name, rows in gains.groupby("comparison", sort=False):
        better, worse = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
        told.append(f"{name} better on {better}, worse on {worse}")
    return f"Against {reference}, of {gains['evaluation'].nunique()} {what}: {'; '.join(told)}."


def describe_layer_gains(gains: pd.DataFrame, label: str = "layer") -> str:
    """For every comparison, the layer where it gains most, and whether that gain is clear.

    >>> describe_layer_gains(interval_rows(probes, ["comparison", "block"]))

    Args:
        gains: with the columns `comparison, block, estimate, low, high`; blocks count from 1.
    """
    told = []
    for name, rows in gains.groupby("comparison", sort=False):
        best = rows.loc[rows["estimate"].idxmax()]
        clear = "clear" if best["low"] > 0 else "not clear"
        gain = f"{best['estimate']:+.3f}".replace("-", "−")
        told.append(f"{name} {gain} in {label} {best['block']:.0f} ({clear})")
    return f"The largest gain of each: {'; '.join(told)}."


def describe_layers(values: pd.DataFrame) -> str:
    """What training brings the last layer of plain distillation, beside the student before it and the teacher.

    >>> describe_layers(layer_values(rows.probes, rows.clusters))

    Args:
        values: of `layer_values`, with the arms untrained, kd and teacher.
    """
    last = values[values["block"] == values["blocks"] - 1]
    means = last.groupby(["measure", "arm"])["value"].mean().unstack("arm")
    told = [
        f"{measure} {row['untrained']:.2f} before training, {row['kd']:.2f} with plain distillation, "
        f"{row['teacher']:.2f} in the teacher"
        for measure, row in means[["untrained", "kd", "teacher"]].dropna().iterrows()
    ]
    return f"In the last layer: {'; '.join(told)}."


def describe_difference(differing: Sequence[str], missing: Sequence[str]) -> str:
    """That stored rows come from an earlier plan, what it had otherwise, and which arms they lack; else nothing.

    >>> describe_difference(["temperature: 1, not 4"], ["kd/cut"])
    """
    if not differing:
        return ""
    lacking = f" They lack {', '.join(missing)}: verdicts that need these say so." if missing else ""
    return f"**These rows come from an earlier plan** ({'; '.join(differing)}).{lacking}"
