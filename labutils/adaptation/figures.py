"""Figures of the adaptation study: where the samples lie, what adaptation changes, and the scores themselves."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy.stats import t

from labutils.adaptation.jobs import NO_ADAPTATION
from labutils.core.figures import close_figure
from labutils.stats.tables import interval_table

MARKERS = "osD^v"
# Not the colours of methods of pruning or distillation, which stand for other things in other notebooks.
COLOURS = [sns.color_palette("colorblind", 10)[number] for number in (5, 9, 6, 8)]
BASE_COLOUR = (0.45, 0.45, 0.45)
NEAR, FAR = 13, 26  # pixels from a point to its name
ANGLES = np.radians([0, 180, 90, 270, 45, 135, 225, 315])
SIDES = [radius * np.array([2 * np.cos(angle), np.sin(angle)]) for radius in (NEAR, FAR) for angle in ANGLES]
STEP = 0.25  # between the configurations of one row, in rows
Names = Mapping[str, str]


def sample_map(samples: pd.DataFrame, *, title: str) -> Figure:
    """Samples by complexity and by term share, coloured by the length of their sentences, every one named.

    >>> sample_map(describe_samples(samples), title="Where the samples lie")

    Args:
        samples: rows of `describe_samples`.
    """
    figure, axis = plt.subplots(figsize=(8.2, 5.4))
    points = axis.scatter(
        samples["complexity"], samples["term_share"], c=samples["sentence_length"], cmap="viridis", s=50, zorder=2
    )
    axis.set(
        xlabel="complexity (mean of three scaled indices; 1 is the hardest sample)",
        ylabel="biomedical terms (share of all words)",
    )
    axis.margins(0.09)
    figure.colorbar(points, label="words per sentence")
    _name_points(axis, samples)
    axis.set_title(title, loc="left")
    figure.tight_layout()
    return close_figure(figure)


def _name_points(axis: plt.Axes, samples: pd.DataFrame) -> None:
    """A name beside every point, where it is farthest from other points and names; a line leads to a distant one."""
    axis.figure.tight_layout()
    axis.autoscale_view()  # the transformation below is that of the finished axes
    places = axis.transData.transform(samples[["complexity", "term_share"]].to_numpy())
    names: list[np.ndarray] = []
    for number, (row, place) in enumerate(zip(samples.itertuples(), places, strict=True)):
        others = [*np.delete(places, number, axis=0), *names]
        room = [min((np.hypot(*((place + side - other) / (2, 1))) for other in others), default=FAR) for side in SIDES]
        # a side close by with enough room, else the roomiest
        enough = [index for index, space in enumerate(room) if space >= NEAR]
        side = SIDES[enough[0] if enough else int(np.argmax(room))]
        names.append(place + side)
        arrow = {"arrowstyle": "-", "color": "0.7", "linewidth": 0.6} if np.hypot(*(side / (2, 1))) > NEAR + 1 else None
        axis.annotate(
            row.sample, (row.complexity, row.term_share), side * 72 / axis.figure.dpi, textcoords="offset points",
            fontsize=7, ha="center", va="center", arrowprops=arrow,
        )  # fmt: skip


def gain_by_sample(gains: pd.DataFrame, *, title: str, names: Names | None = None, level: float = 0.95) -> Figure:
    """What adaptation on each sample changes: a line per sample, sorted by its mean, a marker per adaptation.

    >>> gain_by_sample(adaptation_gain(study), title="What adaptation on each sample changes")

    The bars are intervals over sentence pairs and over the seeds of the base model's fine-tunings; values are averaged
    over the fine-tunings.

    Args:
        gains: rows of `adaptation_gain`.
        names: what the codes of configurations stand for, as `name_configurations` gives it.
    """
    table = sample_gains(gains, level=level)
    order = table.groupby("draw")["estimate"].mean().sort_values().index
    table = table.set_index("draw").loc[order].reset_index()
    return _gains(table, "draw", title, f"bars: {level:.0%} intervals over pairs and seeds of the base", names or {})


def sample_gains(gains: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """`estimate, low, high` of the gain for every sample (`draw`) and adaptation, over pairs and seeds of the base.

    >>> sample_gains(adaptation_gain(study))

    Args:
        gains: rows of `adaptation_gain`; without a column `seed`, over pairs alone.
    """
    seeds = [name for name in ("seed",) if name in gains]
    per_pair = gains.groupby(["draw", "adaptation", "item", *seeds], as_index=False, sort=False)["value"].mean()
    per_pair = per_pair.rename(columns={"draw": "sample"}).rename(columns={"seed": "draw"})
    return interval_table(per_pair, ["sample", "adaptation"], level=level).rename(columns={"sample": "draw"})


def gain_by_configuration(
    gains: pd.DataFrame, *, title: str, names: Names | None = None, level: float = 0.95
) -> Figure:
    """What adaptation changes under each fine-tuning, one line per fine-tuning, one marker per adaptation.

    >>> gain_by_configuration(adaptation_gain(study), title="What adaptation changes under each fine-tuning")

    Args:
        gains: rows of `adaptation_gain`.
        names: as for `gain_by_sample`.
    """
    table = interval_table(gains, ["finetuning", "adaptation"], level=level)
    note = f"bars: {level:.0%} intervals over pairs, samples and seeds"
    return _gains(table, "finetuning", title, note, names or {})


def score_by_configuration(
    runs: pd.DataFrame, *, title: str, names: Names | None = None, level: float = 0.95
) -> Figure:
    """The score with and without adaptation: a line per fine-tuning, and one for the cosines before any of them.

    >>> score_by_configuration(rows.runs, title="Cross-validated correlation")

    The bars are t-intervals of a mean: of the base over its seeds, of an adaptation over its samples. The base's
    cosines are one number without an interval.

    Args:
        runs: `runs` of a study.
        names: as for `gain_by_sample`.
    """
    names = names or {}
    before = runs.drop_duplicates(["sample", "adaptation"]).assign(finetuning="cosines", pearson=lambda x: x.zero_shot)
    long = pd.concat([before, runs], ignore_index=True)
    parts = long.groupby(["finetuning", "adaptation"], sort=False)["pearson"]
    table = parts.agg(["mean", "std", "count"]).reset_index()
    half = t.ppf((1 + level) / 2, (table["count"] - 1).clip(lower=1)) * table["std"] / np.sqrt(table["count"])
    table["estimate"], table["low"], table["high"] = table["mean"], table["mean"] - half, table["mean"] + half
    table = table.fillna({"low": table["mean"], "high": table["mean"]})
    note = f"bars: {level:.0%} t-intervals over the base's seeds, or over samples"
    named = {"cosines": "no fine-tuning (cosines)", NO_ADAPTATION: "no adaptation"} | dict(names)
    return _intervals(table, "finetuning", title, f"Pearson's r ({note})", named, zero=False)


def _gains(table: pd.DataFrame, rows: str, title: str, note: str, names: Names) -> Figure:
    return _intervals(table, rows, title, f"Pearson's r, adapted − base ({note})", names, zero=True)


def _intervals(table: pd.DataFrame, rows: str, title: str, label: str, names: Names, *, zero: bool) -> Figure:
    """Estimates with intervals: a line per value of `rows`, a marker per adaptation."""
    lines, ways = list(dict.fromkeys(table[rows])), list(dict.fromkeys(sorted(table["adaptation"])))
    figure, axis = plt.subplots(figsize=(8.2, 1.4 + 0.32 * len(lines)))
    for number, way in enumerate(ways):
        part = table[table["adaptation"] == way].set_index(rows).loc[lines]
        mean, low, high = part[["estimate", "low", "high"]].to_numpy().T
        heights = np.arange(len(lines)) + STEP * (number - (len(ways) - 1) / 2)
        colour = BASE_COLOUR if way == NO_ADAPTATION else COLOURS[number % len(COLOURS)]
        bars = np.maximum([mean - low, high - mean], 0)
        axis.errorbar(
            mean, heights, xerr=bars, fmt=MARKERS[number % len(MARKERS)], color=colour, label=names.get(way, way),
            markersize=5, capsize=2,
        )  # fmt: skip
    if zero:
        axis.axvline(0, color="0.3", linewidth=1)
    axis.set_yticks(range(len(lines)), [names.get(line, line) for line in lines])
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set(xlabel=label)
    axis.legend(title="adaptation", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.set_title(title, loc="left")
    figure.tight_layout()
    return close_figure(figure)
