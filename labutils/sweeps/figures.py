"""Figures of the task sweeps: drops, components of their variance, and the tasks at a glance."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure
from labutils.data.sources import short_source
from labutils.plots.figures import PALETTE
from labutils.stats.tables import interval_table
from labutils.sweeps.task_contrasts import add_drops, task_check


def drop_scatter(
    frame: pd.DataFrame, *, x: str, y: str, x_label: str, y_label: str, title: str, hue: str = "method"
) -> Figure:
    """One drop against another, coloured by method, one mark per sparsity where there is such a column.

    >>> drop_scatter(table, x="added_loss", y="drop", x_label="added loss (nats)", y_label="accuracy lost", title="t")
    """
    figure, axis = plt.subplots(figsize=(6.6, 4.2))
    known = set(frame[hue]) <= set(PALETTE)
    style = "sparsity" if "sparsity" in frame else None
    palette = PALETTE if known else "colorblind"
    sns.scatterplot(frame, x=x, y=y, hue=hue, style=style, palette=palette, ax=axis)
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set(xlabel=x_label, ylabel=y_label)
    sns.move_legend(axis, "center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return finish_figure(figure, title)


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


def component_bars(components: pd.DataFrame, *, title: str, order: Sequence[str] | None = None) -> Figure:
    """Shares of the variance as stacked bars, one per value of `group` (rows of `variance_components`).

    >>> component_bars(variance_components(score_table(drops)).assign(group="wanda"), title="What scores vary with")
    """
    table = components.pivot(index="group", columns="component", values="share")
    table = table[list(dict.fromkeys(components["component"]))]
    table = table if order is None else table.loc[list(order)]
    figure, axis = plt.subplots(figsize=(7, 1.6 + 0.5 * len(table)))
    left = np.zeros(len(table))
    for colour, component in zip(sns.color_palette("colorblind"), table.columns, strict=False):
        axis.barh(table.index, table[component], left=left, color=colour, label=component)
        left += table[component].to_numpy()
    axis.set(xlabel="share of the variance of an item's drop", xlim=(0, 1))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return finish_figure(figure, title)


def task_overview(rows: pd.DataFrame, *, sparsity: float, title: str, level: float = 0.95) -> Figure:
    """Every data set at a glance: what guessing, the dense model and every method score, one panel per family.

    >>> task_overview(rows, sparsity=0.5, title="All data sets at 50 % zeros")

    Args:
        rows: of `task_sweep`. A data set on which the dense model is not above guessing and the most frequent label has
            its name in brackets.
    """
    check = task_check(rows, level=level).set_index("task")
    pruned = add_drops(rows[rows["sparsity"].isin([0.0, sparsity])])
    table = interval_table(pruned, ["task", "method"], level=level)
    methods, families = list(dict.fromkeys(pruned["method"])), list(dict.fromkeys(check["family"]))
    tallest = int(check["family"].value_counts().max())
    columns, lines = min(2, len(families)), -(-len(families) // 2)
    size = (2.5 + 4.4 * columns, 0.9 + lines * (0.7 + 0.42 * tallest))
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, squeeze=False)
    for axis, family in zip(axes.flat, families, strict=False):
        part = check[check["family"] == family]
        axis.scatter(
            part[["chance", "majority"]].max(axis=1),
            range(len(part)),
            marker="|",
            s=160,
            color="0.55",
            label="guessing, or the most frequent label",
        )
        axis.scatter(part["dense"], range(len(part)), marker="D", s=24, color=PALETTE["dense"], label="dense", zorder=3)
        for number, method in enumerate(methods):
            lost = table[table["method"] == method].set_index("task").loc[part.index]
            heights = np.arange(len(part)) + 0.7 * ((number + 0.5) / len(methods) - 0.5)
            spans = [(lost["high"] - lost["estimate"]).clip(lower=0), (lost["estimate"] - lost["low"]).clip(lower=0)]
            axis.errorbar(
                part["dense"] - lost["estimate"], heights, xerr=spans, fmt="o", markersize=4, linewidth=1.2,
                color=PALETTE.get(method), label=method,
            )  # fmt: skip
        names = [short_source(task) for task in part.index]
        short = [name.removeprefix(f"{family}/").replace("_", " ") for name in names]
        axis.set_yticks(range(len(part)), [n if ok else f"({n})" for n, ok in zip(short, part["usable"], strict=True)])
        axis.set_title(family, loc="left")
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
    for spare in axes.flat[len(families) :]:
        spare.set_visible(False)
    for axis in axes[-1]:
        axis.set(xlabel="accuracy (similarity: Spearman's ρ)", xlim=(-0.05, 1.05))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    note = (
        f"bars: {level:.0%} intervals of the difference to the dense model, over items and calibration draws; in "
        "brackets: the dense model may be guessing"
    )
    return finish_figure(figure, title, note)
