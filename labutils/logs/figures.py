"""Two logs compared, as a figure."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure
from labutils.plots.figures import OTHER_COLOURS


def comparison_dots(table: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """A line per task and metric: the difference with its interval, on a bar of what would mostly go unseen.

    >>> comparison_dots(lab.compare_logs("dense", "pruned").table, title="What pruning took")

    Shares of 0 to 1 and log-likelihoods have panels of their own, each with its own scale.

    Args:
        table: of `LogComparison`.
    """
    shares = table["lost"].notna()
    panels = [
        (name, part) for name, part in (("share of items", table[shares]), ("metric", table[~shares])) if len(part)
    ]
    heights = [len(part) for _, part in panels]
    size = (7.2, 0.9 + 0.55 * sum(heights) + 0.5 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, height_ratios=heights, squeeze=False)
    for axis, (unit, part) in zip(axes.flat, panels, strict=True):
        places = range(len(part))
        axis.barh(
            places, 2 * part["smallest_visible"], left=-part["smallest_visible"], height=0.5, color="0.88",
            label="would mostly go unseen", zorder=1,
        )  # fmt: skip
        spans = [part["difference"] - part["low"], part["high"] - part["difference"]]
        axis.errorbar(
            part["difference"], places, xerr=spans, fmt="o", markersize=5, color=OTHER_COLOURS[0], zorder=3,
            label="B − A",
        )  # fmt: skip
        axis.axvline(0, color="0.3", linewidth=1, zorder=2)
        axis.set_yticks(places, [_name(row) for row in part.itertuples()])
        axis.set(ylim=(len(part) - 0.5, -0.5), xlabel=f"B − A ({unit}): left of 0 B is lower")
        axis.grid(axis="y", visible=False)
    note = f"bars: {level:.0%} intervals over items, paired"
    return finish_figure(figure, title, note, legend_of=axes.flat[0])


def _name(row: object) -> str:
    filtered = "" if row.filter == "none" else f" ({row.filter})"
    return f"{row.task}\n{row.metric}{filtered}"
