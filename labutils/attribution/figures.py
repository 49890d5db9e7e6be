"""Figures of the attribution study, in the style and palette of `labutils.plots`; every function returns the Figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure
from labutils.stats.tables import interval_table

COLOURS = dict(zip(("concept", "random", "matching", "conductance"), sns.color_palette("colorblind", 4), strict=True))


def precision_curves(precision: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """Precision at k of concepts and of random word sets of matched frequency (rows of `concept_precision`).

    >>> precision_curves(precision, title="Do a concept's neurons find its words?")

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
    return finish_figure(figure, title, f"bands: {level:.0%}, over {n_concepts} concepts and over draws of random sets")


def recovery_curve(shares: pd.DataFrame, *, title: str) -> Figure:
    """Share of planted neurons among the k best of their concept (rows of `recovered_share`), beside chance.

    >>> recovery_curve(shares, title="Planted neurons: how many are found")
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    for kind, column in (("concept", "recovered"), ("random", "chance")):
        label = "planted neurons found" if kind == "concept" else "neurons drawn at random"
        axis.plot(shares["k"], shares[column], marker="o", color=COLOURS[kind], label=label)
    axis.set(xlabel="k (neurons with the largest mean z)", ylabel="share found", ylim=(-0.02, 1.02), xscale="log")
    axis.set_xticks(shares["k"], [f"{k}" for k in shares["k"]])
    axis.minorticks_off()
    axis.legend(frameon=False, loc="center right")
    return finish_figure(figure, title)


def ablation_chart(contrasts: pd.DataFrame, *, title: str, unit: str, level: float = 0.95) -> Figure:
    """Added loss with a concept's neurons ablated beyond that of random partners (rows of `concept_contrasts`).

    >>> ablation_chart(contrasts, title="Neurons ablated", unit="nats per token")
    """
    table = interval_table(contrasts, ["concept", "by"], level=level)
    names = list(dict.fromkeys(table.sort_values("estimate")["concept"]))
    figure, axis = plt.subplots(figsize=(7, 1.4 + 0.3 * len(names)))
    kinds = list(dict.fromkeys(table["by"]))
    for number, by in enumerate(kinds):
        part = table[table["by"] == by]
        heights = [names.index(name) + 0.2 * (number - (len(kinds) - 1) / 2) for name in part["concept"]]
        spans = [(part["estimate"] - part["low"]).clip(lower=0), (part["high"] - part["estimate"]).clip(lower=0)]
        axis.errorbar(part["estimate"], heights, xerr=spans, fmt="o", color=COLOURS[by], capsize=2, label=f"by {by}")
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel=f"added loss, the concept's neurons − random partners ({unit})", ylim=(-0.5, len(names) - 0.5))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return finish_figure(figure, title, f"bars: {level:.0%} intervals over texts and draws of partners")


def agreement_bars(agreement: pd.DataFrame, *, title: str) -> Figure:
    """Rank correlation per block, with the range of the shuffled null (rows of `attribution_agreement`).

    >>> agreement_bars(agreement, title="Matching and conductance")
    """
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
    return finish_figure(figure, title)
