"""The picture of the ladder: a claim's effect against the size of the model, with the seeds of every recipe."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure

COLUMNS = 4
MARKS = {"llama": ("#0072b2", "o"), "gpt2": ("#d55e00", "s"), "opt": ("#009e73", "^")}
OTHER = ("0.4", "D")


def effects_by_size(effects: pd.DataFrame, over_seeds: pd.DataFrame, *, claims: Sequence[str], title: str) -> Figure:
    """A panel per claim: every rung a mark, the mean over the seeds of a recipe with its interval beside them.

    >>> effects_by_size(effects, effects_over_seeds(effects), claims=["C01", "C05"], title="Seeds and sizes")
    """
    n_rows = -(-len(claims) // COLUMNS)
    figure, axes = plt.subplots(n_rows, COLUMNS, figsize=(11, 2.9 * n_rows), sharex=True, squeeze=False)
    for axis, name in zip(axes.flat, claims, strict=False):
        own, means = (frame[frame["claim"] == name] for frame in (effects, over_seeds))
        for architecture, part in own.groupby("architecture", sort=False):
            colour, mark = MARKS.get(architecture, OTHER)
            for shipped, rungs in part.groupby("shipped"):
                look = {"mfc": "none", "ms": 7} if shipped else {"alpha": 0.45, "ms": 4, "label": architecture}
                axis.plot(rungs["parameters"] / 1e6, rungs["share"], mark, color=colour, **look)
            mine = means[means["recipe"].isin(part["recipe"])].sort_values("parameters")
            reach = [mine["share"] - mine["share_low"], mine["share_high"] - mine["share"]]
            axis.errorbar(
                mine["parameters"] / 1e6 * 1.12, mine["share"], yerr=reach, fmt=mark, color=colour, capsize=3, ms=6
            )
        axis.axhspan(-1, 1, color="0.88", zorder=0)
        axis.axhline(0, color="0.3", linewidth=1)
        axis.set(title=name, xscale="log")
        ticks = sorted({round(each, 2) for each in effects["parameters"] / 1e6})
        axis.set_xticks(ticks, [f"{each:g}" for each in ticks], rotation=45)
        axis.minorticks_off()
    for axis in axes.flat[len(claims) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("↑ as claimed\n(% of the dense loss)")
    figure.supxlabel("million parameters", fontsize="medium")
    note = (
        "Pale: single seeds. Full, a little to the right: mean over seeds, 95 % t interval. "
        "Hollow: shipped models, which read more. Band: ±1 % of the loss."
    )
    return finish_figure(figure, title, note, legend_of=axes.flat[0])
