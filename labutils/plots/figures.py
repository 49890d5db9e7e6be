"""Figures of the studies: one palette, one style, one function per kind of result.

Every function takes tidy rows, draws intervals wherever there are repeated measurements, and returns the Figure. The
same method has the same colour in every notebook, and so has the same allocation where no methods are compared; beside
methods, allocations differ by line style.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

from labutils.core.figures import close_figure, finish_figure
from labutils.data.sources import short_source
from labutils.plots.alt_text import show_alt_text
from labutils.pruning import PruneReport
from labutils.stats.pairing import pair_with_dense
from labutils.stats.tables import interval_table
from labutils.stats.writing import write_number

_COLOURS = sns.color_palette("colorblind", 10)
PALETTE = {
    "magnitude": _COLOURS[7],
    "wanda": _COLOURS[1],
    "ri": _COLOURS[9],
    "ria": _COLOURS[2],
    "ria+obs": _COLOURS[8],
    "sparsegpt": _COLOURS[0],
    "sparsegpt-mask": _COLOURS[6],
    "gblm": _COLOURS[5],
    "optiprune": _COLOURS[3],
    "optiprune-auto": _COLOURS[4],
    "dense": (0.2, 0.2, 0.2),
}
DASHES = {
    "uniform": "-", "owl": "--", "alpha": "-.", "dlp": ":", "arithmetic": (0, (1, 3)), "global": (0, (5, 1, 1, 1)),
    "global-raw": (0, (5, 1)), "optiprune": "-", "measured": "-",
}  # fmt: skip
MARKERS = {
    "uniform": "o", "owl": "s", "alpha": "^", "dlp": "D", "arithmetic": "v", "global": "P", "global-raw": "h",
    "optiprune": "*", "measured": "X",
}  # fmt: skip
_MUTED = sns.color_palette("Dark2", 8)
# Allocations have colours of their own where a figure compares nothing else: no method shares them.
ALLOCATION_PALETTE = {
    "uniform": (0.45, 0.45, 0.45), "owl": _MUTED[2], "alpha": _MUTED[5], "dlp": _MUTED[3], "arithmetic": _MUTED[6],
    "global": _MUTED[4], "global-raw": (0.1, 0.25, 0.15), "measured": (0.55, 0.1, 0.2),
}  # fmt: skip
# What is neither method nor allocation, such as models and texts, in the order of appearance.
OTHER_COLOURS = [plt.get_cmap("tab20b")(place) for place in (0, 13, 5, 17, 9, 2, 15, 7, 19, 11)]
POOLED = {"over models": (0.0, 0.0, 0.0), "all": (0.0, 0.0, 0.0)}
NOTE = "bars: {:.0%} intervals over items and calibration draws"


def set_style() -> None:
    """The one style of the collection; the notebooks call it once, before the first figure.

    >>> lab.plots.set_style()
    """
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 110, "savefig.bbox": "tight", "axes.titleweight": "bold", "axes.titlesize": 12})
    show_alt_text()


def loss_curves(rows: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """Loss added by pruning against sparsity, one curve per arm, one panel per evaluation text.

    >>> rows = lab.sweep("lab-llama", ["lab:review"], arms=["ria/uniform", "ria/owl"], sparsities=[0.5, 0.7], n_draws=3)
    >>> loss_curves(rows, title="OWL or not")

    The bars are intervals of the paired difference to the dense model over items and calibration draws.
    """
    pruned = pair_with_dense(rows, "loss", on=["model", "calibration", "evaluation", "item"])
    added = pruned.assign(value=pruned["loss"] - pruned["dense"])
    summary = interval_table(added, ["evaluation", "arm", "method", "allocation", "sparsity"], level=level)
    evaluations = list(dict.fromkeys(rows["evaluation"]))
    figure, axes = _panels(len(evaluations))
    for axis, evaluation in zip(axes, evaluations, strict=True):
        symlog(axis, 0.01)
        part = summary[summary["evaluation"] == evaluation]
        for (arm, method, allocation), curve in part.groupby(["arm", "method", "allocation"], sort=False):
            _error_curve(axis, curve, arm, PALETTE.get(method), allocation)
        axis.set(title=short_source(evaluation), xlabel="sparsity (share of zeros)")
    axes[0].set_ylabel(f"added loss ({rows['unit'].iloc[0]})")
    return finish_figure(figure, title, NOTE.format(level), legend_of=axes[0])


def difference_curves(
    differences: Mapping[str, pd.DataFrame],
    *,
    title: str,
    better: str,
    worse: str,
    margin: float,
    unit: str,
    level: float = 0.95,
    panels: str | None = None,
) -> Figure:
    """Paired differences against sparsity, one curve per label, with the margin of equivalence as a band.

    >>> gain = lab.contrast(rows, {"wanda": ("wanda/uniform", "wanda/owl")})
    >>> difference_curves({"wanda": gain}, title="OWL", better="owl", worse="uniform", margin=0.02, unit="nats")

    Args:
        differences: label → frame of `paired_differences`; a positive value favours `better`. Methods and allocations
            among the labels keep their colours.
        margin: half the height of the grey band, in `unit`.
        panels: a column, such as "model", of whose values each has a panel.
    """
    names = list(dict.fromkeys(name for frame in differences.values() for name in frame[panels])) if panels else [""]
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        symlog(axis, _power_of_ten(max(margin, 1e-6)))
        for number, (label, frame) in enumerate(differences.items()):
            curve = interval_table(frame[frame[panels] == name] if panels else frame, ["sparsity"], level=level)
            curve["sparsity"] += 0.006 * (number - (len(differences) - 1) / 2)
            _error_curve(axis, curve, label, colour_of(label, number), _style_of(label, number), marker_only=True)
        axis.axhspan(-margin, margin, color="0.85", zorder=0, label=f"± margin ({margin:.3g} {unit})")
        axis.axhline(0, color="0.3", linewidth=1)
        axis.set(title=short_source(name) if panels else "", xlabel="sparsity (share of zeros)")
    axes[0].set_ylabel(f"{unit}: above 0 {better},\nbelow 0 {worse} is better")
    return finish_figure(figure, title, NOTE.format(level), legend_of=axes[0])


def layer_errors(report: PruneReport, *, title: str) -> Figure:
    """Relative output error of every pruned matrix: blocks as columns, layers as rows.

    >>> layer_errors(lab.prune(model, tokens, method="wanda", sparsity=0.5), title="Output error of every layer")
    """
    layers = report.layers.assign(
        layer=[
            name.split(f".{block}.", 1)[1]
            for name, block in zip(report.layers["name"], report.layers["block"], strict=True)
        ]
    )
    table = layers.pivot(index="layer", columns="block", values="relative_error").loc[layers["layer"].unique()]
    return value_grid(table, title=title, label="‖error‖² / ‖output‖²", centre=None)


def block_sparsity_bars(sparsities: Mapping[str, pd.Series], *, title: str) -> Figure:
    """How each allocation spreads one target over the blocks: marks side by side, blocks from input to output.

    >>> block_sparsity_bars({"owl": report.block_sparsity}, title="One target, spread over the blocks")
    """
    figure, (axis,) = _panels(1)
    for number, (label, series) in enumerate(sparsities.items()):
        places = series.index.to_numpy() + 0.09 * (number - (len(sparsities) - 1) / 2)
        axis.plot(
            places, series.values, marker=MARKERS.get(label, "o"), linestyle="", color=colour_of(label, number),
            label=label,
        )  # fmt: skip
    axis.set(xlabel="block (0 reads the embeddings)", ylabel="sparsity (share of zeros)")
    axis.margins(y=0.08)
    axis.grid(axis="x", visible=False)
    axis.xaxis.get_major_locator().set_params(integer=True)
    return finish_figure(figure, title, legend_of=axis)


def value_grid(
    table: pd.DataFrame, *, title: str, label: str, centre: float | None = 0.0, digits: str = ".3f"
) -> Figure:
    """A table of numbers as an annotated heat map; columns are usually sparsities, rows often settings.

    >>> value_grid(regret, title="Regret per setting", label="↓ better", digits=".2f")

    Around `centre` each side has its colour, on a scale that is logarithmic beyond the median distance: one extreme
    cell must not wash out the others. Without a centre the scale is plain. A table without cells gives an empty figure
    that says so.
    """
    if table.empty:
        figure, axis = plt.subplots(figsize=(4, 1))
        axis.set_axis_off()
        axis.set_title(f"{title}: nothing to show", loc="left")
        return close_figure(figure)
    figure, axis = plt.subplots(figsize=(1.9 + 0.85 * table.shape[1], 1.3 + 0.42 * table.shape[0]))
    colours: dict = {"cmap": "rocket_r"}
    distances = (table - (centre or 0.0)).abs().stack()
    if centre is not None and distances.max() > 0:
        threshold, most = distances[distances > 0].median(), distances.max()
        colours = {"cmap": "vlag", "norm": SymLogNorm(_power_of_ten(threshold), vmin=centre - most, vmax=centre + most)}
    table = table.set_axis([setting_name(row) for row in table.index])
    shown = table.map(lambda value: write_number(value, digits))
    sns.heatmap(
        table,
        annot=shown,
        fmt="",
        cbar_kws={"label": label, "format": _ticks(".3g")},
        ax=axis,
        linewidths=0.5,
        **colours,
    )
    axis.set_title(title, loc="left")
    axis.tick_params(axis="y", rotation=0)
    axis.set_ylabel("")
    return close_figure(figure)


def _ticks(form: str) -> FuncFormatter:
    """Numbers on an axis, with true minus signs."""
    return FuncFormatter(lambda value, _: write_number(value, form))


def setting_name(row: object) -> str:
    """A setting as a reader names it: ("lab-llama", "lab:encyclopedic") → lab-llama, encyclopedic."""
    parts = row if isinstance(row, tuple) else (row,)
    return ", ".join(short_source(part) if isinstance(part, str) else str(part) for part in parts)


def colour_of(label: str, number: int = 0) -> object:
    """The colour of a method, of an arm by its method, or of an allocation; of anything else that of its number.

    >>> colour_of("sparsegpt/owl") == PALETTE["sparsegpt"]
    """
    known = PALETTE | ALLOCATION_PALETTE | POOLED
    return known.get(label.split("/")[0], OTHER_COLOURS[number % len(OTHER_COLOURS)])


def symlog(axis: Axes, threshold: float) -> None:
    """A y axis that is linear up to a power of ten and logarithmic beyond, with ticks at 1 and 3 of every decade.

    >>> symlog(axis, 0.01)

    To be called before anything is drawn: limits are then found on this scale, and no bar is cut.
    """
    axis.set_yscale("symlog", linthresh=threshold)
    axis.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold, subs=[1, 3]))
    axis.yaxis.set_major_formatter(_ticks("g"))
    axis.margins(y=0.08)


def _style_of(label: str, number: int) -> str:
    """The name whose marker a curve has: its own, an arm's allocation, or that of its number."""
    own = label.split("/")[-1]
    return own if own in MARKERS else list(MARKERS)[number % 8]


def _power_of_ten(value: float) -> float:
    """The next one above: where a symlog scale begins there, no two of its ticks fall together."""
    return 10.0 ** math.ceil(math.log10(value))


def _error_curve(
    axis: Axes, curve: pd.DataFrame, label: str, colour: object, style: str, *, marker_only: bool = False
) -> None:
    curve = curve.sort_values("sparsity")
    low, high = curve["estimate"] - curve["low"], curve["high"] - curve["estimate"]
    axis.errorbar(
        curve["sparsity"], curve["estimate"], yerr=[low.clip(lower=0), high.clip(lower=0)], label=label, color=colour,
        marker=MARKERS.get(style, "o"), linestyle="-" if marker_only else DASHES.get(style, "-"), markersize=5,
        linewidth=1.6, capsize=2,
    )  # fmt: skip


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    columns = min(count, 3)
    lines = -(-count // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.2 + 4.4 * columns, 0.8 + 3.6 * lines), sharey=True, squeeze=False
    )
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    return figure, list(axes.flat[:count])
