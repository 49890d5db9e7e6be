"""Figures of mixed models: effects, variance shares, groups, residuals, power. Each returns the Figure."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm, probplot
from scipy.stats import t as student

from labutils.core.figures import close_figure, finish_figure
from labutils.core.options import suggest
from labutils.multilevel.model import MultilevelModel
from labutils.multilevel.resampling import Bootstrap

_COLOURS = sns.color_palette("colorblind", 10)
SMALL_SHARE = 0.01  # below which the axis of shares is linear
COMPONENTS = {
    "f1": ("fixed effects within groups (f1)", _COLOURS[0]),
    "f2": ("fixed effects between groups (f2)", _COLOURS[2]),
    "f": ("fixed effects (f)", _COLOURS[9]),
    "v": ("slopes that vary (v)", _COLOURS[1]),
    "m": ("unexplained group means (m)", _COLOURS[4]),
    "residual": ("residual", (0.8, 0.8, 0.8)),
}


def fixed_effects_forest(
    models: Mapping[str, MultilevelModel],
    *,
    title: str,
    names: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> Figure:
    """Fixed effects but the intercept, with their t-intervals (Satterthwaite); one colour per model.

    >>> fixed_effects_forest({"M1": sequence["M1"], "M3": sequence["M3"]}, title="Effects on the score")

    Args:
        models: label → model; terms that several models have share a line.
        names: what to call the terms.
    """
    tables = {label: model.fixed.drop(index="(Intercept)", errors="ignore") for label, model in models.items()}
    terms = list(dict.fromkeys(term for table in tables.values() for term in table.index))
    figure, axis = plt.subplots(figsize=(8, 1.4 + 0.36 * len(terms)))
    for number, (label, table) in enumerate(tables.items()):
        half = table["se"] * student.ppf((1 + level) / 2, table["df"])
        heights = [terms.index(term) + 0.16 * (number - (len(tables) - 1) / 2) for term in table.index]
        axis.errorbar(
            table["estimate"], heights, xerr=half, fmt="o", color=_COLOURS[number % 10], capsize=2, markersize=5,
            label=label,
        )  # fmt: skip
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set_yticks(range(len(terms)), [(names or {}).get(term, term) for term in terms])
    axis.set_ylim(len(terms) - 0.5, -0.5)
    response = next(iter(models.values())).design.response
    axis.set(xlabel=f"effect on {response} per unit of the predictor, {level:.0%} t-interval")
    if len(tables) > 1:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.set_title(title, loc="left")
    return close_figure(figure)


def variance_share_bars(intervals: Bootstrap, *, title: str) -> Figure:
    """Stacked bars of the variance shares of one model, and beside them each share of the total with its interval.

    >>> variance_share_bars(bootstrap(model), title="Shares of the variance of the score")

    Args:
        intervals: a bootstrap of `shares`.
    """
    table = intervals.table
    variances = list(dict.fromkeys(name for name, _ in table.index))
    present = {component for _, component in table.index}
    kinds = [kind for kind in COMPONENTS if kind in present and not (kind == "f" and "f1" in present)]
    figure, (bars, dots) = plt.subplots(
        1, 2, figsize=(11, 1.4 + 0.45 * max(len(variances), len(kinds))), width_ratios=[3, 2]
    )
    for row, variance in enumerate(variances):
        left = 0.0
        for kind in kinds:
            share = table["estimate"].get((variance, kind), 0.0)
            bars.barh(row, share, left=left, height=0.62, color=COMPONENTS[kind][1])
            left += share
    bars.set_yticks(range(len(variances)), [f"{variance} variance" for variance in variances])
    bars.invert_yaxis()
    bars.grid(visible=False, axis="y")
    bars.set(xlabel="share", xlim=(0, 1))
    for row, kind in enumerate(kinds):
        estimate, low, high = table.loc[("total", kind)]
        dots.plot([low, high], [row, row], color="0.3", linewidth=1.4, marker="|", markersize=9)
        dots.plot(estimate, row, "s", color=COMPONENTS[kind][1], markeredgecolor="0.3", markersize=9)
    dots.set_yticks(range(len(kinds)), [COMPONENTS[kind][0] for kind in kinds])
    dots.yaxis.tick_right()
    dots.set_ylim(len(kinds) - 0.5, -0.5)
    dots.set_xscale("symlog", linthresh=SMALL_SHARE, linscale=0.4)  # shares of one and of eighty per cent on one axis
    dots.set_xlim(-0.001, 1)
    dots.set_xticks([0, SMALL_SHARE, 0.1, 1], ["0", f"{SMALL_SHARE:g}", "0.1", "1"])
    dots.set_xticks([], minor=True)
    dots.set(xlabel=f"share of the total, {intervals.level:.0%} interval\n(logarithmic above {SMALL_SHARE:g})")
    return finish_figure(figure, title)


def caterpillar(
    model: MultilevelModel, *, title: str, term: str = "(Intercept)", group: str | None = None, level: float = 0.95
) -> Figure:
    """Predicted random coefficients of one term, sorted, with conditional normal intervals.

    >>> caterpillar(model, title="What adaptation does per sample", term="adaptation", group="sample")

    Args:
        group: grouping factor; without it the first one.

    Raises:
        LookupError: a grouping factor, or a varying term, that the model does not have.
    """
    group = model.design.groupings[0].name if group is None else group
    _known(group, list(model.covariances), "grouping factor")
    _known(term, list(model.covariances[group].index), f"term varying over {group!r}")
    rows = model.blups.loc[group].xs(term, level="term").sort_values("estimate")
    figure, axis = plt.subplots(figsize=(7, 1.4 + min(0.22 * len(rows), 9)))
    axis.errorbar(
        rows["estimate"], range(len(rows)), xerr=norm.ppf((1 + level) / 2) * rows["se"], fmt="o", markersize=4,
        color=_COLOURS[0], ecolor="0.55",
    )  # fmt: skip
    axis.axvline(0, color="0.3", linewidth=1)
    labels = [str(label) for label in rows.index] if len(rows) <= 60 else [""] * len(rows)
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.grid(visible=False, axis="y")
    what = f"mean {model.design.response}" if term == "(Intercept)" else f"effect of {term}"
    axis.set(xlabel=f"{what}: deviation from the fixed effects, {level:.0%} conditional interval", ylabel=group)
    axis.set_title(title, loc="left")
    return close_figure(figure)


def residual_plots(model: MultilevelModel, *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Residuals against fitted values, and normal quantile plots of residuals and of every varying term.

    >>> residual_plots(model, title="Residuals of M3")

    Args:
        names: what to call the terms that vary.
    """
    varying = [(group, term) for group, table in model.covariances.items() for term in table.index]
    panels = 2 + len(varying)
    columns = min(panels, 3)
    lines = -(-panels // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(1 + 3.8 * columns, 0.6 + 3.2 * lines), squeeze=False)
    for spare in axes.flat[panels:]:
        spare.set_visible(False)
    first, second, *others = axes.flat[:panels]
    first.scatter(model.fitted, model.pearson_residuals, s=8, alpha=0.5, color=_COLOURS[0])
    first.axhline(0, color="0.3", linewidth=1)
    residual = "residual" if model.design.weights is None else "√w · residual"
    first.set(xlabel=f"fitted {model.design.response}", ylabel=residual, title="residuals")
    _quantiles(second, model.pearson_residuals / np.sqrt(model.residual_variance), f"{residual}s / σ")
    for axis, (group, term) in zip(others, varying, strict=True):
        predicted = model.blups.loc[group].xs(term, level="term")["estimate"].to_numpy()
        _quantiles(axis, predicted, f"{(names or {}).get(term, term)} over {group}")
    return finish_figure(figure, title)


def recovery_plot(found: pd.DataFrame, *, title: str, level: float = 0.95) -> Figure:
    """How simulated studies recover what was planted: coverage of the intervals, mean estimates beside the truth.

    >>> recovery_plot(recovery(truth, features), title="What 200 simulated studies find")

    Args:
        found: rows of `recovery`; the intercept is left out.
        level: of the intervals whose coverage it tells.
    """
    rows = found.loc["fixed"].drop(index="(Intercept)", errors="ignore")
    heights = range(len(rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.6 + 0.34 * len(rows)), sharey=True)
    below, above = rows["coverage"] - rows["coverage_low"], rows["coverage_high"] - rows["coverage"]
    left.errorbar(rows["coverage"], heights, xerr=[below, above], fmt="o", capsize=2, markersize=5, color=_COLOURS[0])
    left.axvline(level, color="0.3", linewidth=1, linestyle="--")
    left.set(xlabel=f"share of {level:.0%} intervals\nthat hold the truth", xlim=(min(0.85, left.get_xlim()[0]), 1.005))
    left.set_yticks(heights, rows.index)
    left.set_ylim(len(rows) - 0.5, -0.5)
    half = norm.ppf((1 + level) / 2) * rows["bias_se"]
    right.plot(rows["truth"], heights, "D", markerfacecolor="none", markersize=8, color="0.3", label="planted")
    right.errorbar(rows["mean"], heights, xerr=half, fmt="o", capsize=2, markersize=4, color=_COLOURS[2], label="found")
    right.axvline(0, color="0.3", linewidth=1)
    right.set(xlabel=f"effect: mean over the studies,\n{level:.0%} interval of the simulation")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return finish_figure(figure, title)


def power_curves(power: pd.DataFrame, *, title: str, target: float = 0.8, mark: int | None = None) -> Figure:
    """Power against the number of samples, one curve per text feature, from the rows of `text_effect_power`.

    >>> power_curves(text_effect_power(truth, [20, 40, 80]), title="Power to see a text effect", mark=40)

    Args:
        mark: the number of samples of the study at hand, which gets a line.
    """
    figure, axis = plt.subplots(figsize=(7, 4))
    for number, (feature, rows) in enumerate(power.groupby("feature", sort=False)):
        rows = rows.sort_values("n_samples")
        below, above = rows["power"] - rows["low"], rows["high"] - rows["power"]
        axis.errorbar(
            rows["n_samples"] * 1.02**number, rows["power"], yerr=[below.clip(lower=0), above.clip(lower=0)],
            marker="o", capsize=2, color=_COLOURS[number % 10], label=str(feature),
        )  # fmt: skip
    axis.axhline(target, color="0.3", linewidth=1, linestyle="--")
    if mark is not None:
        axis.axvline(mark, color="0.6", linewidth=6, alpha=0.4, zorder=0, label=f"this study: {mark} samples")
    axis.set_xscale("log")
    axis.set_xticks(sorted(power["n_samples"].unique()), sorted(power["n_samples"].unique()))
    axis.set_xticks([], minor=True)
    axis.set(xlabel="samples of texts", ylabel="power (bars: 95 % Wilson interval)", ylim=(0, 1.02))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.set_title(title, loc="left")
    return close_figure(figure)


def _quantiles(axis: Axes, values: np.ndarray, title: str) -> None:
    (theoretical, ordered), (slope, intercept, _) = probplot(values)
    axis.scatter(theoretical, ordered, s=8, alpha=0.5, color=_COLOURS[0])
    axis.plot(theoretical, intercept + slope * theoretical, color="0.3", linewidth=1)
    axis.set(xlabel="normal quantile", ylabel="quantile", title=title)


def _known(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise LookupError(f"The model has no {what} {name!r}.{suggest(name, known)} It has {', '.join(known)}.")
