"""Which groups an estimate hangs on: the model refitted without each group in turn, and Cook's distance.

    D_j = (b − b₍ⱼ₎)' C⁻¹ (b − b₍ⱼ₎) / p

with the p fixed effects b, their estimated covariance C, and the estimates b₍ⱼ₎ without group j, all variances
estimated anew (Cook 1977, Technometrics 19(1); for mixed models Demidenko & Stukel 2005, Statistics in Medicine 24).
R's influence.ME has this definition; `cooks.distance` of lme4's `influence` is (n − p)/n times it, n the number of
groups left out in turn.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from labutils.core.options import suggest
from labutils.core.progress import progress
from labutils.multilevel.identification import check_identified
from labutils.multilevel.model import MultilevelModel, fit_model


@dataclass(frozen=True)
class Influence:
    """What a model becomes without each group.

    Attributes:
        table: a row per level: rows (how many it has), cooks_distance, lme4_distance (times (n − p)/n, as lme4 has
            it), singular, note (why there is no fit; empty where there is one).
        coefficients: the fixed effects without each level, one column per term; NaN where there is no fit.
        changes: the estimates without the level minus those of all data (dfbeta of lme4's `influence`).
        variances: the residual variance ("residual") and the variances of the random terms ("group: term") without
            each level.
        group: the grouping factor.
    """

    table: pd.DataFrame
    coefficients: pd.DataFrame = field(repr=False)
    changes: pd.DataFrame = field(repr=False)
    variances: pd.DataFrame = field(repr=False)
    group: str


def influence(model: MultilevelModel, group: str | None = None) -> Influence:
    """Leave every level of a grouping factor out in turn, and fit the model to the rest.

    >>> influence(model).table.sort_values("cooks_distance").tail()

    Columns keep the values they have in all data, so that coefficients mean the same: `scale(x)` is not computed anew.
    Fits run through joblib: `with joblib.parallel_config(n_jobs=2)` spreads them over processes.

    Args:
        group: name of the grouping factor, by default the first of the formula.

    Raises:
        LookupError: the model has no such grouping factor.
    """
    known = [grouping.name for grouping in model.design.groupings]
    name = known[0] if group is None else group
    if name not in known:
        raise LookupError(f"The model has no grouping factor {name!r}.{suggest(name, known)} {', '.join(known)}.")
    grouping = model.design.groupings[known.index(name)]
    levels = pd.Index(list(grouping.levels), name=name)
    run = Parallel(return_as="generator")(delayed(_without)(model, name, level) for level in range(len(levels)))
    found = list(progress(run, total=len(levels), description=f"without each {name}", unit="level"))
    terms = list(model.design.terms)
    coefficients = pd.DataFrame([each.coefficients for each in found], index=levels, columns=terms)
    changes = coefficients - model.coefficients
    # D = |C^(-1/2) change|² / p
    half = np.linalg.solve(np.linalg.cholesky(model.fixed_covariance.to_numpy()), changes.to_numpy().T)
    distances, n, p = np.square(half).sum(axis=0) / len(terms), len(levels), len(terms)
    table = pd.DataFrame(
        {"rows": np.bincount(grouping.codes, minlength=n), "cooks_distance": distances,
         "lme4_distance": distances * (n - p) / n, "singular": [each.singular for each in found],
         "note": [each.note for each in found]},
        index=levels,
    )  # fmt: skip
    return Influence(table, coefficients, changes, pd.DataFrame([e.variances for e in found], index=levels), name)


@dataclass(frozen=True)
class _Refit:
    coefficients: np.ndarray
    variances: dict[str, float]
    singular: bool
    note: str


def _without(model: MultilevelModel, name: str, level: int) -> _Refit:
    """The fit without one level; no numbers and the reason, where there is none."""
    # A singular estimate is a stationary point of the rest too, so it is no place to start from.
    start = None if model.singular else model.fit.theta
    try:
        design = model.design.without(name, level)
        check_identified(design)
        fitted = fit_model(design, reml=model.reml, start=start)
    except ValueError as error:
        return _Refit(np.full(len(model.design.terms), np.nan), {}, False, str(error))
    note = "" if fitted.converged else "the descent did not reach a minimum"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        variances = {f"{group}: {term}": float(value) for (group, term), value in fitted.random["variance"].items()}
    variances["residual"] = fitted.residual_variance
    return _Refit(fitted.coefficients, variances, fitted.singular, note)
