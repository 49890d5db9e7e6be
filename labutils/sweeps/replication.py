"""Do C01 to C05 hold in every setting? Their effects by setting, in units of their margins, and the worst of them.

"Holds over corpora, architectures and languages" is a universal statement: it is judged by the setting in which a claim
does worst, never by how many settings agree.
"""

import numpy as np
import pandas as pd

from labutils.stats.bootstrap import Interval, heterogeneity
from labutils.stats.extremes import lowest_cell
from labutils.sweeps.contrasts import contrast
from labutils.sweeps.over_models import lowest_over_models, model_table

SETTING = ["model", "evaluation"]
SCORES = ("ria", "sparsegpt")


def dense_losses(rows: pd.DataFrame) -> pd.Series:
    """Mean loss of the dense model in every setting, by model and evaluation.

    >>> dense_losses(rows)["lab-llama", "lab:encyclopedic"]
    """
    return rows[rows["arm"] == "dense"].groupby(SETTING, sort=False)["loss"].mean()


def per_dense_loss(differences: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Differences as shares of the dense model's loss in their own setting, so that settings can be compared.

    >>> per_dense_loss(advantage_over(rows, "optiprune", components), rows)
    """
    dense = dense_losses(rows).rename("dense_loss")
    joined = differences.merge(dense, left_on=SETTING, right_index=True, how="left", validate="many_to_one")
    return joined.assign(value=joined["value"] / joined["dense_loss"]).drop(columns="dense_loss")


def claim_effects(rows: pd.DataFrame, *, low: float, high: float, margin: float, rule: str = "owl") -> pd.DataFrame:
    """The contrasts of C01 to C05 in one frame, signed as the claims say, in units of their margins.

    >>> claim_effects(rows, low=0.4, high=0.6, margin=0.01)

    C01 has a cell for every score and sparsity, since it must hold in each; the others are means, C03 the slope over
    sparsity, which is a weighted sum of the differences.

    Args:
        rows: a sweep with the arms ria and sparsegpt × uniform and `rule`.
        margin: share of the dense model's loss in a setting that counts as one.

    Returns:
        a frame of contrasts with the column `cell`; without rows where an arm is missing, or sparsities for one of the
        five claims, which are judged together.
    """
    keys = ["model", "calibration", "evaluation", "draw", "item"]
    sparsities = set(rows.loc[rows["arm"] != "dense", "sparsity"])
    needed = {f"{score}/{allocation}" for score in SCORES for allocation in ("uniform", rule)}
    if not needed <= set(rows["arm"]) or len(sparsities) < 2 or min(sparsities) > low or max(sparsities) < high:
        return pd.DataFrame(columns=[*keys, "value", "contrast", "cell"])
    spread = contrast(rows, {score: (f"{score}/uniform", f"{score}/{rule}") for score in SCORES})
    repair = contrast(rows, {"sparsegpt": ("ria/uniform", "sparsegpt/uniform")})
    grid = np.array(sorted(spread["sparsity"].unique()))
    weights = dict(zip(grid, (grid - grid.mean()) / np.square(grid - grid.mean()).sum() * len(grid), strict=True))
    few = spread[spread["sparsity"] <= low]
    cells = "C01, " + few["contrast"] + " at " + few["sparsity"].map("{:.0%}".format)
    signed = {
        "C02": spread[spread["sparsity"] >= high],
        "C03": spread.assign(value=spread["value"] * spread["sparsity"].map(weights)),
        "C04": repair[repair["sparsity"] <= low].assign(value=lambda frame: -frame["value"]),
        "C05": repair[repair["sparsity"] >= high],
    }
    frames = [few.assign(value=-few["value"], contrast="C01", cell=cells)[[*keys, "value", "contrast", "cell"]]]
    frames += [
        frame.groupby(keys, as_index=False)["value"].mean().assign(contrast=name, cell=name)
        for name, frame in signed.items()
    ]
    found = per_dense_loss(pd.concat(frames, ignore_index=True), rows)
    return found.assign(value=found["value"] / margin)


def worst_effect(effects: pd.DataFrame) -> pd.DataFrame:
    """The frame that R10 is judged on by `lowest_cell`: above zero where a claim holds.

    >>> lowest_cell(worst_effect(effects), cells=("cell",)).interval

    C01 claims no more than "no worse by the margin", so one margin is added to it.
    """
    return effects.assign(value=effects["value"] + (effects["contrast"] == "C01"))


def worst_claim(effects: pd.DataFrame) -> Interval:
    """What R10 is judged on: the lowest value of `worst_effect` over claims and settings, with its interval.

    >>> lab.judge("R10", interval=worst_claim(effects), scope=scope, unit="margins")

    Undefined of a frame without rows.
    """
    if effects.empty:
        return Interval.undefined("the rows hold no pair of arms and no sparsities for all of C01 to C05")
    return lowest_cell(worst_effect(effects), cells=("cell",)).interval


def effect_table(effects: pd.DataFrame) -> pd.DataFrame:
    """Every claim in every setting, one row each, in margins.

    >>> effect_table(claim_effects(rows, low=0.4, high=0.6, margin=0.01))

    Returns:
        ``claim, model, evaluation, estimate, low, high, error, holds``. C01's is its lowest cell. `holds` is "yes" or
        "no" where the interval lies wholly where the claim holds, or wholly elsewhere, else "unclear".
    """
    found = []
    for (claim, model, evaluation), part in effects.groupby(["contrast", *SETTING], sort=False):
        own = lowest_cell(part, cells=("cell",), n_resamples=2000).interval
        found.append(
            {"claim": claim, "model": model, "evaluation": evaluation, "estimate": own.estimate, "low": own.low,
             "high": own.high, "error": float(own.samples.std(ddof=1)), "holds": _holds(claim, own.low, own.high)}
        )  # fmt: skip
    columns = ["claim", "model", "evaluation", "estimate", "low", "high", "error", "holds"]
    return pd.DataFrame(found, columns=columns).sort_values("claim", kind="stable", ignore_index=True)


def claim_summary(effects: pd.DataFrame) -> pd.DataFrame:
    """Every claim over its settings: how many agree, how far they differ beyond chance, and its effect over models.

    >>> claim_summary(effects)

    Returns:
        ``claim, settings, holds, fails, I²``, and ``estimate, low, high`` over models on the first text that all of
        them were read on, in margins; missing of one model.
    """
    table, found = effect_table(effects), []
    texts = effects.groupby("evaluation", sort=False)["model"].nunique()
    shared = texts.index[texts == effects["model"].nunique()]
    for claim, part in table.groupby("claim"):
        row = {"claim": claim, "settings": len(part), "holds": (part["holds"] == "yes").sum(),
               "fails": (part["holds"] == "no").sum(), "I²": _i_squared(part)}  # fmt: skip
        own = effects[(effects["contrast"] == claim) & effects["evaluation"].isin(shared[:1])]
        over = model_table(lowest_over_models(own, cells=("cell",)))
        over = over[over["model"] == "over models"]
        found.append(row | (over[["estimate", "low", "high"]].iloc[0].to_dict() if len(over) else {}))
    return pd.DataFrame(found, columns=["claim", "settings", "holds", "fails", "I²", "estimate", "low", "high"])


def _i_squared(part: pd.DataFrame) -> float:
    return heterogeneity(part["estimate"], part["error"]).i_squared if (part["error"] > 0).all() else float("nan")


def _holds(claim: str, low: float, high: float) -> str:
    bound = -1.0 if claim == "C01" else 0.0
    return "yes" if low > bound else "no" if high < bound else "unclear"
