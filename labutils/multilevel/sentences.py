"""What the figures of mixed models show, in one sentence each, computed from the models."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from labutils.multilevel.figures import COMPONENTS
from labutils.multilevel.forks import SMALLEST, RangeRatio
from labutils.multilevel.model import MultilevelModel
from labutils.multilevel.resampling import Bootstrap

LEVEL = 0.95
LEAST_SHARE = 0.005  # shares below are told as less than this


def describe_effects(model: MultilevelModel, names: Mapping[str, str] | None = None) -> str:
    """Which fixed effects are clear, and which way.

    >>> describe_effects(sequence["M3"])

    Args:
        names: what to call the terms.
    """
    table = model.fixed.drop(index="(Intercept)", errors="ignore")
    half = table["se"] * student.ppf((1 + LEVEL) / 2, table["df"])
    clear = table[(table["estimate"].abs() > half)]
    up, down = (
        [_named(term, names) for term in clear.index[keep]] for keep in (clear["estimate"] > 0, clear["estimate"] < 0)
    )
    return (
        f"Of {len(table)} effects {len(clear)} are clear at {LEVEL:.0%}: {_list(up)} above zero, {_list(down)} below."
    )


def describe_groups(model: MultilevelModel) -> str:
    """How many groups lie beyond what the fixed effects expect of them.

    >>> describe_groups(sequence["M3"])
    """
    group = model.design.groupings[0].name
    rows = model.blups.loc[group].xs("(Intercept)", level="term")
    beyond = int((rows["estimate"].abs() > norm.ppf((1 + LEVEL) / 2) * rows["se"]).sum())
    return (
        f"{beyond} of {len(rows)} {group}s lie clearly beyond what the model expects of them; the farthest deviates by "
        f"{rows['estimate'].abs().max():.3g}."
    )


def describe_shares(intervals: Bootstrap) -> str:
    """The shares of the total variance, largest first.

    >>> describe_shares(bootstrap(model))
    """
    total = intervals.table.loc["total", "estimate"]
    kinds = [kind for kind in COMPONENTS if kind in total.index and not (kind == "f" and "f1" in total.index)]
    told = [
        f"{COMPONENTS[kind][0]} {f'{share:.1%}' if share >= LEAST_SHARE else f'below {LEAST_SHARE:.1%}'}"
        for kind, share in total[kinds].sort_values(ascending=False).items()
    ]
    return f"Of the variance of the score: {', '.join(told)}."


def describe_curve(curve: pd.DataFrame, names: Mapping[str, str] | None = None) -> str:
    """Under how many specifications each effect is clear.

    >>> describe_curve(specification_curve(runs, signs, ["abstract_length"]))

    Args:
        curve: rows of `specification_curve`.
    """
    told = []
    for effect, rows in curve.groupby("effect", sort=False):
        above, below = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
        span = f"{rows['estimate'].min():+.2f} to {rows['estimate'].max():+.2f}".replace("-", "−")
        what = SMALLEST if effect == SMALLEST else _named(effect, names)
        told.append(f"{what} is clearly positive in {above} and clearly negative in {below} ({span})")
    return f"Of {len(rows)} specifications, {'; '.join(told)}."


def describe_ranges(found: Mapping[str, RangeRatio], outcomes: Mapping[str, str]) -> str:
    """From where to where the ratio goes over the ranges, and the outcome of each.

    >>> describe_ranges(found, outcomes)

    Args:
        found: from `ratio_over_ranges`.
        outcomes: range → outcome.
    """
    told = "; ".join(f"{name}: {outcome}" for name, outcome in outcomes.items())
    return f"{describe_ratio(found)}. C12 by range: {told}."


def describe_ratio(found: Mapping[str, RangeRatio]) -> str:
    """From where to where the ratio goes over the ranges.

    >>> describe_ratio(found)
    'Hyperparameters explain 2.7 (usual epochs, lower rate) to 31 (all listed) times as much of the variance as …'
    """
    ratios = {name: float(np.exp(one.ratio.estimate)) for name, one in found.items() if one.ratio.defined}
    if not ratios:
        return "In no range do both the hyperparameters and the text explain anything, so there is no ratio"
    ends = dict.fromkeys((min(ratios, key=ratios.get), max(ratios, key=ratios.get)))
    span = " to ".join(f"{ratios[name]:.2g} ({name})" for name in ends)
    return f"Hyperparameters explain {span} times as much of the variance as the text does"


def describe_residuals(model: MultilevelModel) -> str:
    """Whether residuals fan out, and how far their tails are from normal ones.

    >>> describe_residuals(sequence["M3"])
    """
    fitted, residuals = np.asarray(model.fitted), np.asarray(model.pearson_residuals)
    upper = fitted > np.median(fitted)
    spread = float(residuals[upper].std() / residuals[~upper].std())
    beyond = float((np.abs(residuals) > norm.ppf(0.975) * residuals.std()).mean())
    return (
        f"The residuals of the upper half of the fitted scores spread {spread:.2f} times as far as those of the lower; "
        f"{beyond:.1%} lie beyond 1.96 standard deviations, where 5 % of normal ones do."
    )


def describe_power(power: pd.DataFrame, n_samples: int, target: float = 0.8) -> str:
    """The power with the samples at hand, effect by effect, and the samples that the target would take.

    >>> describe_power(text_effect_power(truth, [12, 30, 96]), 30)

    Args:
        power: rows of `text_effect_power`, with rows for `n_samples`.
    """
    told = []
    for feature, rows in power.groupby("feature", sort=False):
        here = float(rows.loc[rows["n_samples"] == n_samples, "power"].iloc[0])
        enough = rows.loc[rows["power"] >= target, "n_samples"]
        need = f"{enough.min()} samples reach {target:.0%}" if len(enough) else f"no number tried reaches {target:.0%}"
        told.append(f"{feature}: {here:.2f}; {need}")
    return f"Power with the {n_samples} samples of this study — {'. '.join(told)}."


def _named(term: str, names: Mapping[str, str] | None) -> str:
    return (names or {}).get(term, term)


def _list(names: list[str]) -> str:
    return "; ".join(names) if names else "none"
