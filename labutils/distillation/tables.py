"""Tables and sentences of the distillation study: scores, sizes, what the design could see, where a method helps."""

from collections.abc import Mapping, Sequence

import pandas as pd

from labutils.data.sources import short_source
from labutils.distillation.comparison import arm_differences, interval_rows, seed_tests, shared_seeds
from labutils.distillation.sweep import DistillSweep


def score_table(sweep: DistillSweep, arms: Sequence[str]) -> pd.DataFrame:
    """Mean test score over the seeds that all arms have: arms and "guessing" as rows, tasks and their mean as columns.

    >>> lab.plots.value_grid(score_table(rows, ["teacher", "kd"]), title="Test score", label="↑ better")

    The same seeds for every arm, so that two rows of the table differ by what their contrast says. The teacher, which
    has no seeds, stands as it is.
    """
    shared = shared_seeds(sweep.items, arms)
    chosen = sweep.items["arm"].isin(arms) & (sweep.items["seed"].isin(shared) | (sweep.items["arm"] == "teacher"))
    items = sweep.items[chosen]
    scores = 1 - items.groupby(["arm", "evaluation"])["loss"].mean().unstack("evaluation")
    tasks = list(dict.fromkeys(items["evaluation"]))
    scores.loc["guessing"] = sweep.runs.groupby("evaluation")["chance"].first()
    table = scores.loc[[*(arm for arm in arms if arm in scores.index), "guessing"], tasks]
    table = table.assign(mean=table.mean(axis=1)).rename(columns=short_source)
    return table.rename_axis(index=None, columns=None)


def rate_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The learning rate that validation chose: tasks as rows, methods (with "/cut" for cut students) as columns.

    >>> rate_table(rows.runs)
    """
    cut = ["/cut" if "cut" in arm.split("/") else "" for arm in runs["arm"]]  # these have a rate of their own
    tuned = runs.assign(method=runs["method"] + cut)
    table = tuned.groupby(["evaluation", "method"], sort=False)["rate"].first().unstack("method")
    return table.rename(index=short_source).rename_axis(index=None, columns=None)


def describe_rates(runs: pd.DataFrame, learning_rates: Sequence[float]) -> str:
    """How many of the chosen learning rates lie at an end of the grid, beyond which there may be a better one.

    >>> describe_rates(rows.runs, [0.003, 0.01])
    """
    chosen = rate_table(runs).stack()
    low, high = ((chosen == end).sum() for end in (min(learning_rates), max(learning_rates)))
    if len(learning_rates) == 1:
        return f"All students were trained with the learning rate {learning_rates[0]:g}."
    return (
        f"Of {len(chosen)} choices {low} fall on the lowest rate ({min(learning_rates):g}) and {high} on the highest "
        f"({max(learning_rates):g})."
    )


def mapping_sizes(runs: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Parameters per method, mean over tasks: of the student, merged into it, and of the mapping thrown away.

    >>> lab.show(mapping_sizes(rows.runs, ["kd", "loraild"]))
    """
    table = runs[runs["arm"].isin(methods)].groupby("arm")[["student", "merged", "thrown away"]].mean()
    table = table.loc[[method for method in methods if method in table.index]]
    return table.assign(share=table["thrown away"] / table["student"]).rename_axis("method").reset_index()


def control_table(sweep: DistillSweep, pairs: Mapping[str, tuple[str, str]], *, margin: float) -> pd.DataFrame:
    """What each pair gains over all tasks, with its interval, and the difference that the seeds could detect.

    >>> control_table(rows, {"loraild": ("kd", "loraild")}, margin=0.01)
    """
    gains = interval_rows(arm_differences(sweep.items, pairs), ["comparison"])
    tests = seed_tests(sweep.runs, pairs, margin=margin)
    return gains.merge(tests[tests["task"] == "all"].drop(columns="task"), on="comparison").drop(columns="difference")


def describe_controls(controls: pd.DataFrame, compared: pd.DataFrame, *, margin: float) -> str:
    """Whether the controls were seen, and how small a gain of the compared methods would have been.

    >>> describe_controls(table[table["comparison"] == "kd/share=2"], table, margin=0.01)

    Args:
        controls, compared: rows of `control_table`.
    """
    seen = controls["low"] > 0
    named = ", ".join(f"{row.comparison} {row.estimate:+.3f}" for row in controls[seen].itertuples())
    first = f"{seen.sum()} of {len(controls)} controls are seen to gain" + (f" ({named})." if named else ".")
    first = first if len(controls) else "No control was run."
    finest = float(compared["detectable"].max())
    verdict = "below" if finest < margin else "not below"
    return (
        f"{first} A true difference of {finest:.3f} between the compared methods would be found in four of five such "
        f"studies, which is {verdict} the margin of {margin:g}."
    )


def describe_gains(gains: pd.DataFrame, method: str, part: str) -> str:
    """At which values of a part a method's interval over the reference lies above zero.

    >>> describe_gains(by_rank, "loraild", "rank")  # of `gains_along`

    Args:
        gains: from `gains_along`.
    """
    mine = gains[gains["comparison"] == method]
    better = mine[mine["low"] > 0]
    where = f"{method} is better than its reference beyond chance at {len(better)} of {len(mine)} values of the {part}"
    found = [
        f"{part} {getattr(row, part):g}: {row.estimate:+.3f} [{row.low:.3f}, {row.high:.3f}]"
        for row in better.itertuples()
    ]
    return f"{where}{': ' if found else ''}{'; '.join(found)}."
