"""Figures of the distillation study: gains with intervals and the margin, and layers from input to output."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labutils.core.figures import finish_figure
from labutils.data.sources import short_source

PANELS_PER_ROW = 3
FOREST_PANELS = 4  # side by side
NOTE_HEIGHT = -0.03
TEACHER = "teacher"
SHIFT = 0.012  # between the curves of `layer_curves`, in units of the depth
_COLOURS = sns.color_palette("colorblind", 10)
PALETTE = {
    "none": _COLOURS[7],
    "kd": _COLOURS[0],
    "ild": _COLOURS[1],
    "rail-l": _COLOURS[2],
    "rail-c": _COLOURS[4],
    "loraild": _COLOURS[3],
    "teacher": (0.2, 0.2, 0.2),
    "untrained": (0.75, 0.75, 0.75),
}


def gain_forest(gains: pd.DataFrame, *, title: str, margin: float, reference: str, level: float = 0.95) -> Figure:
    """Gains over a reference arm: a panel per task, a row per comparison, with the margin of equivalence as a band.

    >>> gains = interval_rows(arm_differences(sweep.items, {"ild": ("kd", "ild")}), ["evaluation", "comparison"])
    >>> gain_forest(gains, title="Gains over KD", margin=0.02, reference="kd")

    Args:
        gains: `interval_rows` by `evaluation` and `comparison`.
    """
    tasks = list(dict.fromkeys(gains["evaluation"]))
    names = list(dict.fromkeys(gains["comparison"]))
    columns = min(len(tasks), FOREST_PANELS)
    lines = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(1.6 + 2.7 * columns, 1.4 * lines + 0.4 * len(names) * lines), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axis in axes.flat[len(tasks) :]:
        axis.remove()
    for axis, task in zip(axes.flat, tasks, strict=False):
        for row in gains[gains["evaluation"] == task].itertuples():
            place, colour = names.index(row.comparison), PALETTE.get(row.comparison.split("/")[0], "0.3")
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=2)
            axis.plot(row.estimate, place, "o", color=colour)
        axis.axvspan(-margin, margin, color="0.88", zorder=0)
        axis.axvline(0, color="0.3", linewidth=1)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_title(short_source(task))
        axis.set_xlabel(f"gain over {reference}\n(accuracy or ρ)")
        axis.tick_params(labelbottom=True)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    note = f"bars: {level:.0%} intervals over test items and seeds; band: ± margin ({margin:g})"
    return finish_figure(figure, title, note, note_height=NOTE_HEIGHT)


def gain_curves(
    gains: pd.DataFrame, *, x: str, label: str, title: str, margin: float, reference: str, level: float = 0.95
) -> Figure:
    """Gains over a reference against a number that was varied, one curve per comparison, over all tasks.

    >>> gain_curves(gains, x="rank", label="rank of the adapters", title="Rank", margin=0.02, reference="kd")

    Args:
        gains: `interval_rows` by `comparison` and the column `x`.
        label: what `x` is, with its unit.
    """
    figure, axis = plt.subplots(figsize=(8.0, 4.0))
    values = sorted(gains[x].unique())
    for number, (name, curve) in enumerate(gains.groupby("comparison", sort=False)):
        curve = curve.sort_values(x)
        shift = 0.04 * (number - (gains["comparison"].nunique() - 1) / 2)
        places = [values.index(value) + shift for value in curve[x]]
        spread = [curve["estimate"] - curve["low"], curve["high"] - curve["estimate"]]
        colour = PALETTE.get(str(name).split("/")[0], _COLOURS[number % 10])
        axis.errorbar(places, curve["estimate"], yerr=spread, label=name, color=colour, marker="o", capsize=2)
    axis.axhspan(-margin, margin, color="0.88", zorder=0, label=f"± margin ({margin:g})")
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axis.set(xlabel=label, ylabel=f"gain over {reference} (accuracy or ρ)")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return finish_figure(
        figure, title, f"bars: {level:.0%} intervals over test items and seeds of all tasks", note_height=NOTE_HEIGHT
    )


def layer_curves(values: pd.DataFrame, *, measures: Sequence[str], title: str) -> Figure:
    """Measures of the layers from input to output: a panel per measure, a curve per arm.

    >>> layer_curves(layer_values(sweep.probes, sweep.clusters), measures=["probe score"], title="Layers")

    Args:
        values: one row per `arm`, `blocks` (in the model), `block`, `measure` and whatever was repeated (tasks, seeds),
            with `value`; the curves are means, their bars 95 % bootstrap intervals over the repetitions. The teacher's,
            of which there is one per task, has none.
    """
    columns = min(len(measures), PANELS_PER_ROW)
    rows = -(-len(measures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.0 + 3.2 * columns, 0.6 + 3.0 * rows), squeeze=False)
    for axis in axes.flat[len(measures) :]:
        axis.remove()
    shift = pd.Series(0.0, index=values.index)  # so that the bars of equal depths can be told apart
    for _, part in values.groupby("blocks"):
        numbers, names = pd.factorize(part["arm"])
        shift[part.index] = SHIFT * (numbers - (len(names) - 1) / 2)
    depth = values.assign(depth=(values["block"] + 1) / values["blocks"] + shift)
    teacher, depth = depth[depth["arm"] == TEACHER], depth[depth["arm"] != TEACHER]
    for axis, measure in zip(axes.flat, measures, strict=False):
        part = depth[depth["measure"] == measure]
        sns.lineplot(
            part, x="depth", y="value", hue="arm", style="arm", palette=PALETTE, markers=True, dashes=False, ax=axis,
            errorbar=("ci", 95), n_boot=500, seed=0, err_style="bars", legend=axis is axes[0, -1],
        )  # fmt: skip
        # One teacher per task: bars over few tasks would be their range, and hide the students.
        above = teacher[teacher["measure"] == measure].groupby("depth")["value"].mean()
        axis.plot(above.index, above, color=PALETTE["teacher"], linestyle="--", linewidth=1, label=TEACHER)
        axis.set(xlabel="depth (1 = last block)", ylabel=measure, xlim=(0, 1.08))
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title=None)
    return finish_figure(figure, title, "bars: 95 % intervals over tasks and seeds", note_height=NOTE_HEIGHT)


def layer_values(probes: pd.DataFrame, clusters: pd.DataFrame) -> pd.DataFrame:
    """Probes and clusters of a `DistillSweep` as one frame for `layer_curves`; a probe's measure is its score.

    >>> layer_values(sweep.probes, sweep.clusters)
    """
    keys = ["evaluation", "arm", "seed", "blocks", "block"]
    scores = 1 - probes.groupby(keys)["loss"].mean()
    frame = scores.rename("value").reset_index().assign(measure="probe score")
    kept = [frame, clusters[[*keys, "measure", "value"]]] if len(clusters) else [frame]
    return pd.concat(kept, ignore_index=True)
