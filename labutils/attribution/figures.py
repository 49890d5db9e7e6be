"""Figures of the attribution study, in the style and palette of `labutils.plots`; every function returns the Figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from labutils.attribution.contrasts import add_drops, task_check
from labutils.corpora import short_source
from labutils.plots import PALETTE, interval_table

COLOURS = dict(zip(("concept", "random", "matching", "conductance"), sns.color_palette("colorblind", 4), strict=True))


def precision_curves(precision: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """Precision at k of concepts and of random word sets of matched frequency (rows of `concept_precision`).

    Bands: for concepts the bootstrap interval over concepts, for random sets the range of their draws.
    """
    figure, axis = plt.subplots(figsize=(6.4, 4))
    generator, tails = np.random.default_rng(0), [(1 - level) / 2, (1 + level) / 2]
    for kind, part in precision.groupby("kind"):
        across = "concept" if kind == "concept" else "draw"
        table = part.pivot_table(index=across, columns="k", values="precision")
        values = table.to_numpy()
        if kind == "concept":
            values = values[generator.integers(len(values), size=(2000, len(values)))].mean(1)
        low, high = np.quantile(values, tails, axis=0)
        axis.plot(table.columns, table.mean(), marker="o", color=COLOURS[kind], label=f"{kind} words")
        axis.fill_between(table.columns, low, high, color=COLOURS[kind], alpha=0.2)
    axis.set(xlabel="k (words with the largest z)", ylabel="share that are the concept's", ylim=(0, 1.02))
    axis.set_xticks(sorted(precision["k"].unique()))
    axis.legend(frameon=False)
    n_concepts = precision["concept"].nunique()
    return _finish(figure, title, f"bands: {level:.0%}, over {n_concepts} concepts and over draws of random sets")


def recovery_curve(shares: pd.DataFrame, *, title: str) -> Figure:
    """Share of planted neurons among the k best of their concept (rows of `recovered_share`), beside chance."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    for kind, column in (("concept", "recovered"), ("random", "chance")):
        label = "planted neurons found" if kind == "concept" else "neurons drawn at random"
        axis.plot(shares["k"], shares[column], marker="o", color=COLOURS[kind], label=label)
    axis.set(xlabel="k (neurons with the largest mean z)", ylabel="share found", ylim=(-0.02, 1.02), xscale="log")
    axis.set_xticks(shares["k"], [f"{k}" for k in shares["k"]])
    axis.minorticks_off()
    axis.legend(frameon=False, loc="center right")
    return _finish(figure, title, "")


def ablation_chart(contrasts: pd.DataFrame, *, title: str, unit: str, level: float = 0.95) -> Figure:
    """Added loss with a concept's neurons ablated beyond that of random partners (rows of `concept_contrasts`)."""
    table = interval_table(contrasts, ["concept", "by"], level=level)
    names = list(dict.fromkeys(table.sort_values("mean")["concept"]))
    figure, axis = plt.subplots(figsize=(7, 1.4 + 0.3 * len(names)))
    kinds = list(dict.fromkeys(table["by"]))
    for number, by in enumerate(kinds):
        part = table[table["by"] == by]
        heights = [names.index(name) + 0.2 * (number - (len(kinds) - 1) / 2) for name in part["concept"]]
        spans = [(part["mean"] - part["low"]).clip(lower=0), (part["high"] - part["mean"]).clip(lower=0)]
        axis.errorbar(part["mean"], heights, xerr=spans, fmt="o", color=COLOURS[by], capsize=2, label=f"by {by}")
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel=f"added loss, the concept's neurons − random partners ({unit})", ylim=(-0.5, len(names) - 0.5))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _finish(figure, title, f"bars: {level:.0%} intervals over texts and draws of partners")


def drop_scatter(
    frame: pd.DataFrame, *, x: str, y: str, x_label: str, y_label: str, title: str, hue: str = "method"
) -> Figure:
    """One drop against another, coloured by method, one mark per sparsity where there is such a column."""
    figure, axis = plt.subplots(figsize=(6.6, 4.2))
    known = set(frame[hue]) <= set(PALETTE)
    style = "sparsity" if "sparsity" in frame else None
    palette = PALETTE if known else "colorblind"
    sns.scatterplot(frame, x=x, y=y, hue=hue, style=style, palette=palette, ax=axis)
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set(xlabel=x_label, ylabel=y_label)
    sns.move_legend(axis, "center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return _finish(figure, title, "")


def agreement_bars(agreement: pd.DataFrame, *, title: str) -> Figure:
    """Rank correlation per block, with the range of the shuffled null (rows of `attribution_agreement`)."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    axis.bar(agreement["block"], agreement["rho"], color=COLOURS["matching"], width=0.6, label="Spearman's ρ")
    axis.vlines(
        agreement["block"], agreement["null_low"], agreement["null_high"], color="0.2", linewidth=4, alpha=0.6,
        label="shuffled neurons, 95 %",
    )  # fmt: skip
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set(xlabel="block (0 reads the embeddings)", ylabel="rank correlation")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _finish(figure, title, "")


def component_bars(components: pd.DataFrame, *, title: str, order: Sequence[str] | None = None) -> Figure:
    """Shares of the variance as stacked bars, one per value of `group` (rows of `variance_components`)."""
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
    return _finish(figure, title, "")


def task_overview(rows: pd.DataFrame, *, sparsity: float, title: str, level: float = 0.95) -> Figure:
    """Every data set at a glance: what guessing, the dense model and every method score, one panel per family.

    Args:
        rows: of `task_sweep`. A data set on which the dense model's interval includes chance has its name in brackets.
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
        axis.scatter(part["chance"], range(len(part)), marker="|", s=160, color="0.55", label="guessing")
        axis.scatter(part["dense"], range(len(part)), marker="D", s=24, color=PALETTE["dense"], label="dense", zorder=3)
        for number, method in enumerate(methods):
            lost = table[table["method"] == method].set_index("task").loc[part.index]
            heights = np.arange(len(part)) + 0.7 * ((number + 0.5) / len(methods) - 0.5)
            spans = [(lost["high"] - lost["mean"]).clip(lower=0), (lost["mean"] - lost["low"]).clip(lower=0)]
            axis.errorbar(
                part["dense"] - lost["mean"], heights, xerr=spans, fmt="o", markersize=4, linewidth=1.2,
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
    return _finish(figure, title, note)


def _finish(figure: Figure, title: str, note: str) -> Figure:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    if note:
        figure.text(0.01, -0.02, note, fontsize=9, color="0.35")
    figure.tight_layout()
    plt.close(figure)  # so that a notebook shows it once: as the cell's value
    return figure
