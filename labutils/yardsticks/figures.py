"""Figures of notebook 09: yardsticks side by side, facts and words by frequency, formats and orders, predictors."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure
from labutils.plots.figures import OTHER_COLOURS, colour_of
from labutils.stats.tables import interval_table

SHARES = (-30.0, 150.0)  # per cent shown; longer bars are cut off
NOTE = "bars: 95% intervals over questions and calibration draws, of these models; cut off at the frame"


def kept_curves(shares: pd.DataFrame, amounts: Mapping[str, float], *, title: str, x_label: str) -> Figure:
    """What is left of each yardstick against the amount of damage, a panel per kind of damage.

    >>> kept_curves(lost, {"wanda@0.5": 0.5}, title="What is left", x_label="share of zeros")

    Args:
        shares: rows of `lost_shares` with ``yardstick`` and ``kind`` (the panel); ``contrast`` is the arm.
        amounts: of every arm its place on the x axis.
    """
    table = interval_table(shares.assign(value=100 * (1 - shares["value"])), ["kind", "yardstick", "contrast"])
    kinds = list(dict.fromkeys(table["kind"]))
    size = (2.2 + 3.6 * len(kinds), 3.6)
    figure, axes = plt.subplots(1, len(kinds), figsize=size, sharey=True, squeeze=False)
    for axis, kind in zip(axes.flat, kinds, strict=True):
        for number, (name, part) in enumerate(table[table["kind"] == kind].groupby("yardstick", sort=False)):
            part = part.assign(amount=part["contrast"].map(amounts)).sort_values("amount")
            _curve(axis, part["amount"] + 0.006 * number, part, str(name), number)
        axis.axhline(0, color="0.3", linewidth=1)
        axis.axhline(100, color="0.6", linewidth=1, linestyle=":")
        axis.set(title=str(kind), xlabel=x_label)
    axes[0, 0].set_ylabel("% of what the dense model\nhas beyond guessing")
    axes[0, 0].set_ylim(*SHARES)
    return finish_figure(figure, title, NOTE, legend_of=axes[0, 0])


def frequency_panels(facts: pd.DataFrame, words: pd.DataFrame, *, title: str) -> Figure:
    """Nats lost by facts against how often they were told, and added loss of tokens, the rarest first.

    >>> frequency_panels(facts_of_arms, word_losses(frames["words"], arms), title="The rare or the frequent?")

    Args:
        facts: rows of `fact_losses` with ``arm``; empty where none were planted, and then without a panel.
        words: of `word_losses`.
    """
    n_panels = 2 if len(facts) else 1
    figure, axes = plt.subplots(1, n_panels, figsize=(2.4 + 4 * n_panels, 3.8), squeeze=False)
    arms = list(dict.fromkeys(words["arm"]))
    bars = "bars: 95% intervals over windows"
    if len(facts):
        _draw_facts(axes[0, 0], facts, arms)
        bars = "facts: those that the dense model says; bars: 95% intervals over facts, and over windows"
    _draw_words(axes[0, -1], words, arms)
    for axis in axes.flat:
        axis.axhline(0, color="0.3", linewidth=1)
    return finish_figure(figure, title, bars, legend_of=axes[0, -1])


def _draw_facts(axis: Axes, facts: pd.DataFrame, arms: list[str]) -> None:
    for number, arm in enumerate(arms):
        rows = facts[facts["arm"] == arm].assign(value=lambda own: own["lost_nats"], draw=0)
        if rows.empty:
            continue
        levels = rows.groupby("occurrences")["item"].transform("size") > 1
        told = interval_table(rows[levels], ["occurrences"]).sort_values("occurrences")
        _curve(axis, told["occurrences"] * 1.04**number, told, arm, number)
    axis.set_xscale("log", base=2)
    levels_told = sorted(facts["occurrences"].unique())
    axis.set_xticks(levels_told, list(map(str, levels_told)))
    axis.set(xlabel="times the fact was told", ylabel="nats lost by the answer's\nfirst token", title="facts")


def _draw_words(axis: Axes, words: pd.DataFrame, arms: list[str]) -> None:
    for number, arm in enumerate(arms):
        pooled = words[words["arm"] == arm].groupby("bin", as_index=False)[["estimate", "low", "high"]].mean()
        _curve(axis, pooled["bin"] + 1 + 0.06 * number, pooled, arm, number)
    axis.set_xticks([each + 1 for each in sorted(words["bin"].unique())])
    axis.set(xlabel="frequency of the token (1: rarest)", ylabel="added loss (nats per token)", title="words of texts")


def bits_curves(points: pd.DataFrame, *, title: str) -> Figure:
    """What is left against bits per original weight, of models quantised, pruned, or both; a panel per yardstick.

    >>> bits_curves(points, title="Fewer bits or fewer weights?")

    Args:
        points: ``yardstick, way, bits, estimate, low, high`` (per cent of what the dense model has).
    """
    names, ways = list(dict.fromkeys(points["yardstick"])), list(dict.fromkeys(points["way"]))
    figure, axes = plt.subplots(1, len(names), figsize=(2.2 + 3.6 * len(names), 3.8), sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=True):
        for number, way in enumerate(ways):
            part = points[(points["yardstick"] == name) & (points["way"] == way)].sort_values("bits")
            _curve(axis, part["bits"] * 1.015**number, part, way, number)
        axis.set_xscale("log", base=2)
        ticks = (2, 3, 4, 6, 8, 16)
        axis.set_xticks(ticks, list(map(str, ticks)))
        axis.minorticks_off()
        axis.axhline(0, color="0.3", linewidth=1)
        axis.set(title=name, xlabel="bits per original weight")
    axes[0, 0].set_ylabel("% of what the dense model\nhas beyond guessing")
    axes[0, 0].set_ylim(*SHARES)
    return finish_figure(figure, title, NOTE, legend_of=axes[0, 0])


def predictor_scatter(table: pd.DataFrame, columns: Mapping[str, str], *, title: str) -> Figure:
    """What is lost against each predictor, a mark per arm and draw, coloured by the kind of damage.

    >>> predictor_scatter(damage_table(questions, texts), PREDICTORS, title="Which number tells the damage?")
    """
    figure, axes = plt.subplots(1, len(columns), figsize=(2 + 3.4 * len(columns), 3.6), sharey=True)
    for axis, (label, column) in zip(axes, columns.items(), strict=True):
        for number, (kind, part) in enumerate(table.groupby("kind", sort=False)):
            colour = colour_of(str(kind), number)
            axis.scatter(part[column], 100 * part["lost"], s=22, color=colour, label=str(kind), alpha=0.8)
        axis.set(xlabel=label)
        if column != "flips":
            axis.set_xscale("symlog", linthresh=0.01)
    axes[0].set_ylabel("% of its answers lost")
    return finish_figure(figure, title, "each mark: one model, arm and calibration draw", legend_of=axes[-1])


def length_dots(lengths: pd.DataFrame, *, title: str, panels: Sequence[str]) -> Figure:
    """Length and repetition of what is said, a line per arm, a panel per measure.

    >>> length_dots(table, title="Longer, or in circles?", panels=["tokens of an answer", "repeated runs"])

    Args:
        lengths: ``measure`` (one of `panels`), ``arm, estimate, low, high``.
    """
    arms = list(dict.fromkeys(lengths["arm"]))
    figure, axes = plt.subplots(1, len(panels), figsize=(2.4 + 3.4 * len(panels), 1.2 + 0.32 * len(arms)), sharey=True)
    for axis, measure in zip(axes, panels, strict=True):
        part = lengths[lengths["measure"] == measure].set_index("arm").loc[arms]
        spans = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
        axis.errorbar(part["estimate"], range(len(arms)), xerr=spans, fmt="o", markersize=4, color=OTHER_COLOURS[0])
        axis.axvline(0, color="0.3", linewidth=1, zorder=0)
        axis.set(xlabel=f"{measure}, damaged − dense", ylim=(len(arms) - 0.5, -0.5))
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(arms)), arms)
    return finish_figure(figure, title, "bars: 95% intervals over models, or of one over prompts and draws")


def _curve(axis: Axes, x: pd.Series, part: pd.DataFrame, label: str, number: int) -> None:
    spans = [(part["estimate"] - part["low"]).clip(lower=0), (part["high"] - part["estimate"]).clip(lower=0)]
    axis.errorbar(
        x, part["estimate"], yerr=spans, marker="o", markersize=4, linewidth=1.2, capsize=2,
        color=colour_of(label, number), label=label,
    )  # fmt: skip
