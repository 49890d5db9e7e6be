"""Figures of the attribution study, in the style and palette of `labutils.plots`; every function returns the Figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

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
    axis.legend(frameon=False)
    n_concepts = precision["concept"].nunique()
    return _finish(figure, title, f"bands: {level:.0%}, over {n_concepts} concepts and over draws of random sets")


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
    axis.set_xlabel(f"added loss, the concept's neurons − random partners ({unit})")
    axis.legend(frameon=False)
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
    axis.legend(frameon=False)
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


def _finish(figure: Figure, title: str, note: str) -> Figure:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    if note:
        figure.text(0.01, -0.02, note, fontsize=9, color="0.35")
    figure.tight_layout()
    plt.close(figure)  # so that a notebook shows it once: as the cell's value
    return figure
