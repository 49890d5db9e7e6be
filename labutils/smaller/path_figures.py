"""Figures of notebook 13b: experts before weights, the share of items with a path, what tasks lose with blocks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labutils.core.figures import finish_figure
from labutils.smaller.routes import found_paths
from labutils.stats.tables import interval_table

MARKS = "osD^vP"


def experts_first_figure(gains: pd.DataFrame, *, margin: float, title: str) -> Figure:
    """What dropping experts first gains over pruning weights alone: a panel per number of experts, a line per choice.

    >>> experts_first_figure(experts_first_gains(rows), margin=0.01, title="…")

    Args:
        gains: rows of `experts_first_gains` of one model; of none the figure says that there is nothing to show.
        margin: in nats, drawn as a band around zero.
    """
    panels = list(dict.fromkeys(gains["contrast"])) or ["nothing to show: no mixture of experts"]
    figure, axes = plt.subplots(1, len(panels), figsize=(1.4 + 3.6 * len(panels), 3.6), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], panels, strict=True):
        part = gains[gains["contrast"] == name]
        _bars(axis, part, "sparsity", "choice")
        axis.axhline(0, color="0.3", linewidth=1)
        axis.axhspan(-margin, margin, color="0.88", zorder=0)
        axis.set(title=name, xlabel="share of the blocks' weights gone or zero")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.set_xticks(sorted(part["sparsity"].unique()))
    axes[0, 0].set_ylabel("nats per token gained\nover weights alone")
    note = "bars: 95% intervals over items and calibration draws; grey: within the margin"
    return finish_figure(figure, title, note, legend_of=axes[0, 0])


def _bars(axis: Axes, rows: pd.DataFrame, x: str, hue: str) -> None:
    if rows.empty:
        return
    table, names = interval_table(rows, [hue, x]), list(dict.fromkeys(rows[hue]))
    places = sorted(table[x].unique())
    step = 0.05 * (min(np.diff(places)) if len(places) > 1 else places[0])
    axis.set_xlim(places[0] - 8 * step, places[-1] + 8 * step)
    for number, name in enumerate(names):
        own = table[table[hue] == name].sort_values(x)
        spans = [(own["estimate"] - own["low"]).clip(lower=0), (own["high"] - own["estimate"]).clip(lower=0)]
        axis.errorbar(
            own[x] + step * (number - (len(names) - 1) / 2), own["estimate"], yerr=spans, capsize=2, label=name,
            marker=MARKS[number % len(MARKS)], color=sns.color_palette("colorblind")[number],
        )  # fmt: skip


def shares_by_budget(answers: pd.DataFrame, budgets: list[int]) -> pd.DataFrame:
    """The shares of `found_paths` with the first few candidates of each draw alone.

    >>> shares_by_budget(answers, [5, 40])

    Returns:
        one row per budget, model and kind of item: budget, model, solved, found, luck, guesses. A budget whose
        candidates hold no shorter path has no rows of solved items.
    """
    order = answers.drop_duplicates(["model", "evaluation", "draw", "path"])
    order = order.assign(number=order.groupby(["model", "evaluation", "draw"]).cumcount())
    numbered = answers.merge(order[["model", "evaluation", "draw", "path", "number"]])
    frames = []
    for budget in budgets:
        found = found_paths(numbered[numbered["number"] < budget])
        means = found.groupby(["model", "solved"], sort=False)[["found", "luck", "guesses"]].mean().reset_index()
        frames.append(means.assign(budget=budget))
    return pd.concat(frames, ignore_index=True)


def budget_figure(shares: pd.DataFrame, *, title: str) -> Figure:
    """Share of items with a path that answers rightly, and of luck, against the number of candidates.

    >>> budget_figure(shares_by_budget(answers, [5, 40]), title="…")
    """
    panels = {True: "solved: a shorter path", False: "failed: any path"}
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True, squeeze=False)
    styles = {"found": "-", "luck": "--", "guesses": ":"}
    names = list(dict.fromkeys(shares["model"]))
    for axis, (solved, label) in zip(axes[0], panels.items(), strict=True):
        for number, name in enumerate(names):
            own = shares[(shares["model"] == name) & (shares["solved"] == solved)].sort_values("budget")
            for column, style in styles.items():
                colour = sns.color_palette("colorblind")[number]
                axis.plot(own["budget"], own[column], style, marker=MARKS[number], color=colour, markersize=4)
        axis.axhline(0.5, color="0.6", linewidth=0.8)
        axis.set(title=label, xlabel="candidate paths per item", xscale="log", ylim=(-0.03, 1.05))
        axis.set_xticks(sorted(shares["budget"].unique()), [str(one) for one in sorted(shares["budget"].unique())])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("share of items")
    told = {"found": "a path answers rightly", "luck": "a random label is among the answers", "guesses": "guesses"}
    handles = [Line2D([], [], color="0.2", linestyle=styles[key], label=text) for key, text in told.items()]
    colours = sns.color_palette("colorblind")
    handles += [Line2D([], [], color=colours[at], marker=MARKS[at], label=name) for at, name in enumerate(names)]
    axes[0, 1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return finish_figure(figure, title, "grey: one half, which the claim says is passed; means over tasks and draws")


def lost_figure(lost: pd.DataFrame, *, title: str) -> Figure:
    """What groups of tasks lose beyond guessing as blocks go: a panel per way to choose them, a line per group.

    >>> lost_figure(lost_beyond_chance(drops).assign(group="all tasks"), title="…")

    Args:
        lost: rows of `lost_beyond_chance` with a column `group`.
    """
    ways = list(dict.fromkeys(lost["method"])) or ["nothing to show: no task above chance"]
    figure, axes = plt.subplots(1, len(ways), figsize=(1.4 + 3.3 * len(ways), 3.8), sharey=True, squeeze=False)
    for axis, way in zip(axes[0], ways, strict=True):
        part = lost[lost["method"] == way].rename(columns={"task": "item", "model": "draw"})  # models are resampled
        _bars(axis, part, "sparsity", "group")
        axis.axhline(0, color="0.3", linewidth=1)
        axis.axhline(1, color="0.3", linewidth=0.8, linestyle=":")
        axis.set(title=way, xlabel="share of blocks dropped")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.set_xticks(sorted(part["sparsity"].unique()))
    axes[0, 0].set_ylabel("share of what is scored\nbeyond guessing that is lost")
    return finish_figure(
        figure, title, "bars: 95% intervals over data sets and models; dotted: down to guessing", legend_of=axes[0, 0]
    )
