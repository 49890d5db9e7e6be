"""The forest of a ledger: every verdict's effect on one axis, in units of its claim's margin."""

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labutils.claims.ledger_summary import effects_in_margins
from labutils.claims.outcomes import NEGLIGIBLE
from labutils.core.figures import close_figure

_COLOURS = sns.color_palette("colorblind", 10)
# One meaning for every kind of claim: green holds, orange does not; the others say that it is neither.
OUTCOME_COLOURS = {
    "supported": _COLOURS[2],
    "contradicted": _COLOURS[3],
    NEGLIGIBLE: _COLOURS[4],
    "equivalent": _COLOURS[0],
    "inconclusive": (0.55, 0.55, 0.55),
}
LEGEND = {"supported": "holds", "contradicted": "does not hold"}  # the other outcomes have their own names
AXIS = (
    "effect in units of the claim's margin (grey: too small to matter), 95 % interval\n← against the claim | for it →"
)


def effect_forest(ledger: pd.DataFrame, *, title: str) -> Figure:
    """Verdicts of a ledger as intervals, each divided by its claim's margin so that unlike units share one axis.

    >>> effect_forest(lab.ledger("results/full"), title="Effects in units of their margins")

    Effects lie to the right where they speak for the claim, and those that an equivalence denies to the left. A note
    names the verdicts that have no such effect, and why.
    """
    effects = effects_in_margins(ledger)
    shown = effects[effects["absent"] == ""].reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(8, 1.6 + 0.5 * len(shown)))
    for row in shown.itertuples():
        colour = OUTCOME_COLOURS[row.outcome]
        axis.plot([row.low, row.high], [row.Index] * 2, color=colour, linewidth=2)
        axis.plot(row.estimate, row.Index, "o", color=colour)
    axis.axvspan(-1, 1, color="0.9", zorder=0)
    axis.axvline(0, color="0.3", linewidth=1)
    labels = [
        "\n".join(textwrap.wrap(f"{claim}  {name}", 52))
        for claim, name in zip(shown["claim"], shown["name"], strict=True)
    ]
    axis.set_yticks(range(len(shown)), labels)
    axis.set_xscale("symlog", linthresh=1)
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.invert_yaxis()
    axis.set_xlabel(AXIS)
    axis.set_title(title, loc="left")
    present = [outcome for outcome in OUTCOME_COLOURS if outcome in set(shown["outcome"])]
    keys = [Line2D([], [], color=OUTCOME_COLOURS[outcome], marker="o") for outcome in present]
    names = [LEGEND.get(outcome, outcome) for outcome in present]
    figure.legend(keys, names, loc="upper left", bbox_to_anchor=(0.9, 0.88), frameon=False)
    if note := absent_effects(effects):
        figure.text(0.01, -0.01, textwrap.fill(note, 110), fontsize=9, color="0.35", va="top")
    return close_figure(figure)


def absent_effects(effects: pd.DataFrame) -> str:
    """Which verdicts are not in the figure, and why; "" where all are.

    >>> absent_effects(lab.claims.effects_in_margins(lab.ledger("results/full")))
    'Not in the figure: no margin C09, C23; a slope over sparsity C03.'
    """
    absent = effects[effects["absent"] != ""]
    reasons = [f"{reason} {', '.join(part['claim'])}" for reason, part in absent.groupby("absent", sort=False)]
    return f"Not in the figure: {'; '.join(reasons)}." if reasons else ""
