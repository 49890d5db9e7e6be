"""Figures of recoveries: what comes back against what it costs, and what a selection of data is made of."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from labutils.core.figures import finish_figure
from labutils.data.sources import short_source
from labutils.plots.figures import OTHER_COLOURS

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*")
FLOOR = -0.5  # a share below it is drawn at the lower edge


def share_by_time(table: pd.DataFrame, *, title: str, whole: float = 1.0) -> Figure:
    """Share of the lost loss that came back against seconds by the clock: a panel per sparsity, a colour per way.

    >>> share_by_time(recovered_shares(rows, pairs), title="What heals, and for how long one waits")

    Args:
        table: of `recovered_shares`, with a column `way`, the recovery's name; a mark per model.
    """
    ways, models = list(dict.fromkeys(table["way"])), list(dict.fromkeys(table["model"]))
    sparsities = sorted(table["sparsity"].unique())
    figure, axes = plt.subplots(
        1, len(sparsities), figsize=(2.6 + 3.8 * len(sparsities), 4.2), sharey=True, squeeze=False
    )
    for axis, sparsity in zip(axes.flat, sparsities, strict=True):
        part = table[table["sparsity"] == sparsity].dropna(subset=["estimate"])
        axis.axhline(0, color="0.3", linewidth=1, zorder=0)
        axis.axhline(whole, color="0.1", linewidth=1.6, linestyle=":", zorder=1)
        for row in part.itertuples():
            _mark(
                axis, row, OTHER_COLOURS[ways.index(row.way) % len(OTHER_COLOURS)], SHAPES[models.index(row.model) % 8]
            )
        axis.set(xscale="log", xlabel="seconds that one waits")
        for one in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            one(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else ""))
        axis.set_title(f"{sparsity:.0%} removed", loc="left")
    axes.flat[0].set_ylabel("share of the lost loss that came back")
    for number, way in enumerate(ways):
        axes.flat[0].plot([], [], "o", color=OTHER_COLOURS[number % len(OTHER_COLOURS)], label=way)
    for number, model in enumerate(models if len(models) > 1 else []):
        axes.flat[0].plot([], [], SHAPES[number % 8], color="0.5", label=model)
    note = f"dotted: the dense model; bars: 95% intervals over items and draws; lower than −{-FLOOR:.0%} is drawn there"
    return finish_figure(figure, title, note, legend_of=axes.flat[0])


def _mark(axis: Axes, row: object, colour: object, shape: str) -> None:
    low, high = max(row.low, FLOOR), row.high
    estimate = max(row.estimate, FLOOR)
    bars = [[max(0.0, estimate - low)], [max(0.0, high - estimate)]]
    axis.errorbar(
        [max(row.wall_seconds, 1e-2)],
        [estimate],
        yerr=bars,
        fmt=shape,
        color=colour,
        markersize=6,
        linewidth=1.2,
        capsize=2,
    )


def selection_bars(table: pd.DataFrame, *, title: str) -> Figure:
    """What each selection of a pool is made of: stacked shares of its sources, mean over draws.

    >>> selection_bars(table, title="What the filters keep")

    Args:
        table: ``draw, selection, source, share``, as `select_pools` gives it.
    """
    shares = table.groupby(["selection", "source"], sort=False)["share"].mean().unstack("source")
    figure, axis = plt.subplots(figsize=(7.4, 1.2 + 0.42 * len(shares)))
    left = pd.Series(0.0, index=shares.index)
    for number, source in enumerate(shares.columns):
        label = short_source(source.removeprefix("task:"))
        axis.barh(
            shares.index, shares[source], left=left, color=OTHER_COLOURS[number % len(OTHER_COLOURS)], label=label
        )
        left = left + shares[source]
    axis.invert_yaxis()
    axis.set(xlabel="share of the chosen sequences", xlim=(0, 1))
    axis.grid(axis="y", visible=False)
    return finish_figure(figure, title, legend_of=axis)
