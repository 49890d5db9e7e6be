"""Figures of the adaptation study: where the samples lie, and what adaptation on each of them changes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from labutils.core.figures import close_figure
from labutils.stats.tables import interval_table

MARKERS = "osD^v"
SIDES = np.array([(22, 10), (22, -10), (-22, 10), (-22, -10), (0, 15), (0, -15)])  # pixels from a point to its name
ROOM = 18  # pixels from a name to other points and names, twice as many sideways
STEP = 0.25  # between the configurations of one sample, in rows


def sample_map(samples: pd.DataFrame, *, title: str) -> Figure:
    """Samples by complexity and by term share, coloured by the length of their sentences; named where there is room.

    >>> sample_map(describe_samples(samples), title="Where the samples lie")

    Args:
        samples: rows of `describe_samples`.
    """
    figure, axis = plt.subplots(figsize=(7.2, 4.6))
    points = axis.scatter(
        samples["complexity"], samples["term_share"], c=samples["sentence_length"], cmap="viridis", s=60, zorder=2
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
    """A name beside every point that has room for one, on the side where it is farthest from other points and names."""
    axis.figure.tight_layout()
    axis.autoscale_view()  # the transformation below is that of the finished axes
    places = axis.transData.transform(samples[["complexity", "term_share"]].to_numpy())
    names: list[np.ndarray] = []
    for number, (row, place) in enumerate(zip(samples.itertuples(), places, strict=True)):
        others = [*np.delete(places, number, axis=0), *names]
        room = [min((np.hypot(*((place + side - other) / (2, 1))) for other in others), default=ROOM) for side in SIDES]
        if max(room) < ROOM:
            continue
        side = SIDES[int(np.argmax(room))]
        names.append(place + side)
        axis.annotate(
            row.sample, (row.complexity, row.term_share), side * 72 / axis.figure.dpi, textcoords="offset points",
            fontsize=8, ha="center", va="center",
        )  # fmt: skip


def gain_by_sample(gains: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """What adaptation on each sample changes, one line per sample, one marker per adaptation.

    >>> gain_by_sample(adaptation_gain(study), title="What adaptation on each sample changes")

    The bars are intervals over sentence pairs, averaged over the fine-tunings; they leave out what other seeds would
    have given.

    Args:
        gains: rows of `adaptation_gain`.
    """
    per_pair = gains.groupby(["draw", "adaptation", "item"], as_index=False)["value"].mean()
    table = interval_table(per_pair, ["draw", "adaptation"], level=level)
    return _gains(table, "draw", title, f"bars: {level:.0%} intervals over pairs")


def gain_by_configuration(gains: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """What adaptation changes under each fine-tuning, one line per fine-tuning, one marker per adaptation.

    >>> gain_by_configuration(adaptation_gain(study), title="What adaptation changes under each fine-tuning")

    Args:
        gains: rows of `adaptation_gain`.
    """
    table = interval_table(gains, ["finetuning", "adaptation"], level=level)
    return _gains(table, "finetuning", title, f"bars: {level:.0%} intervals over pairs, samples and seeds")


def _gains(table: pd.DataFrame, rows: str, title: str, note: str) -> Figure:
    names, ways = list(dict.fromkeys(table[rows])), list(dict.fromkeys(table["adaptation"]))
    figure, axis = plt.subplots(figsize=(7.2, 1.4 + 0.32 * len(names)))
    for number, (way, colour) in enumerate(zip(ways, sns.color_palette("colorblind", len(ways)), strict=True)):
        part = table[table["adaptation"] == way].set_index(rows).loc[names]
        mean, low, high = part[["estimate", "low", "high"]].to_numpy().T
        heights = np.arange(len(names)) + STEP * (number - (len(ways) - 1) / 2)
        marker = MARKERS[number % len(MARKERS)]
        bars = np.maximum([mean - low, high - mean], 0)
        axis.errorbar(mean, heights, xerr=bars, fmt=marker, color=colour, label=way, markersize=5, capsize=2)
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set(xlabel=f"Pearson's r, adapted − base ({note})")
    axis.legend(title="adaptation", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.set_title(title, loc="left")
    figure.tight_layout()
    return close_figure(figure)
