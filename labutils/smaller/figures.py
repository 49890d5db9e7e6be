"""Figures of notebook 13: added loss by way and size, the importance of blocks, gradients, and time against size."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from labutils.core.figures import finish_figure
from labutils.plots.figures import symlog
from labutils.smaller.timing import relative_times
from labutils.stats.pairing import pair_with_dense
from labutils.stats.tables import interval_table

NOTE_ON_BLOCKS = "bars: 95% intervals over items; block 0 reads the embeddings; nats are logarithmic beyond 0.1"
MARKS = "osD^vPX"
OVER_ITEMS = "bars: 95% intervals over items and calibration draws; the vertical axis is logarithmic beyond 0.1"


def added_loss_figure(rows: pd.DataFrame, families: Mapping[str, Sequence[str]], *, model: str, title: str) -> Figure:
    """Loss added at each share of removed parameters, a panel per family of arms, on one axis.

    >>> added_loss_figure(rows, {"depth": ["deepest", "SLEB"], "width": ["FLAP"]}, model="lab-llama", title="…")
    """
    paired = pair_with_dense(rows[rows["model"] == model], "loss", on=["model", "calibration", "evaluation", "item"])
    table = interval_table(paired.assign(value=paired["loss"] - paired["dense"]), ["arm", "sparsity"])
    columns = min(3, len(families))
    lines = -(-len(families) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(1 + 4.2 * columns, 4.9 * lines), sharey=True, squeeze=False)
    sizes = sorted(table["sparsity"].unique())
    step = 0.06 * (min(b - a for a, b in itertools.pairwise(sizes)) if len(sizes) > 1 else sizes[0])
    symlog(axes[0, 0], 0.1)
    for spare in axes.flat[len(families) :]:
        spare.set_visible(False)
    for axis, (family, arms) in zip(axes.flat, families.items(), strict=False):
        for number, arm in enumerate(arms):
            own = table[table["arm"] == arm].sort_values("sparsity")
            if own.empty:  # the architecture cannot express it
                continue
            places = own["sparsity"] + step * (number - (len(arms) - 1) / 2)
            bars = [(own["estimate"] - own["low"]).clip(lower=0), (own["high"] - own["estimate"]).clip(lower=0)]
            axis.errorbar(
                places, own["estimate"], yerr=bars, marker=MARKS[number % len(MARKS)], capsize=2, label=arm,
                color=sns.color_palette("colorblind")[number % 10],
            )  # fmt: skip
        axis.set(title=family, xlabel="share of the blocks' parameters removed")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.set_xticks(sizes)
        axis.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncol=2, frameon=False)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss added (nats per token)")
    return finish_figure(figure, title, OVER_ITEMS)


def profile_figure(profiles: pd.DataFrame, *, title: str) -> Figure:
    """What skipping each block costs, a panel per yardstick, each on its own axis."""
    names = list(dict.fromkeys(profiles["yardstick"]))
    table = interval_table(profiles.assign(draw=0), ["yardstick", "block"])
    figure, axes = plt.subplots(1, len(names), figsize=(1 + 3.4 * len(names), 3.6), squeeze=False)
    for number, (axis, name) in enumerate(zip(axes[0], names, strict=True)):
        own = table[table["yardstick"] == name].sort_values("block")
        bars = [(own["estimate"] - own["low"]).clip(lower=0), (own["high"] - own["estimate"]).clip(lower=0)]
        colour = sns.color_palette("colorblind")[number]
        axis.errorbar(own["block"], own["estimate"], yerr=bars, marker="o", linestyle="", capsize=2, color=colour)
        axis.axhline(0, color="0.5", linewidth=0.8)
        lost = "nats per token added" if name in ("loss", "copying") else "share of items lost"
        if name in ("loss", "copying"):
            symlog(axis, 0.1)
        axis.set(title=name, xlabel="block that is skipped", ylabel=lost)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return finish_figure(figure, title, NOTE_ON_BLOCKS)


def gradient_figure(norms: pd.DataFrame, *, title: str) -> Figure:
    """The norm of the loss's gradient by a block, over depth, a line per model on a logarithmic axis.

    >>> gradient_figure(gradient_norms("lab-llama", loaded, "lab:review", …), title="…")
    """
    table = interval_table(norms.assign(value=np.log(norms["norm"]), draw=0), ["model", "block"])
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for number, (model, own) in enumerate(table.groupby("model", sort=False)):
        own = own.sort_values("block")
        middle, low, high = (np.exp(own[name]) for name in ("estimate", "low", "high"))
        axis.errorbar(
            own["block"], middle, yerr=[middle - low, high - middle], marker=MARKS[number % len(MARKS)], capsize=2,
            label=str(model), color=sns.color_palette("colorblind")[number % 10],
        )  # fmt: skip
    axis.set(xlabel="block", ylabel="norm of its gradient", yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False)
    return finish_figure(figure, title, "geometric means over windows; bars: 95% intervals")


def timing_figure(times: pd.DataFrame, *, title: str) -> Figure:
    """Time relative to the dense model's in the same repeat, as `relative_times` gives it."""
    table = relative_times(times)
    cells = list(table[["phase", "batch"]].drop_duplicates().itertuples(index=False))
    shape = {"figsize": (1 + 3.2 * len(cells), 3.2), "sharex": True, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(cells), **shape)
    for axis, (phase, batch) in zip(axes[0], cells, strict=True):
        own = table[(table["phase"] == phase) & (table["batch"] == batch)]
        reach = [own["ratio"] - own["low"], own["high"] - own["ratio"]]
        axis.barh(own["model"], own["ratio"], xerr=reach, color="0.7", capsize=2)
        axis.axvline(1, color="0.2", linewidth=0.8)
        axis.set(title=f"{phase}, batch {batch}", xlabel="time ÷ dense")
    axes[0, 0].invert_yaxis()
    return finish_figure(figure, title, "bars: medians over repeats, lines: the middle half")
