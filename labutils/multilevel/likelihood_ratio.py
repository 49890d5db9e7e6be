"""Likelihood-ratio tests of nested mixed models, with the right reference distribution at the edge of the parameters.

A variance cannot be negative, so under the hypothesis that it is zero the likelihood ratio is not chi-square. One more
variance, with c covariances to the terms that are there already, is tested against ½χ²_c + ½χ²_{c+1} (Self & Liang
1987, JASA 82; Stram & Lee 1994, Biometrics 50); further fixed effects add their number to both. For several variances
at once no simple mixture holds; chi-square with all parameters then bounds the p-value from above.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from labutils.multilevel.descent import close_enough
from labutils.multilevel.model import MultilevelModel

SAME_MINIMUM = 100  # times what counts as no further fall: fits that reach the same minimum agree to less than this


@dataclass(frozen=True)
class ModelComparison:
    """A likelihood-ratio test.

    Attributes:
        table: the smaller and the larger model: formula, n_parameters, log_likelihood, aic, bic, singular.
        statistic: difference of the deviances.
        degrees: degrees of freedom of the chi-square distributions that are mixed in equal parts.
        p: upper tail probability.
        method: "REML" or "ML", the likelihood compared.
        note: what else must be known; empty where nothing.
    """

    table: pd.DataFrame
    statistic: float
    degrees: tuple[int, ...]
    p: float
    method: str
    note: str

    @property
    def reference(self) -> str:
        """The reference distribution in words, as "½χ²₁ + ½χ²₂" or "χ²₃"."""
        subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
        share = "½" if len(self.degrees) == 2 else ""
        return " + ".join(f"{share}χ²{str(degrees).translate(subscripts)}" for degrees in self.degrees)

    def __repr__(self) -> str:
        test = f"{self.method}: statistic {self.statistic:.4f}, p = {self.p:.4g} ({self.reference})"
        return "\n".join([self.table.to_string(), test, *filter(None, [self.note])])


def compare_models(a: MultilevelModel, b: MultilevelModel) -> ModelComparison:
    """Test the smaller of two nested models against the larger, in whichever order they are given.

    >>> compare_models(fit_multilevel("score ~ x + (1 | g)", rows), fit_multilevel("score ~ x + (1 + x | g)", rows)).p

    Models with the same fixed effects are compared by the likelihood they were fitted with, by maximum likelihood if
    those differ; models with different fixed effects are refitted by maximum likelihood, since restricted likelihoods
    are then of different data.

    Raises:
        ValueError: the models are of different data or weights, are the same, or neither contains the other.
    """
    smaller, larger = sorted((a, b), key=lambda model: model.n_parameters)
    _refuse_different_data(smaller, larger)
    _refuse_not_nested(smaller, larger)
    same_fixed = np.array_equal(smaller.design.x, larger.design.x)
    reml = same_fixed and smaller.reml and larger.reml
    smaller, larger = smaller.refit(reml=reml), larger.refit(reml=reml)
    statistic = smaller.fit.deviance - larger.fit.deviance
    rounding = SAME_MINIMUM * close_enough(smaller.fit.deviance)
    if statistic < -rounding:
        raise ValueError(
            f"The larger model {larger.formula!r} has the lower likelihood: its fit did not reach the best covariances."
        )
    statistic = statistic if statistic > rounding else 0.0  # a variance of zero changes nothing, and its p-value is one
    added = larger.n_parameters - smaller.n_parameters
    new_variances = len(larger.random) - len(smaller.random)
    degrees = (added - 1, added) if new_variances == 1 else (added,)
    notes = [
        f"{new_variances} variances at once: the p-value is an upper bound" if new_variances > 1 else "",
        "the smaller model is singular: the p-value is approximate" if smaller.singular and new_variances else "",
    ]
    p = float(np.mean([chdtrc(k, statistic) if k else float(statistic <= 0) for k in degrees]))
    method = "REML" if reml else "ML"
    return ModelComparison(_table(smaller, larger), statistic, degrees, p, method, "; ".join(filter(None, notes)))


def _table(*models: MultilevelModel) -> pd.DataFrame:
    names = ["formula", "n_parameters", "log_likelihood", "aic", "bic", "singular"]
    rows = [{name: getattr(model, name) for name in names} for model in models]
    return pd.DataFrame(rows, index=pd.Index(["smaller", "larger"], name="model"))


def _refuse_different_data(smaller: MultilevelModel, larger: MultilevelModel) -> None:
    if smaller.design.n_rows != larger.design.n_rows or not np.array_equal(smaller.design.y, larger.design.y):
        raise ValueError(
            f"The models are of different data ({smaller.design.n_rows} and {larger.design.n_rows} rows of "
            f"{smaller.design.response!r} and {larger.design.response!r}): fit both to the same rows."
        )
    if not _same_weights(smaller, larger):
        raise ValueError("The models have different prior weights: fit both with the same.")


def _same_weights(smaller: MultilevelModel, larger: MultilevelModel) -> bool:
    one, other = (
        np.ones(model.design.n_rows) if model.design.weights is None else model.design.weights
        for model in (smaller, larger)
    )
    return np.array_equal(one, other)


def _refuse_not_nested(smaller: MultilevelModel, larger: MultilevelModel) -> None:
    if smaller.n_parameters == larger.n_parameters:
        raise ValueError(f"Both models have {smaller.n_parameters} parameters: neither is a special case of the other.")
    q, y = larger.design.basis.q, smaller.design.basis.q
    outside = np.linalg.norm(y - q @ (q.T @ y) / len(q), axis=0) > 1e-7 * np.sqrt(len(y))
    if outside.any():
        terms = [repr(term) for term, out in zip(smaller.design.terms, outside, strict=True) if out]
        raise ValueError(f"The fixed effects {', '.join(terms)} of {smaller.formula!r} are not in {larger.formula!r}.")
    missing = _free_covariances(smaller) - _free_covariances(larger)
    if missing:
        where, one, other = min(missing)
        what = f"variance of {one!r}" if one == other else f"covariance of {one!r} and {other!r}"
        raise ValueError(f"The {what} over {where!r} is in {smaller.formula!r}, but not in {larger.formula!r}.")


def _free_covariances(model: MultilevelModel) -> set[tuple[str, str, str]]:
    """Group and the two terms of every variance and covariance that the model estimates."""
    return {
        (grouping.name, *sorted((one, other)))
        for grouping in model.design.groupings
        for block in grouping.blocks
        for one in grouping.terms[block]
        for other in grouping.terms[block]
    }
