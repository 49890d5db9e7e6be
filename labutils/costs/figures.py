"""Figures of cost: seconds and memory against sparsity and size, ratios to peers, and what sparse products take."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from labutils.core.figures import finish_figure
from labutils.plots.figures import PALETTE
from labutils.stats.tables import interval_table

PASS = "one pass"
RANGE = "bars: from the fastest to the slowest repeat, points: medians"
PANELS = (("processor", "seconds of processor time"), ("peak_megabytes", "peak memory above the start (MB)"))


def cost_curves(costs: pd.DataFrame, *, title: str) -> Figure:
    """Processor time and peak memory against sparsity, a curve per method, and one bare pass as a line.

    >>> cost_curves(costs, title="What pruning lab-llama costs")

    Args:
        costs: rows of `pruning_costs` on one model.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2))
    for axis, (column, label) in zip(axes, PANELS, strict=True):
        groups = costs[costs["method"] != PASS].groupby("method", sort=False)
        for place, (method, part) in enumerate(groups):
            beside = 0.006 * (place - (len(groups) - 1) / 2)
            _ranges(axis, part.assign(sparsity=part["sparsity"] + beside), "sparsity", column, str(method))
        bare = costs.loc[costs["method"] == PASS, column].median()
        axis.axhline(bare, color="0.3", linestyle=":", label="one bare pass")
        axis.set(xlabel="sparsity (share of zeros)", ylabel=label, ylim=(0, None))
        axis.set_xticks(sorted(costs.loc[costs["method"] != PASS, "sparsity"].unique()))
    return finish_figure(figure, title, RANGE, legend_of=axes[0])


def size_curves(costs: pd.DataFrame, *, title: str) -> Figure:
    """Processor time and peak memory against the number of block parameters, on logarithmic axes.

    >>> size_curves(size_costs([64, 128, 256], (16, 128), methods=["wanda"], sparsity=0.5), title="Cost by size")

    Args:
        costs: rows of `size_costs`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2))
    for axis, (column, label) in zip(axes, PANELS, strict=True):
        for method, part in costs.groupby("method", sort=False):
            name = "one bare pass" if method == PASS else str(method)
            _ranges(axis, part, "parameters", column, name, dotted=method == PASS)
        axis.set(xlabel="parameters in blocks (millions)", ylabel=label, xscale="log", yscale="log")
        counts = sorted(costs["parameters"].unique())
        axis.set_xticks(counts, [f"{count / 1e6:.2g}" for count in counts])
        axis.xaxis.set_minor_locator(NullLocator())
        _plain_ticks(axis.yaxis)
    return finish_figure(figure, title, RANGE, legend_of=axes[0])


def forecast_points(costs: pd.DataFrame, *, title: str) -> Figure:
    """What was measured against what was forecast, one point per model, method and sparsity; the band is ± 25 %.

    >>> forecast_points(costs, title="What pruning took against what was forecast")

    Time is that of the fastest repeat, which others on the machine disturbed least.

    Args:
        costs: rows of `pruning_costs` or `size_costs`.
    """
    kinds = ["model", "method", "sparsity"]
    found = costs[costs["method"] != PASS].groupby(kinds, sort=False).agg(
        wall=("wall", "min"), forecast_seconds=("forecast_seconds", "first"),
        peak_megabytes=("peak_megabytes", "median"), forecast_megabytes=("forecast_megabytes", "first"),
    ).reset_index()  # fmt: skip
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4))
    panels = (("forecast_seconds", "wall", "seconds"), ("forecast_megabytes", "peak_megabytes", "MB beyond the model"))
    for axis, (forecast, measured, unit) in zip(axes, panels, strict=True):
        for method, part in found.groupby("method", sort=False):
            axis.plot(part[forecast], part[measured], "o", color=PALETTE.get(str(method)), label=str(method))
        ends = np.array(
            [found[[forecast, measured]].min(axis=None) / 1.3, found[[forecast, measured]].max(axis=None) * 1.3]
        )
        axis.fill_between(ends, ends * 0.75, ends * 1.25, color="0.88", zorder=0, label="± 25 %")
        axis.plot(ends, ends, color="0.3", linewidth=1, linestyle=":", label="as forecast")
        axis.set(xlabel=f"forecast ({unit})", ylabel=f"measured ({unit})", xscale="log", yscale="log")
        _plain_ticks(axis.yaxis, axis.xaxis)
    return finish_figure(figure, title, legend_of=axes[0])


def peer_bars(peers: pd.DataFrame, *, title: str) -> Figure:
    """Our processor time and peak memory as shares of the peer's; below 1 ours needs less. Ticks show the aims.

    >>> peer_bars(peer_results(), title="Beside llm-compressor")

    Args:
        peers: rows of `peer_results`, at least one.
    """
    shown = peers.iloc[::-1].reset_index(drop=True)
    names = [f"{row.method}, {row.model}" for row in shown.itertuples()]
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 1.4 + 0.5 * len(shown)), sharey=True)
    shares = (shown["ratio"], shown["ours_megabytes"] / shown["theirs_megabytes"])
    aims = (shown["aim"], shown["memory_aim"])
    labels = ("processor time, ours / llm-compressor", "peak memory, ours / llm-compressor")
    for axis, share, aim, label in zip(axes, shares, aims, labels, strict=True):
        axis.barh(names, share, color=[PALETTE[method] for method in shown["method"]], height=0.6)
        for place, value in enumerate(share):
            axis.text(0.03, place, f"{value:.2f}", va="center", fontsize=10, color="white", fontweight="bold")
        axis.scatter(aim, names, marker="|", s=420, color="0.1", linewidth=2, zorder=3, label="aim")
        axis.axvline(1, color="0.3", linewidth=1, linestyle=":", label="as much as the peer")
        axis.set(xlabel=label, xlim=(0, max(1.25, share.max() + 0.2)))
        axis.grid(axis="y", visible=False)
    return finish_figure(figure, title, legend_of=axes[0])


def aim_points(ratios: pd.DataFrame, *, title: str) -> Figure:
    """Every ratio that has an aim, on a logarithmic axis, with the aim as a tick and the floor, where one was measured.

    >>> aim_points(ratio_results(), title="What was aimed at, and what is reached")

    Args:
        ratios: rows of `ratio_results`, at least one of them with an aim.
    """
    shown = ratios[ratios["aim"].notna()].iloc[::-1].reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(10.5, 1.6 + 0.34 * len(shown)))
    missed = shown["ratio"] > shown["aim"]
    for kind, color, label in ((~missed, "#0072B2", "measured: aim reached"), (missed, "#D55E00", "measured: missed")):
        axis.plot(shown.loc[kind, "ratio"], shown.index[kind], "o", color=color, label=label, zorder=3)
    axis.plot(shown["aim"], shown.index, "|", color="0.1", markersize=15, markeredgewidth=2, label="aim")
    axis.plot(shown["floor"], shown.index, "o", markerfacecolor="none", markeredgecolor="0.4", label="floor")
    axis.set(xscale="log", xlabel="ratio: what is before the slash / what is behind it")
    axis.set_yticks(shown.index, shown["what"])
    _plain_ticks(axis.xaxis)
    return finish_figure(figure, title, legend_of=axis)


def sparse_product_curves(times: pd.DataFrame, *, title: str) -> Figure:
    """Time and size of a sparse matrix as shares of the dense one's, against sparsity; below 1 the zeros pay.

    >>> sparse_product_curves(sparse_product_times([0.5, 0.9]), title="A matrix with its zeros left out")

    Args:
        times: rows of `sparse_product_times`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.0))
    shares = (times["ratio"], times["sparse_megabytes"] / times["dense_megabytes"])
    for axis, share, label in zip(axes, shares, ("time of a product", "memory of the matrix"), strict=True):
        axis.plot(times["sparsity"], share, marker="o", color=PALETTE["sparsegpt"], label="compressed rows")
        axis.axhline(1, color="0.3", linestyle=":", label="dense")
        axis.set(xlabel="sparsity (share of zeros)", ylabel=f"{label}, sparse / dense", yscale="log")
        _plain_ticks(axis.yaxis)
    return finish_figure(figure, title, legend_of=axes[0])


def added_loss_strips(rows: pd.DataFrame, *, title: str) -> Figure:
    """The added loss of every item per arm, with the interval of its mean over items; zero is the dense model.

    >>> added_loss_strips(rows.assign(added=rows["loss"] - rows["dense"]), title="Before and after tuning")

    Args:
        rows: `arm, item, draw, added, unit`, one row per item and arm.
    """
    arms = list(dict.fromkeys(rows["arm"]))
    figure, axis = plt.subplots(figsize=(7.2, 1.6 + 0.7 * len(arms)))
    scatter = np.random.default_rng(0)
    table = interval_table(rows.assign(value=rows["added"]), ["arm"]).set_index("arm")
    for place, arm in enumerate(arms):
        values = rows.loc[rows["arm"] == arm, "added"]
        axis.scatter(values, place + scatter.uniform(-0.22, 0.22, len(values)), s=12, color="0.65", zorder=2)
        mean, low, high = table.loc[arm, ["estimate", "low", "high"]]
        axis.errorbar(
            mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=PALETTE["sparsegpt"], capsize=4, zorder=3
        )
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.set(xlabel=f"added loss ({rows['unit'].iloc[0]})")
    axis.grid(axis="y", visible=False)
    return finish_figure(figure, title, "grey: single items; blue: mean and 95% interval over items", legend_of=axis)


def kernel_curves(kernels: pd.DataFrame, *, title: str) -> Figure:
    """Time of 2:4 products and as a share of the dense ones' against the number of tokens; below 1 the zeros pay.

    >>> kernel_curves(kernel_results(), title="2:4 kernels beside dense products")

    Args:
        kernels: rows of `kernel_results`, at least one.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2))
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    groups = kernels.groupby(["out", "in", "backend"], sort=False)
    for colour, ((out, width, backend), part) in zip(colours, groups, strict=False):
        name = f"{out} × {width}, {backend}"
        axes[0].plot(part["n"], part["ratio"], "o-", color=colour, label=name)
        axes[1].plot(part["n"], part["sparse_ms"], "o-", color=colour)
        axes[1].plot(part["n"], part["dense_ms"], "o:", color=colour)
    axes[0].axhline(1, color="0.3", linestyle=":", label="dense")
    for axis, label in zip(axes, ("time of a product, 2:4 / dense", "milliseconds of a product"), strict=True):
        axis.set(xlabel="tokens", ylabel=label, xscale="log", yscale="log")
        axis.set_xticks(sorted(kernels["n"].unique()), [f"{count:,}" for count in sorted(kernels["n"].unique())])
        axis.xaxis.set_minor_locator(NullLocator())
        _plain_ticks(axis.yaxis)
    return finish_figure(figure, title, "right: solid 2:4, dotted dense", legend_of=axes[0])


def _plain_ticks(*scales: Axis) -> None:
    """Logarithmic scales with numbers as one writes them, at 1, 2 and 5 of every power of ten."""
    for scale in scales:
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(lambda value, _: f"{value:g}")
        scale.set_minor_locator(NullLocator())


def _ranges(axis: Axes, part: pd.DataFrame, x: str, y: str, label: str, *, dotted: bool = False) -> None:
    """Medians over repeats with the whole range as bars."""
    groups = part.groupby(x)[y]
    middle, low, high = groups.median(), groups.min(), groups.max()
    axis.errorbar(
        middle.index, middle, yerr=np.maximum([middle - low, high - middle], 0), label=label, marker="o", markersize=5,
        capsize=2, linewidth=1.6, color=PALETTE.get(label, (0.3, 0.3, 0.3)), linestyle=":" if dotted else "-",
    )  # fmt: skip
