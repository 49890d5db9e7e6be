"""Figures of the task sweeps: drops with their intervals, components of their variance, the tasks at a glance."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure
from labutils.data.sources import short_source
from labutils.plots.figures import OTHER_COLOURS, PALETTE, colour_of
from labutils.stats.tables import interval_table
from labutils.sweeps.task_contrasts import add_drops, task_check


def drop_scatter(
    frame: pd.DataFrame, *, x: str, y: str, x_label: str, y_label: str, title: str, hue: str = "method",
    style: str | None = None,
) -> Figure:  # fmt: skip
    """One drop against another, coloured by `hue`, one shape of mark per value of `style`.

    >>> drop_scatter(table, x="added_loss", y="drop", x_label="added loss (nats)", y_label="accuracy lost", title="t")
    """
    figure, axis = plt.subplots(figsize=(6.6, 4.2))
    axis.axhline(0, color="0.3", linewidth=1, zorder=0)
    names = list(dict.fromkeys(frame[hue]))
    colours = {name: colour_of(name, number) for number, name in enumerate(names)}
    palette = "husl" if len(names) > len(OTHER_COLOURS) else colours
    sns.scatterplot(frame, x=x, y=y, hue=hue, style=style, palette=palette, s=45, clip_on=False, ax=axis)
    axis.set(xlabel=x_label, ylabel=y_label)
    sns.move_legend(axis, "center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return finish_figure(figure, title)


def interval_dots(
    table: pd.DataFrame, *, row: str, hue: str, x_label: str, title: str, note: str = "", panel: str | None = None
) -> Figure:
    """Estimates with their intervals: a line per value of `row`, a colour per value of `hue`, all on one scale.

    >>> table = interval_table(drops, ["family", "method"])
    >>> interval_dots(table, row="family", hue="method", x_label="drop", title="t")

    Args:
        table: ``estimate, low, high`` and the columns named by the other arguments, in the order in which they appear.
        panel: a panel side by side for each value of this column.
    """
    panels = [(None, table)] if panel is None else list(table.groupby(panel, sort=False))
    hues = list(dict.fromkeys(table[hue]))
    colours = {name: colour_of(name, number) for number, name in enumerate(hues)}
    height = max(2.2, 1.1 + table[row].nunique() * (0.16 + 0.1 * len(hues)))
    figure, axes = plt.subplots(1, len(panels), figsize=(2.4 + 3.4 * len(panels), height), sharex=True, squeeze=False)
    for axis, (name, part) in zip(axes.flat, panels, strict=True):
        axis.axvline(0, color="0.3", linewidth=1, zorder=0)
        _dots(axis, part, list(dict.fromkeys(part[row])), row, hue, colours)
        axis.set(xlabel=x_label)
        axis.set_title("" if name is None else str(name), loc="left")
        if axis is not axes.flat[0] and set(part[row]) == set(table[row]):
            axis.tick_params(labelleft=False)
    return finish_figure(figure, title, note, legend_of=axes.flat[0])


def _dots(axis: Axes, table: pd.DataFrame, rows: Sequence[str], row: str, hue: str, colours: Mapping) -> None:
    """The marks of one panel; those of one line stand below each other in the order of the colours."""
    for number, (name, colour) in enumerate(colours.items()):
        part = table[table[hue] == name]
        heights = np.array([rows.index(each) for each in part[row]]) + 0.7 * ((number + 0.5) / len(colours) - 0.5)
        spans = [(part["estimate"] - part["low"]).clip(lower=0), (part["high"] - part["estimate"]).clip(lower=0)]
        axis.errorbar(
            part["estimate"], heights, xerr=spans, fmt="o", markersize=4, linewidth=1.2, color=colour, label=name
        )
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)


def gain_by_size(gain: pd.DataFrame, *, better: str, worse: str, unit: str, margin: float, title: str) -> Figure:
    """A difference of two arms against the amount of calibration text, with intervals and the margin as a band.

    >>> gain_by_size(gain_by_calibration_size(rows, "ria/uniform", "sparsegpt/uniform"), better="sparsegpt",
    ...     worse="ria", unit="nats per token", margin=0.02, title="How much calibration text reconstruction needs")
    """
    figure, axis = plt.subplots(figsize=(6, 3.6))
    bars = [gain["estimate"] - gain["low"], gain["high"] - gain["estimate"]]
    axis.errorbar(
        gain["tokens_per_input"], gain["estimate"], yerr=bars, marker="o", capsize=3, color=PALETTE.get(better, "0.2")
    )
    axis.axhspan(-margin, margin, color="0.85", zorder=0, label=f"± margin ({margin:.3g} {unit})")
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set_xscale("log")
    axis.set_xticks(gain["tokens_per_input"], [f"{each:.2g}" for each in gain["tokens_per_input"]])
    axis.minorticks_off()
    axis.set(
        xlabel="calibration tokens per input of the widest layer",
        ylabel=f"{unit}: above 0 {better},\nbelow 0 {worse} is better",
    )
    note = "bars: 95% intervals over items and calibration draws"
    return finish_figure(figure, title, note, legend_of=axis)


def component_dots(components: pd.DataFrame, *, unit: str, title: str, order: Sequence[str] | None = None) -> Figure:
    """Standard deviations of the components of variance on a logarithmic scale, a colour per value of `group`.

    >>> component_dots(variance_components(score_table(drops)).assign(group="wanda"), unit="points", title="t")

    Shares would hide the small components beside that of the items. An estimate of 0 stands at the left edge, hollow.

    Args:
        components: rows of `variance_components`, with `group`.
    """
    names = list(dict.fromkeys(components["component"]))
    groups = list(dict.fromkeys(components["group"])) if order is None else list(order)
    deviations = np.sqrt(components["variance"])
    smallest = deviations[deviations > 0].min()
    edge = 10.0 ** np.floor(np.log10(smallest)) if np.isfinite(smallest) else 1.0
    figure, axis = plt.subplots(figsize=(7, 1.2 + 0.45 * len(names)))
    for number, group in enumerate(groups):
        part = components.assign(deviation=deviations)[components["group"] == group]
        heights = np.array([names.index(name) for name in part["component"]]) + 0.12 * (number - (len(groups) - 1) / 2)
        colour, found = colour_of(group, number), part["deviation"] > 0
        axis.scatter(part["deviation"].clip(lower=edge)[found], heights[found], color=colour, label=group, zorder=3)
        axis.scatter(np.full((~found).sum(), edge), heights[~found], facecolors="none", edgecolors=[colour], zorder=3)
    axis.set_yticks(range(len(names)), names)
    axis.set(xscale="log", xlabel=f"standard deviation ({unit})", ylim=(len(names) - 0.5, -0.5))
    return finish_figure(figure, title, "hollow: the estimate is 0", legend_of=axis)


def task_overview(
    rows: pd.DataFrame, *, sparsity: float, title: str, check: pd.DataFrame | None = None, level: float = 0.95
) -> Figure:
    """Every data set at a glance: the points that every method takes, one panel per family.

    >>> task_overview(rows, sparsity=0.5, title="All data sets at 50 % zeros")

    The grey mark is all that pruning down to guessing would take.

    Args:
        rows: of `task_sweep`.
        check: of `task_check`, where it was made on other items than these; a data set that it does not call usable has
            its name in brackets.
    """
    found = (task_check(rows, level=level) if check is None else check).set_index("task")
    pruned = add_drops(rows[rows["sparsity"].isin([0.0, sparsity])])
    table = interval_table(pruned.assign(value=100 * pruned["value"]), ["task", "method"], level=level)
    found = found.loc[list(dict.fromkeys(pruned["task"]))]
    colours = {method: PALETTE.get(method, "0.2") for method in dict.fromkeys(pruned["method"])}
    figure, axes = _family_panels(found)
    for axis, (family, part) in zip(axes, found.groupby("family", sort=False), strict=True):
        names = _overview_names(part, family)
        axis.axvline(0, color="0.3", linewidth=1, zorder=0)
        guessing = 100 * (part["dense"] - part[["chance", "majority"]].max(axis=1))
        axis.scatter(guessing, range(len(part)), marker="|", s=200, color="0.55", label="all down to guessing")
        own = table[table["task"].isin(part.index)].assign(name=lambda own, names=names: own["task"].map(names))
        _dots(axis, own, list(names.values()), "name", "method", colours)
        axis.set_title(family, loc="left")
        axis.set_xlabel("points lost (100 × score)")
    note = (
        f"bars: {level:.0%} intervals over items and calibration draws; number: the dense score; in brackets: the "
        "dense model may be guessing"
    )
    return finish_figure(figure, title, note, legend_of=axes[0])


def _family_panels(check: pd.DataFrame) -> tuple[Figure, list[Axes]]:
    sizes = check["family"].value_counts(sort=False)
    columns, lines = min(2, len(sizes)), -(-len(sizes) // 2)
    size = (2.5 + 4.4 * columns, 0.9 + lines * (0.7 + 0.42 * int(sizes.max())))
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, squeeze=False)
    for spare in axes.flat[len(sizes) :]:
        spare.set_visible(False)
    return figure, list(axes.flat[: len(sizes)])


def _overview_names(part: pd.DataFrame, family: str) -> dict[str, str]:
    """Task → its short name with the dense score, in brackets where the dense model may be guessing."""
    names = {}
    for task, row in part.iterrows():
        short = short_source(task).removeprefix(f"{family}/").replace("_", " ")
        names[task] = f"{short} {row['dense']:.2f}" if row["usable"] else f"({short} {row['dense']:.2f})"
    return names
