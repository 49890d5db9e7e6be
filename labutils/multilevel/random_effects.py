"""The random part of a fit in the units of the data: covariances, their table, and predicted coefficients."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from labutils.multilevel.deviance import level_precisions
from labutils.multilevel.fit import Fit
from labutils.multilevel.matrices import Design, Grouping


def random_covariances(design: Design, fit: Fit) -> dict[str, pd.DataFrame]:
    """Covariance matrix T of the random coefficients of every grouping factor."""
    factors = fit.problem.factors(fit.theta)
    found = {}
    for position, grouping in enumerate(design.groupings):
        number = fit.coordinates.order.index(position)
        internal = fit.variance * factors[number] @ factors[number].T
        terms = list(grouping.terms)
        values = fit.coordinates.random_covariance(number, internal)
        found[grouping.name] = pd.DataFrame(values, index=terms, columns=terms)
    return found


def random_table(design: Design, covariances: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Index (group, term); columns variance, sd, and "r <term>", the correlation with a term above in the same block.

    A correlation is NaN where the model has none, or where a variance is zero.
    """
    tables = [_group_table(grouping, covariances[grouping.name]) for grouping in design.groupings]
    return pd.concat(tables)


def predict_random(design: Design, fit: Fit) -> pd.DataFrame:
    """Best linear unbiased predictions of all random coefficients: index (group, level, term); estimate and se.

    u_j = Ψ Z_j'Py with Ψ = T/σ²; se² is the conditional variance σ²(Ψ − Ψ Z_j'V⁻¹Z_j Ψ) given the fixed effects, as in
    lme4.
    """
    factors, tables = fit.problem.factors(fit.theta), []
    precisions = level_precisions(fit.problem.products, factors)
    for position, grouping in enumerate(design.groupings):
        number = fit.coordinates.order.index(position)
        relative = factors[number] @ factors[number].T
        back = fit.coordinates.scale * np.linalg.inv(fit.coordinates.random_roots[number])
        means = fit.solution.scores[number] @ relative @ back.T
        spread = fit.variance * (relative - relative @ precisions[number] @ relative)
        variances = np.einsum("ti,gij,tj->gt", back, spread, back).clip(min=0)  # rounding where there is no variance
        axes = [[grouping.name], list(grouping.levels), list(grouping.terms)]
        keys = pd.MultiIndex.from_product(axes, names=["group", "level", "term"])
        values = {"estimate": means.ravel(), "se": np.sqrt(variances).ravel()}
        tables.append(pd.DataFrame(values, index=keys))
    return pd.concat(tables)


def _group_table(grouping: Grouping, covariance: pd.DataFrame) -> pd.DataFrame:
    t = covariance.to_numpy()
    sd = np.sqrt(np.diag(t))
    table = pd.DataFrame({"variance": sd**2, "sd": sd})
    for block in grouping.blocks:
        for row in range(block.start, block.stop):
            for column in range(block.start, row):
                both = sd[row] * sd[column]
                r = t[row, column] / both if both > 0 else np.nan
                table.loc[row, f"r {grouping.terms[column]}"] = r
    keys = [(grouping.name, term) for term in grouping.terms]
    return table.set_index(pd.MultiIndex.from_tuples(keys, names=["group", "term"]))
