"""The same question asked in other ways: other covariates and scores, other ranges of the hyperparameters.

A result that changes with a choice that the claim leaves open belongs to the choice (Steegen et al. 2016, Perspectives
on Psychological Science 11(5), on multiverse analysis; Simonsohn, Simmons & Nelson 2020, Nature Human Behaviour 4, on
specification curves).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import pandas as pd
from scipy.stats import t as student

from labutils.multilevel.judging import share_ratio, smallest_effect, standardised_effects
from labutils.multilevel.resampling import bootstrap
from labutils.multilevel.sequence import FACTORS, GROUP, ModelSequence, fit_sequence, study_table
from labutils.stats.bootstrap import Interval

SCORES = {"Pearson's r": ("pearson", False), "Fisher's z of r": ("pearson", True), "Spearman's ρ": ("spearman", False)}
SMALLEST = "the smaller of them"


class RangeRatio(NamedTuple):
    """What one range of hyperparameters gives: `ratio` is the log of f1 over f2, shares of the total variance."""

    ratio: Interval
    finetunings: int
    runs: int
    f1: float
    f2: float


def specification_curve(
    runs: pd.DataFrame,
    signs: Mapping[str, float | int],
    covariates: Sequence[str],
    *,
    scores: Mapping[str, tuple[str, bool]] = SCORES,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The standardised effects of M3 under every set of covariates and every way to measure the score.

    >>> specification_curve(runs, {"complexity": -1, "term_share": 1}, ["abstract_length"])

    Args:
        runs: rows of `run_study`.
        signs: text feature → sign, as for `standardised_effects`; these are in every model.
        covariates: further text features, of which every subset is taken in turn, none of them first.
        scores: name → (column, whether Fisher's z of it is taken).
        alpha: as for `fit_sequence`.

    Returns:
        a row per specification and effect, then one for the smaller of them: ``score, covariates`` ("none", or their
        names), ``effect, estimate, low, high``; standard deviations of the score per standard deviation.

    Raises:
        LookupError, ValueError: as `study_table` and `fit_sequence`.
    """
    sets = [chosen for size in range(len(covariates) + 1) for chosen in combinations(covariates, size)]
    rows = []
    for score, (column, fisher) in scores.items():
        for chosen in sets:
            model = fit_sequence(study_table(runs, [*signs, *chosen], outcome=column, fisher=fisher), alpha=alpha)["M3"]
            about = {"score": score, "covariates": ", ".join(chosen) or "none"}
            table = standardised_effects(model, signs)
            half = table["se"] * student.ppf((1 + level) / 2, table["df"])
            for term, effect in table["estimate"].items():
                limits = {"low": effect - half[term], "high": effect + half[term]}
                rows.append(about | {"effect": term, "estimate": effect} | limits)
            least = smallest_effect(model, signs, level=level, seed=seed)
            limits = {"estimate": least.estimate, "low": least.low, "high": least.high}
            rows.append(about | {"effect": SMALLEST} | limits)
    return pd.DataFrame(rows)


def ratio_over_ranges(
    ranges: Mapping[str, pd.DataFrame],
    text: Sequence[str],
    *,
    outcome: str = "pearson",
    alpha: float = 0.05,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, RangeRatio]:
    """How the variance that hyperparameters explain compares with that of the text, range by range.

    >>> ratio_over_ranges({"all": runs, "one epoch": some}, ["complexity", "term_share"])["all"].ratio

    How much variance a factor explains depends on how far it was varied, so the ratio is one for every range.

    Args:
        ranges: name → the runs whose configurations lie in that range.
        text: text features, as for `study_table`.
        n_resamples: of the parametric bootstrap.

    Returns:
        for every range, the ratio with its interval (undefined, with the reason, where the range holds fewer than two
        configurations, or neither hyperparameters nor text explain anything), and what it is made of.

    Raises:
        LookupError, ValueError: as `study_table` and `fit_sequence`.
    """
    found = {}
    for name, runs in ranges.items():
        adapted = runs[runs["adaptation"] != "none"]
        size = {"finetunings": adapted["finetuning"].nunique(), "runs": len(adapted)}
        if adapted.empty or all(adapted[factor].nunique() < 2 for factor in FACTORS):
            reason = f"the range {name!r} holds {size['finetunings']} fine-tunings of this study: nothing varies"
            found[name] = RangeRatio(Interval.undefined(reason, units=("run", GROUP)), **size, f1=0.0, f2=0.0)
            continue
        sequence = fit_sequence(study_table(runs, text, outcome=outcome), alpha=alpha)
        boot = bootstrap(sequence["M3"], n_resamples=n_resamples, seed=seed)
        shares = {share: float(boot.table.loc[("total", share), "estimate"]) for share in ("f1", "f2")}
        ratio = share_ratio(boot, "f1", "f2", sequence["M3"])
        if not explains_anything(sequence, alpha):
            nothing = "neither hyperparameters nor text features explain anything of the score: their ratio is empty"
            ratio = Interval.undefined(nothing, units=("run", GROUP))
        found[name] = RangeRatio(ratio, **size, **shares)
    return found


def explains_anything(sequence: ModelSequence, alpha: float = 0.05) -> bool:
    """Whether hyperparameters or text features are seen in the score, by the tests of M1 and M3.

    >>> explains_anything(fit_sequence(table))
    """
    p = sequence.steps.set_index("step")["p"]
    return bool(min(p["hyperparameters"], p["text features"]) < alpha)
