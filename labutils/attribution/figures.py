"""Figures of the attribution study, in the style and palette of `labutils.plots`; every function returns the Figure."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from labutils.core.figures import finish_figure
from labutils.data.sources import short_source
from labutils.stats.bootstrap import Interval
from labutils.stats.tables import interval_table

SIDES = ((4, 3), (-4, 3), (4, -3), (-4, -3), (4, 12), (-4, 12), (4, -12), (-4, -12))  # of a mark's label, in points
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
    axis.set(xlabel="k (words with the largest z)", ylabel="share that are the concept's", ylim=(0, 1.02), xscale="log")
    ks = sorted(precision["k"].unique())
    axis.set_xticks(ks, [f"{k}" for k in ks])
    axis.minorticks_off()
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
    return finish_figure(figure, title, legend_of=axis)


def ablation_chart(
    contrasts: pd.DataFrame, *, title: str, unit: str, pooled: Mapping[str, Interval] | None = None, level: float = 0.95
) -> Figure:
    """Added loss with a concept's neurons ablated beyond that of random partners (rows of `concept_contrasts`).

    >>> ablation_chart(contrasts, title="Neurons ablated", unit="nats per token", pooled={"matching": interval})

    Args:
        pooled: way of choosing neurons → the estimate over all its concepts, drawn as a line of its own at the bottom.
    """
    table = interval_table(contrasts, ["concept", "by"], level=level)
    order = table[table["by"] == table["by"].iloc[0]].sort_values("estimate")["concept"]
    names = [*([] if not pooled else ["all concepts"]), *dict.fromkeys([*order, *table["concept"]])]
    over_all = [(*("all concepts", by), each.estimate, each.low, each.high) for by, each in (pooled or {}).items()]
    table = pd.concat([table, pd.DataFrame(over_all, columns=["concept", "by", "estimate", "low", "high"])])
    figure, axis = plt.subplots(figsize=(7, 1.4 + 0.22 * len(names)))
    kinds = list(dict.fromkeys(table["by"]))
    for number, by in enumerate(kinds):
        part = table[table["by"] == by]
        heights = [names.index(name) + 0.25 * (number - (len(kinds) - 1) / 2) for name in part["concept"]]
        spans = [(part["estimate"] - part["low"]).clip(lower=0), (part["high"] - part["estimate"]).clip(lower=0)]
        axis.errorbar(part["estimate"], heights, xerr=spans, fmt="o", markersize=4, color=COLOURS[by], label=f"by {by}")
    axis.axvline(0, color="0.3", linewidth=1, zorder=0)
    if pooled:
        axis.axhspan(-0.5, 0.5, color="0.92", zorder=0)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel=f"added loss, the concept's neurons − random partners ({unit})", ylim=(-0.5, len(names) - 0.5))
    axis.grid(axis="y", visible=False)
    return finish_figure(figure, title, f"bars: {level:.0%} intervals over texts and draws of partners", legend_of=axis)


def agreement_dots(agreement: pd.DataFrame, *, title: str) -> Figure:
    """Rank correlation per block, a dot for every concept, beside the range of the shuffled null.

    >>> agreement_dots(concept_agreement(found, concepts, conductance), title="Matching and conductance")
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    by_block = agreement.groupby("block")
    blocks, low, high = (list(by_block.groups), by_block["null_low"].min(), by_block["null_high"].max())
    axis.bar(blocks, high - low, bottom=low, color="0.85", width=0.7, label="shuffled neurons, 95 %", zorder=1)
    many = agreement["concept"].nunique()
    spread = 0.5 * (agreement.groupby("block").cumcount() + 0.5 - many / 2) / many
    axis.scatter(
        agreement["block"] + spread, agreement["rho"], s=18, color=COLOURS["matching"], zorder=3, label="one concept"
    )
    mean, size = by_block["rho"].mean(), min(17.0, 140 / len(blocks)) ** 2  # no wider than the room of a block
    axis.scatter(mean.index, mean, marker="_", s=size, linewidth=2, color="0.2", zorder=4, label="mean over concepts")
    axis.axhline(0, color="0.3", linewidth=1, zorder=2)
    axis.set(xlabel="block (0 reads the embeddings)", ylabel="rank correlation")
    axis.set_xticks(blocks[:: 1 + len(blocks) // 16])
    axis.grid(axis="x", visible=False)
    return finish_figure(figure, title, legend_of=axis)


def mean_rank_scatter(
    frame: pd.DataFrame, *, x: str, y: str, unit: str, cells: Sequence[str], x_label: str, y_label: str, title: str
) -> Figure:
    """Every unit at its mean rank within the cells, in two columns, with its name and the spread over the cells.

    >>> mean_rank_scatter(pairs, x="change", y="relative_drop", unit="task", cells=["method", "sparsity"], x_label="x",
    ...     y_label="y", title="Tasks, with method and sparsity held fixed")
    """
    ranks = frame.assign(**{each: frame.groupby(list(cells))[each].rank() for each in (x, y)})
    table = ranks.groupby(unit, sort=False)[[x, y]].agg(["mean", "std"])
    figure, axis = plt.subplots(figsize=(7.2, 5))
    short = {name: short_source(str(name)).replace("_", " ") for name in table.index}
    last = pd.Series({name: each.rsplit("/", 1)[-1] for name, each in short.items()})
    for _, row in table.iterrows():
        axis.errorbar(
            row[x, "mean"], row[y, "mean"], xerr=row[x, "std"], yerr=row[y, "std"], fmt="o", markersize=5,
            color=COLOURS["matching"], ecolor="0.85", zorder=3,
        )  # fmt: skip
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.margins(0.12)
    labels = [short[name] if (last == last[name]).sum() > 1 else last[name] for name in table.index]
    _place_labels(axis, labels, table[[(x, "mean"), (y, "mean")]].to_numpy())
    return finish_figure(figure, title, "cross: one standard deviation over the cells either way")


def _place_labels(axis: Axes, labels: Sequence[str], places: Float[np.ndarray, "labels 2"]) -> None:
    """Every label at that side of its mark where it covers least of the other marks and of the labels before it."""
    axis.autoscale_view()
    marks = axis.transData.transform(places)
    taken: list[Bbox] = [Bbox([mark - 4, mark + 4]) for mark in marks]  # pixels: half a mark
    for number, (label, place) in enumerate(zip(labels, places, strict=True)):
        text = axis.annotate(label, place, xytext=SIDES[0], textcoords="offset points", fontsize=8, zorder=4)
        others = taken[:number] + taken[number + 1 :]

        def covered(side: tuple[int, int], text: Annotation = text, others: list[Bbox] = others) -> int:
            text.set(ha="left" if side[0] > 0 else "right", va="bottom" if side[1] > 0 else "top")
            text.xyann = side
            return text.get_window_extent().count_overlaps(others)

        covered(min(SIDES, key=covered))  # `min` takes the first of equals, and the call leaves the label there
        taken.append(text.get_window_extent())
