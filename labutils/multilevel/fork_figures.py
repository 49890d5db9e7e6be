"""Figures of analyses that were done in several ways: a specification curve, and a ratio over ranges."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from labutils.core.figures import finish_figure
from labutils.multilevel.forks import RangeRatio

# brown, cyan and grey: the other colours stand for methods in other notebooks
_COLOURS = [sns.color_palette("colorblind", 10)[number] for number in (5, 9, 7, 6, 8)]
MARKERS = "osD^v"


def specification_plot(
    curve: pd.DataFrame, *, title: str, names: Mapping[str, str] | None = None, judged: tuple[str, str] | None = None
) -> Figure:
    """Every effect under every specification, with its interval, above the choices that make the specification.

    >>> specification_plot(curve, title="Does the outcome depend on the model?")

    Args:
        curve: rows of `specification_curve`.
        names: what to call effects and covariates.
        judged: score and covariates of the specification that a claim is judged on; it is shaded.
    """
    names = names or {}
    specifications = list(dict.fromkeys(zip(curve["score"], curve["covariates"], strict=True)))
    effects = list(dict.fromkeys(curve["effect"]))
    choices = list(dict.fromkeys(curve["score"])) + [f"with {name}" for name in dict.fromkeys(curve["covariates"])]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8.2, 3.4 + 0.28 * len(choices)), sharex=True, height_ratios=[3, 0.35 * len(choices)]
    )
    for number, effect in enumerate(effects):
        rows = curve[curve["effect"] == effect].set_index(["score", "covariates"]).loc[specifications]
        places = np.arange(len(rows)) + 0.18 * (number - (len(effects) - 1) / 2)
        spread = [rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]]
        above.errorbar(
            places, rows["estimate"], yerr=spread, fmt=MARKERS[number % 5], color=_COLOURS[number % 5], capsize=2,
            markersize=5, label=names.get(effect, effect),
        )  # fmt: skip
    above.axhline(0, color="0.3", linewidth=1)
    above.set(ylabel="SD of the score\nper SD of the feature")
    above.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for place, (score, covariates) in enumerate(specifications):
        taken = [choices.index(score), choices.index(f"with {covariates}")]
        below.plot([place] * 2, taken, "o", color="0.3")
        if (score, covariates) == judged:
            for axis in (above, below):
                axis.axvspan(place - 0.5, place + 0.5, color="0.9", zorder=0)
    labels = [_choice(choice, names) for choice in choices]
    below.set_yticks(range(len(choices)), labels)
    below.set_ylim(len(choices) - 0.5, -0.5)
    below.set_xticks([])
    below.grid(visible=False)
    note = "bars: 95 % intervals" + ("; shaded: the specification that is judged" if judged else "")
    return finish_figure(figure, title, note)


def ratio_forest(found: Mapping[str, RangeRatio], *, title: str, margin: float) -> Figure:
    """The ratio of two shares of variance for every range, on a logarithmic axis, the margin of equality as a band.

    >>> ratio_forest(ratio_over_ranges(ranges, text), title="Hyperparameters against text", margin=0.405)

    Args:
        found: from `ratio_over_ranges`; ranges without a ratio have a line without a mark.
        margin: as a log ratio.
    """
    figure, axis = plt.subplots(figsize=(8.2, 1.6 + 0.4 * len(found)))
    for place, one in enumerate(found.values()):
        if one.ratio.defined:
            axis.plot(np.exp([one.ratio.low, one.ratio.high]), [place] * 2, color=_COLOURS[0], linewidth=2)
            axis.plot(np.exp(one.ratio.estimate), place, "o", color=_COLOURS[0])
    axis.axvspan(np.exp(-margin), np.exp(margin), color="0.88", zorder=0)
    axis.axvline(1, color="0.3", linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    sizes = [f"{name} ({one.finetunings} fine-tunings)" for name, one in found.items()]
    axis.set_yticks(range(len(found)), sizes)
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set(xlabel="variance explained by hyperparameters / by text features")
    band = f"band: a factor of {np.exp(margin):.2g} either way"
    return finish_figure(figure, title, f"bars: 95 % intervals of a parametric bootstrap; {band}", note_height=-0.04)


def _choice(choice: str, names: Mapping[str, str]) -> str:
    if not choice.startswith("with "):
        return choice
    parts = choice.removeprefix("with ").split(", ")
    return "no covariate" if parts == ["none"] else "with " + ", ".join(names.get(part, part) for part in parts)
