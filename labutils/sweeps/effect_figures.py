"""Figures of effects over models and settings, and of regret: every mark has its interval."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labutils.core.figures import close_figure, finish_figure
from labutils.data.sources import short_source
from labutils.plots.figures import DASHES, MARKERS, colour_of, setting_name, symlog
from labutils.stats.tables import interval_table
from labutils.sweeps.contrasts import contrast
from labutils.sweeps.losses import split_arm
from labutils.sweeps.replication import SETTING, per_dense_loss

POSITIONS = 0.012  # between arms at one sparsity, so that none hides another


def effect_panels(
    table: pd.DataFrame, *, panel: str, row: str, title: str, x_label: str, hue: str | None = None, note: str = ""
) -> Figure:
    """Effects with intervals in units of their margins: a panel per claim, a row per setting or rule.

    >>> effect_panels(effect_table(effects), panel="claim", row="setting", title="t", x_label="in margins")

    Args:
        table: with the columns `panel`, `row`, ``estimate, low, high``; rows without an estimate are left out.
        hue: a column whose values stand side by side in a row, each with its colour.

    Returns:
        a figure that says that there is nothing to show, of a table without rows.
    """
    shown = table.dropna(subset="estimate")
    if shown.empty:
        figure, axis = plt.subplots(figsize=(4, 1))
        axis.set_axis_off()
        axis.set_title(f"{title}: nothing to show", loc="left")
        return close_figure(figure)
    panels, rows = (list(dict.fromkeys(shown[column])) for column in (panel, row))
    groups = list(dict.fromkeys(shown[hue])) if hue else [""]
    size = (2.2 + 2.5 * len(panels), 1.5 + (0.22 + 0.16 * len(groups)) * len(rows))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, panels, strict=True):
        for number, group in enumerate(groups):
            part = shown[(shown[panel] == name) & ((shown[hue] == group) if hue else True)]
            places = [rows.index(each) + 0.7 * ((number + 0.5) / len(groups) - 0.5) for each in part[row]]
            bars = [(part["estimate"] - part["low"]).clip(lower=0), (part["high"] - part["estimate"]).clip(lower=0)]
            colour = colour_of(str(group), number) if hue else "0.2"
            axis.errorbar(
                part["estimate"], places, xerr=bars, fmt="o", markersize=4, capsize=2, linewidth=1.3, color=colour,
                label=short_source(str(group)),
            )  # fmt: skip
        ends = shown.loc[shown[panel] == name, ["low", "high"]]
        _finish_panel(axis, name, x_label, float(ends.min(axis=None)), float(ends.max(axis=None)))
    axes[0, 0].set_yticks(range(len(rows)), [setting_name(each) for each in rows])
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    note = " ".join(filter(None, ["bars: 95% intervals; grey: less than one margin.", note]))
    return finish_figure(figure, title, note, legend_of=axes[0, 0] if hue else None, note_height=-0.06)


def _finish_panel(axis: Axes, name: str, x_label: str, least: float, most: float) -> None:
    """Linear within a margin, logarithmic up to the decade that holds every interval."""
    axis.axvspan(-1, 1, color="0.88", zorder=0)
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set_xscale("symlog", linthresh=1, linscale=0.7)
    decade = 10.0 ** np.ceil(np.log10(max(most, -least, 3.0)))
    left = -decade if least < -1 else -1.5
    inner = 1.0 if decade < 100 else 10.0
    # Where both sides are long there is no room for a label between zero and the ends.
    inner_ticks = (-inner, inner) if decade < 100 or left > -decade else ()
    ticks = sorted(tick for tick in (-decade, *inner_ticks, 0.0, decade) if tick >= left)
    axis.set_xlim(left, decade)
    axis.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axis.minorticks_off()
    axis.set(title=str(name), xlabel=x_label)
    axis.grid(axis="y", visible=False)


def gap_curves(rows: pd.DataFrame, arms: Sequence[str], components: Sequence[str], *, title: str) -> Figure:
    """What every arm loses to the best component at each sparsity, a panel per setting.

    >>> gap_curves(rows, [*components, "optiprune"], components, title="What each arm loses to the best component")

    The best component of a setting and sparsity is the one with the lowest mean loss there; it is at zero by
    construction. Differences are paired, in per cent of the dense model's loss. Arms that are the same model stand side
    by side, none hiding another.
    """
    settings = list(dict.fromkeys(zip(rows["model"], rows["evaluation"], strict=True)))
    columns = min(3, len(settings))
    lines = -(-len(settings) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.4 + 3.9 * columns, 0.9 + 2.9 * lines), sharex=True, sharey=True, squeeze=False
    )
    gaps = _gaps(rows, arms, components)
    for axis, (model, evaluation) in zip(axes.flat, settings, strict=False):
        symlog(axis, 1.0)
        part = gaps[(gaps["model"] == model) & (gaps["evaluation"] == evaluation)]
        for number, arm in enumerate(arms):
            _gap_curve(axis, part[part["contrast"] == arm], arm, number - (len(arms) - 1) / 2)
        axis.axhline(0, color="0.3", linewidth=1)
        axis.set_title(f"{model}, {short_source(evaluation)}", fontsize=11)
    for spare in axes.flat[len(settings) :]:
        spare.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("sparsity (share of zeros)")
    for axis in axes[:, 0]:
        axis.set_ylabel("loss above the best\ncomponent (% of dense)")
    note = "bars: 95% intervals over items and calibration draws; below 0: better than every component"
    return finish_figure(figure, title, note, legend_of=axes.flat[0])


def _gaps(rows: pd.DataFrame, arms: Sequence[str], components: Sequence[str]) -> pd.DataFrame:
    """Paired differences to the best component in per cent of the dense loss, summarised per setting and sparsity."""
    means = rows[rows["arm"].isin(list(components))].groupby([*SETTING, "sparsity", "arm"])["loss"].mean()
    best = means.unstack("arm").idxmin(axis=1).rename("best")
    found = []
    for component in best.unique():
        cells = best[best == component].index.to_frame(index=False)
        pairs = contrast(rows, {arm: (arm, component) for arm in arms})
        found.append(pairs.merge(cells, on=[*SETTING, "sparsity"]))
    gaps = per_dense_loss(pd.concat(found, ignore_index=True), rows)
    return interval_table(gaps.assign(value=100 * gaps["value"]), [*SETTING, "contrast", "sparsity"])


def _gap_curve(axis: Axes, curve: pd.DataFrame, arm: str, place: float) -> None:
    curve = curve.sort_values("sparsity")
    allocation = split_arm(arm)[1] or "uniform"
    bars = [(curve["estimate"] - curve["low"]).clip(lower=0), (curve["high"] - curve["estimate"]).clip(lower=0)]
    axis.errorbar(
        curve["sparsity"] + POSITIONS * place, curve["estimate"], yerr=bars, label=arm, color=colour_of(arm),
        marker=MARKERS.get(allocation, "o"), linestyle=DASHES.get(allocation, "-"), markersize=4, linewidth=1,
        capsize=2,
    )  # fmt: skip
