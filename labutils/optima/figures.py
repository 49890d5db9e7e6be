"""Figures of layer errors against the best known, of shares of variance, and of cost beside gain."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from labutils.core.figures import finish_figure
from labutils.plots.figures import OTHER_COLOURS, PALETTE

PARTS = {"mask": PALETTE["wanda"], "reconstruction": PALETTE["sparsegpt"], "both together": PALETTE["magnitude"]}
SHAPES, OTHER_SHAPES = [*"os^Dv<>p"], [*"*XPhd8H"]


def ratio_bars(table: pd.DataFrame, *, title: str) -> Figure:
    """How far each method is from the best known error: what its mask and what its reconstruction contribute.

    >>> ratio_bars(ratio_table(ratios_to_best(errors), ["method", "case"]), title="Layer error over the best known")

    Args:
        table: `ratio_table` by method and case; a panel per case, methods in the order of appearance.
    """
    cases, methods = (list(dict.fromkeys(table[name])) for name in ("case", "method"))
    figure, axes = plt.subplots(
        1, len(cases), figsize=(2.6 + 3.0 * len(cases), 1.3 + 0.3 * len(methods)), sharey=True, squeeze=False
    )
    for axis, case in zip(axes.flat, cases, strict=True):
        part = table[table["case"] == case].set_index("method").reindex(methods)
        places = np.arange(len(methods))
        axis.barh(places, part["of_mask"] - 1, left=1, color=PARTS["mask"], label="of the mask")
        axis.barh(
            places, part["ratio"] - part["of_mask"], left=part["of_mask"], color=PARTS["reconstruction"],
            label="of the reconstruction",
        )  # fmt: skip
        axis.hlines(places, part["low"], part["high"], color="0.25", linewidth=1)
        axis.set_xscale("log")
        _plain_ratios(axis, float(part[["ratio", "high"]].max(axis=None)))
        axis.set(title=case, xlabel="error / best known")
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(np.arange(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    note = "geometric means over layers and draws; lines: the middle nine tenths of the layers; 1: the best known"
    return finish_figure(figure, title, note, legend_of=axes[0, 0])


def _plain_ratios(axis: Axes, most: float) -> None:
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 300, 1000) if tick <= max(most, 1.5) * 1.05]
    if len(ticks) > 6:
        ticks = [tick for tick in ticks if tick not in (1.5, 20, 50)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(left=0.97)


def share_curves(shares: pd.DataFrame, *, title: str) -> Figure:
    """Shares of the variance due to mask and reconstruction over sparsity, a panel per model; a pattern beside them.

    >>> share_curves(two_way_shares(rows, masks, steps), title="Mask or reconstruction?")
    """
    models = list(dict.fromkeys(shares["model"]))
    figure, axes = plt.subplots(1, len(models), figsize=(2.4 + 3.6 * len(models), 3.8), sharey=True, squeeze=False)
    for axis, model in zip(axes.flat, models, strict=True):
        own = shares[shares["model"] == model]
        labels = _labels(own)
        for number, (part, colour) in enumerate(PARTS.items()):
            rows = own[own["part"] == part]
            free = rows[rows["pattern"] == "unstructured"].sort_values("sparsity")
            shift = 0.08 * (number - 1)
            for kept, joined in ((free, "-"), (rows[rows["pattern"] != "unstructured"], "none")):
                places = [labels.index(_label(row)) + shift for row in kept.itertuples()]
                bars = [(kept["estimate"] - kept["low"]).clip(lower=0), (kept["high"] - kept["estimate"]).clip(lower=0)]
                axis.errorbar(
                    places, kept["estimate"], yerr=bars, fmt="o", markersize=5, capsize=2, color=colour,
                    linestyle=joined, label=part if joined == "-" else None,
                )  # fmt: skip
        axis.set_xticks(range(len(labels)), labels)
        axis.set(title=model, xlabel="zeros, or pattern", ylim=(-0.05, 1.05))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes[0, 0].set_ylabel("share of the variance of the loss")
    note = "bars: 95% intervals over items and calibration draws; the shares of one sparsity add up to one"
    return finish_figure(figure, title, note, legend_of=axes[0, 0])


def _label(row: object) -> str:
    return f"{row.sparsity:.0%}" if row.pattern == "unstructured" else row.pattern


def _labels(rows: pd.DataFrame) -> list[str]:
    free = sorted(set(rows.loc[rows["pattern"] == "unstructured", "sparsity"]))
    return [f"{each:.0%}" for each in free] + sorted(set(rows["pattern"]) - {"unstructured"})


def error_scatter(points: pd.DataFrame, *, unit: str, title: str) -> Figure:
    """The loss that methods add against their layers' error: a row of panels per model, a column per sparsity.

    >>> error_scatter(loss_and_error(rows, errors), unit="nats per token", title="Does a better layer …")
    """
    cases = points.assign(case=[_label(row) for row in points.itertuples()])
    names, models, marks = _labels(points), list(dict.fromkeys(cases["model"])), _Marks(points["method"])
    size = (2.2 + 2.9 * len(names), 1.0 + 2.5 * len(models))
    figure, axes = plt.subplots(len(models), len(names), figsize=size, squeeze=False)
    for line, model in zip(axes, models, strict=True):
        for axis, case in zip(line, names, strict=True):
            for row in cases[(cases["case"] == case) & (cases["model"] == model)].itertuples():
                axis.plot(row.error, row.added, linestyle="none", markersize=6, alpha=0.85, **marks.of(row.method))
            axis.set_xscale("log")
            _plain_logarithms(axis.xaxis)
            _bend(axis, cases.loc[cases["model"] == model, "added"])
            axis.set_title(f"{model}, {case}" if len(models) > 1 else case, fontsize=11)
        line[0].set_ylabel(f"added loss\n({unit})")
    for axis in axes[-1]:
        axis.set_xlabel("mean layer error (relative)")
    marks.add_legend(axes[0, 0])
    return finish_figure(figure, title, "geometric means over layers and draws", legend_of=axes[0, 0])


class _Marks:
    """A colour for every mask and a shape for what follows it; other methods have a colour and a shape of their own."""

    def __init__(self, methods: Iterable[str]):
        names = list(dict.fromkeys(methods))
        self.masks = [name for name in names if "+" not in name and any(each.startswith(f"{name}+") for each in names)]
        pairs = {name: self._split(name) for name in names}
        known = {step for mask, step in pairs.values() if mask in self.masks and "+" not in step}
        self.steps = [step for step in dict.fromkeys(step for _, step in pairs.values()) if step in known]
        self.others = [name for name, (mask, step) in pairs.items() if mask not in self.masks or step not in known]

    @staticmethod
    def _split(method: str) -> tuple[str, str]:
        mask, _, step = method.partition("+")
        return mask, step or "none"

    def of(self, method: str) -> dict[str, object]:
        if method in self.others:
            place = self.others.index(method)
            colour = OTHER_COLOURS[(len(self.masks) + place) % len(OTHER_COLOURS)]  # those before are the masks'
            return {"color": colour, "marker": OTHER_SHAPES[place % len(OTHER_SHAPES)]}
        mask, step = self._split(method)
        return {"color": self._colour(mask), "marker": SHAPES[self.steps.index(step) % len(SHAPES)]}

    def _colour(self, mask: str) -> object:
        return PALETTE.get(mask, OTHER_COLOURS[self.masks.index(mask) % len(OTHER_COLOURS)])

    def add_legend(self, axis: Axes) -> None:
        for mask in self.masks:
            axis.plot([], [], "s", color=self._colour(mask), label=f"mask: {mask}")
        for step in self.steps if self.masks else ():
            axis.plot([], [], SHAPES[self.steps.index(step) % len(SHAPES)], color="0.5", label=f"then: {step}")
        for name in self.others:
            axis.plot([], [], linestyle="none", label=name, **self.of(name))


def _method_colour(method: str, methods: Sequence[str]) -> object:
    return PALETTE[method] if method in PALETTE else OTHER_COLOURS[methods.index(method) % len(OTHER_COLOURS)]


def optimum_curves(rows: pd.DataFrame, *, title: str) -> Figure:
    """The error over the smallest of all masks by the size of the part, a panel per way of choosing its inputs.

    >>> optimum_curves(small_optima(model, tokens, methods=["wanda+ls"], n_inputs=[8, 14]), title="How near?")
    """
    ways, methods = (list(dict.fromkeys(rows[name])) for name in ("chosen", "method"))
    figure, axes = plt.subplots(1, len(ways), figsize=(2.6 + 3.4 * len(ways), 4), sharey=True, squeeze=False)
    parts = {name: (*name.split("+"), "")[:3] for name in methods}  # mask, search and step, or mask and step
    searches = list(dict.fromkeys(search if step else "" for _, search, step in parts.values()))
    masks = list(dict.fromkeys(mask for mask, *_ in parts.values()))
    for axis, way in zip(axes.flat, ways, strict=True):
        groups = rows[rows["chosen"] == way].groupby(["method", "n_inputs"])["ratio"]
        middle, high = groups.median().unstack("method"), groups.quantile(0.95).unstack("method")
        for method, (mask, search, step) in parts.items():
            colour, place = _method_colour(mask, masks), searches.index(search if step else "")
            look = {"marker": "xosD^"[place % 5], "linestyle": ["--", "-", "-."][place % 3]}
            axis.plot(middle.index, middle[method], color=colour, label=method, **look)
            axis.plot(high.index, high[method], color=colour, linestyle=":", linewidth=1)
        axis.set_xticks(middle.index)
        axis.set(title=f"inputs that are {way}", xlabel="inputs of the part")
    axes[0, 0].set_yscale("log")
    _plain_logarithms(axes[0, 0].yaxis)
    axes[0, 0].set_ylabel("error / smallest there is")
    note = "medians over parts; dotted: their 95th percentiles; 1: the best of all masks"
    return finish_figure(figure, title, note, legend_of=axes[0, 0])


def size_curves(table: pd.DataFrame, *, title: str) -> Figure:
    """Layer error on the calibration text and on other text, by the amount of calibration text.

    >>> size_curves(size_table(errors), title="What is learnt from the calibration text holds elsewhere?")
    """
    figure, axis = plt.subplots(figsize=(6.4, 4))
    methods = list(dict.fromkeys(table["method"]))
    for method in methods:
        own, colour = table[table["method"] == method], _method_colour(method, methods)
        axis.plot(own["tokens_per_input"], own["held_out"], "o-", color=colour, label=f"{method}, other text")
        axis.plot(own["tokens_per_input"], own["error"], "o:", color=colour, fillstyle="none", label="calibration text")
    axis.set_xscale("log")
    axis.set_yscale("log")
    _plain_logarithms(axis.yaxis)
    sizes = sorted(set(table["tokens_per_input"]))
    axis.set_xticks(sizes, [f"{size:.2g}" for size in sizes])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set(xlabel="calibration tokens per input of the widest layer", ylabel="layer error (relative)")
    return finish_figure(figure, title, "geometric means over layers and draws", legend_of=axis)


def cost_scatter(costs: pd.DataFrame, *, unit: str, title: str) -> Figure:
    """Added loss with its interval against the time of a pruning.

    >>> cost_scatter(costs, unit="nats per token", title="Cost beside gain")

    Args:
        costs: method, seconds, estimate, low, high.
    """
    figure, axis = plt.subplots(figsize=(7.4, 4.8))
    marks = _Marks(costs["method"])
    best = costs.sort_values(["seconds", "estimate"])
    front = best[best["estimate"] <= best["estimate"].cummin()]
    axis.plot(front["seconds"], front["estimate"], color="0.6", linewidth=1, zorder=0, drawstyle="steps-post")
    for row in costs.itertuples():
        bars = [[max(row.estimate - row.low, 0)], [max(row.high - row.estimate, 0)]]
        axis.errorbar(row.seconds, row.estimate, yerr=bars, linestyle="none", capsize=2, **marks.of(row.method))
    marks.add_legend(axis)
    axis.set_xscale("log")
    _plain_logarithms(axis.xaxis)
    _bend(axis, costs["estimate"])
    axis.set(xlabel="seconds of a pruning (median over repeats)", ylabel=f"added loss ({unit})")
    note = "bars: 95% intervals over items and calibration draws; grey: no method is both faster and better"
    return finish_figure(figure, title, note, legend_of=axis)


def _bend(axis: Axes, values: pd.Series) -> None:
    """Where one method adds several times what the others do, the axis is logarithmic above twice the median."""
    middle, most = float(values.abs().median()), float(values.abs().max())
    if middle > 0 and most > 5 * middle:
        axis.set_yscale("symlog", linthresh=2 * middle)
        _plain_logarithms(axis.yaxis)
        plain = [digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5)]
        axis.set_yticks([0, *(tick for tick in plain if middle / 2 <= tick < 2 * most)])
        if values.min() >= 0:
            axis.set_ylim(bottom=-0.1 * middle)


def _plain_logarithms(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of every decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
