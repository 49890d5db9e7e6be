"""What each claim comes to on each rung, over the seeds of a recipe, and from one size to the next."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import linregress, t

from labutils.claims.registry import claim, judge
from labutils.ladder.study import ALLOCATION, LadderRows
from labutils.stats.bootstrap import crossed_bootstrap, slope
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import paired_differences
from labutils.stats.tables import interval_table

CLAIMS = ("C01", "C02", "C03", "C04", "C05", "C16", "C17")
HALF = 0.5  # the share of zeros of C16 and C17
ABOUT = ["recipe", "seed", "shipped", "architecture", "parameters"]
PAIRED_ON = ("model", "sparsity", "draw", "item")


def claim_differences(losses: pd.DataFrame, *, low: float, high: float) -> Mapping[str, pd.DataFrame]:
    """Paired differences for every claim, signed as its `quantity` in data/claims.yaml.

    >>> claim_differences(rows.losses, low=0.4, high=0.6)["C05"]["value"].mean()

    Args:
        losses: of `LadderRows`.
        low: highest sparsity of the low grid. high: lowest of the high grid.

    Returns:
        claim → ``model, contrast, sparsity, draw, item, value``, in nats per token.

    Raises:
        ValueError: an arm or a grid without a sparsity is missing.
    """
    uneven = {score: (f"{score}/uniform", f"{score}/{ALLOCATION}") for score in ("ria", "sparsegpt")}
    uneven_gain = _gain(losses, uneven)
    repair = _gain(losses, {"repair": ("ria/uniform", "sparsegpt/uniform")})
    at_half = losses[(losses["sparsity"] - HALF).abs() < 1e-9]
    found = {
        "C01": _negative(uneven_gain[uneven_gain["sparsity"] <= low]),
        "C02": uneven_gain[uneven_gain["sparsity"] >= high],
        "C03": uneven_gain,
        "C04": _negative(repair[repair["sparsity"] <= low]),
        "C05": repair[repair["sparsity"] >= high],
        "C16": _gain(at_half, {"activations": ("magnitude/uniform", "wanda/uniform")}),
        "C17": _gain(at_half, {"keeps up": ("sparsegpt/uniform", "wanda/uniform")}),
    }
    if empty := [name for name, frame in found.items() if frame.empty]:
        raise ValueError(
            f"no sparsities for {', '.join(empty)}: the low grid ends at {low:g}, the high one begins at {high:g}"
        )
    return found


def rung_effects(rows: LadderRows, *, low: float, high: float) -> pd.DataFrame:
    """The judged number of every claim on every rung, with its interval over items and calibration draws.

    >>> rung_effects(rows, low=0.4, high=0.6).query("claim == 'C05'")

    Returns:
        ``claim, model, recipe, seed, shipped, architecture, parameters, dense, estimate, low, high``: the last four in
        nats per token (C03 in nats per unit of sparsity); and ``share``, the estimate in per cent of the model's dense
        loss, in which models of different ability can be compared and margins of one per cent are 1.
    """
    dense = rows.losses[rows.losses["arm"] == "dense"].groupby("model")["loss"].mean().rename("dense")
    frames = []
    for name, differences in claim_differences(rows.losses, low=low, high=high).items():
        grid = sorted(differences["sparsity"].unique())
        options = {"statistic": slope(grid)} if name == "C03" else {}
        table = interval_table(
            differences,
            ["model"],
            crossed_bootstrap,
            cells=["contrast", "sparsity"],
            strata=[],
            n_resamples=2000,
            **options,
        )
        frames.append(table.assign(claim=name))
    about = rows.runs.set_index("model")[ABOUT]
    effects = pd.concat(frames, ignore_index=True).join(about, on="model").join(dense, on="model")
    effects["share"] = 100 * effects["estimate"] / effects["dense"]
    return effects[["claim", "model", *ABOUT, "dense", "estimate", "low", "high", "share"]]


def effects_over_seeds(effects: pd.DataFrame) -> pd.DataFrame:
    """Over the seeds of every recipe: the mean effect with its interval, and how many seeds point the claim's way.

    >>> effects_over_seeds(rung_effects(rows, low=0.4, high=0.6))

    The seed is the unit: Student's t over the seeds' estimates (`interval_over_units`). The outcome is that of
    `lab.judge` for this interval with the mean dense loss of the seeds. Shipped models, which read more, do not count.

    Returns:
        one row per claim and recipe of at least two seeds: ``claim, recipe, parameters, seeds, estimate, low, high``
        (nats), ``share, share_low, share_high`` (per cent of the dense loss), ``holds`` (seeds on which the estimate
        lies where the claim holds) and ``outcome``.
    """
    found = []
    for (name, recipe), part in trained(effects).groupby(["claim", "recipe"], sort=False):
        if len(part) < 2:
            continue
        interval, shares = (interval_over_units(part, unit="model", value=value) for value in ("estimate", "share"))
        dense = part["dense"].mean()
        verdict = judge(name, interval=interval, dense_loss=dense, scope={"model": recipe})
        margin = claim(name).margin.value * part["dense"]
        regions = [claim(name).region(own) for own in margin]
        inside = [lowest < one <= highest for (lowest, highest), one in zip(regions, part["estimate"], strict=True)]
        found.append({
            "claim": name, "recipe": recipe, "parameters": int(part["parameters"].iloc[0]), "seeds": len(part),
            "estimate": interval.estimate, "low": interval.low, "high": interval.high,
            "share": shares.estimate, "share_low": shares.low, "share_high": shares.high,
            "holds": sum(inside), "outcome": verdict.outcome,
        })  # fmt: skip
    return pd.DataFrame(found)


def size_trends(effects: pd.DataFrame, recipes: Sequence[str], *, level: float = 0.95) -> pd.DataFrame:
    """How a claim's effect, in per cent of the dense loss, changes with every doubling of the model.

    >>> size_trends(effects, ["lab-llama-0.25m", "lab-llama", "lab-llama-4m"])

    A line through the seeds of all sizes over the logarithm of the parameters to base 2, each seed a point; its
    interval is that of least squares with n − 2 degrees of freedom.

    Raises:
        ValueError: fewer than two sizes, or than three rungs.
    """
    part = trained(effects[effects["recipe"].isin(recipes)])
    found = []
    for name, own in part.groupby("claim", sort=False):
        if own["parameters"].nunique() < 2 or len(own) < 3:
            raise ValueError(f"a trend needs three rungs of at least two sizes, got {', '.join(own['model'])}")
        line = linregress(np.log2(own["parameters"].to_numpy(dtype=float)), own["share"].to_numpy())
        reach = t.ppf((1 + level) / 2, len(own) - 2) * line.stderr
        found.append(
            {
                "claim": name,
                "rungs": len(own),
                "per doubling": line.slope,
                "low": line.slope - reach,
                "high": line.slope + reach,
            }
        )
    return pd.DataFrame(found)


def shipped_beside_seeds(effects: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Whether a shipped model, which read more, does what one more seed of the shorter training would do.

    >>> shipped_beside_seeds(rung_effects(rows, low=0.4, high=0.6)).query("~inside")

    The interval is that in which Student's t expects the effect of a further seed, mean ± t · s · √(1 + 1/n) with n − 1
    degrees of freedom.

    Returns:
        a row per claim and recipe that has a shipped model and at least two seeds: ``claim, recipe, shipped, low,
        high``, in per cent of each model's dense loss, and ``inside``.
    """
    found = []
    for (name, recipe), part in effects.groupby(["claim", "recipe"], sort=False):
        seeds, shipped = trained(part)["share"], part.loc[part["shipped"], "share"]
        if len(seeds) < 2 or shipped.empty:
            continue
        reach = t.ppf((1 + level) / 2, len(seeds) - 1) * seeds.std() * np.sqrt(1 + 1 / len(seeds))
        low, high, its = seeds.mean() - reach, seeds.mean() + reach, shipped.iloc[0]
        inside = bool(low <= its <= high)
        found.append({"claim": name, "recipe": recipe, "shipped": its, "low": low, "high": high, "inside": inside})
    return pd.DataFrame(found)


def trained(rungs: pd.DataFrame) -> pd.DataFrame:
    """The rungs that were trained for the ladder, without the models that came with the collection."""
    return rungs[~rungs["shipped"].astype(bool)]


def _gain(losses: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Loss of the first arm minus loss of the second, item by item."""
    frames = [
        paired_differences(losses, {"arm": first}, {"arm": second}, on=PAIRED_ON).assign(contrast=name)
        for name, (first, second) in pairs.items()
    ]
    return pd.concat(frames, ignore_index=True)[["model", "contrast", "sparsity", "draw", "item", "value"]]


def _negative(differences: pd.DataFrame) -> pd.DataFrame:
    return differences.assign(value=-differences["value"])
