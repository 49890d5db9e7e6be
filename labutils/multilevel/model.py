"""Fitting a mixed model to a frame, and reading the result."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.core.options import suggest
from labutils.multilevel.design import build_design
from labutils.multilevel.fit import Fit, fit_design
from labutils.multilevel.formula import read_formula
from labutils.multilevel.matrices import Design, Grouping
from labutils.multilevel.prediction import chosen_groupings, predict_rows
from labutils.multilevel.random_effects import predict_random, random_covariances, random_table
from labutils.multilevel.satterthwaite import Uncertainty, t_table
from labutils.multilevel.variance_shares import (
    Components,
    block_shares,
    implied_variances,
    nakagawa_r2,
    random_variance,
    share_table,
)
from labutils.multilevel.weighting import Weights, equal_row_variance


def fit_multilevel(
    formula: str, data: pd.DataFrame, *, reml: bool = True, weights: Weights | None = None
) -> "MultilevelModel":
    """Fit a linear mixed model with a formula as in lme4.

    >>> fit_multilevel("Reaction ~ Days + (1 + Days | Subject)", sleepstudy).fixed

    Left of `~` stands the response, right of it the fixed effects: `a + b`, with an intercept unless `0 +` is written;
    `a:b` is an interaction and `a*b` short for a + b + a:b; I(x^2), log(x), scale(x) are functions, C(x) makes a
    category. Terms in parentheses vary over the levels of the grouping factor behind the bar, normally distributed
    around the fixed effect: `(1 | g)` the intercept, `(1 + x | g)` intercept and slope of x with a correlation,
    `(1 + x || g)` without; `(1 | a) + (1 | b)` is for crossed groups, `(1 | a/b)` for b nested in a. So

        score ~ word_length + adaptation + (1 + adaptation | sample)

    says that the score depends on the word length and the adaptation of a run, and that samples differ in their mean
    and in what the adaptation does. `labutils.multilevel.formula` has the whole notation.

    Args:
        formula: response ~ fixed effects + (varying terms | grouping factor) + ...
        data: one row per observation; text, categories and booleans get treatment coding.
        reml: restricted maximum likelihood, for estimates; False is full maximum likelihood, for comparing models
            with different fixed effects (`compare_models` refits by itself).
        weights: prior weights w, one positive number per row or the name of a column: the residual variance of a row is
            σ²/w, as that of a mean of w observations. They are no case weights: a row of weight 2 is one row.

    Raises:
        LookupError: an unknown column or function; the message names the nearest known one.
        ValueError: the formula cannot be read; values are missing or infinite; a predictor is constant or collinear
            with others; a grouping factor has one level; rows are too few; nothing is left for the residual;
            a weight is not positive and finite.
    """
    model = fit_model(build_design(read_formula(formula), data, weights), reml=reml)
    if not model.converged:
        warnings.warn(f"The fit of {formula!r} ended before a minimum of the deviance.", stacklevel=2)
    return model


def fit_model(
    design: Design, *, reml: bool = True, start: Float[np.ndarray, " parameters"] | None = None
) -> "MultilevelModel":
    """As `fit_multilevel`, for a design; `start` as for `fit_design`."""
    return MultilevelModel(design, fit_design(design, reml=reml, start=start))


@dataclass(frozen=True, eq=False)
class MultilevelModel:
    """A fitted linear mixed model. Standard errors and tests are those of lme4 and lmerTest."""

    design: Design
    fit: Fit

    @property
    def formula(self) -> str:
        return self.design.formula

    @property
    def reml(self) -> bool:
        return self.fit.problem.reml

    @cached_property
    def coefficients(self) -> Float[np.ndarray, " fixed"]:
        """Estimates of the fixed effects, in the order of `design.terms`."""
        return self.fit.coordinates.coefficients(self.fit.solution.coefficients)

    @cached_property
    def fixed(self) -> pd.DataFrame:
        """Fixed effects: index `term`; columns estimate, se, df (Satterthwaite), t, p (two-sided)."""
        return t_table(self._uncertainty, np.eye(len(self.design.terms)), list(self.design.terms))

    @cached_property
    def _uncertainty(self) -> Uncertainty:
        return Uncertainty(self.fit)

    @property
    def fixed_covariance(self) -> pd.DataFrame:
        """Covariances of the estimates of the fixed effects."""
        terms = list(self.design.terms)
        return pd.DataFrame(self._uncertainty.covariance, index=terms, columns=terms)

    def contrast(self, weights: Mapping[str, float | int]) -> pd.Series:
        """t-test of a weighted sum of fixed effects: estimate, se, df, t, p.

        Raises:
            LookupError: a term that the model does not have.
        """
        unknown = [term for term in weights if term not in self.design.terms]
        if unknown:
            hint = suggest(unknown[0], self.design.terms)
            raise LookupError(
                f"The model has no fixed effect {unknown[0]!r}.{hint} It has {', '.join(self.design.terms)}."
            )
        row = np.array([[float(weights.get(term, 0.0)) for term in self.design.terms]])
        name = " ".join(f"{weight:+g}·{term}" for term, weight in weights.items())
        return self.test_rows(row, [name]).iloc[0]

    def test_rows(self, rows: Float[np.ndarray, "contrasts fixed"], names: list[str]) -> pd.DataFrame:
        """t-tests of weighted sums of fixed effects, weights in the order of `design.terms`: as `fixed` has them."""
        return t_table(self._uncertainty, rows, names)

    @cached_property
    def covariances(self) -> dict[str, pd.DataFrame]:
        """Covariance matrix of the random coefficients of every grouping factor."""
        return random_covariances(self.design, self.fit)

    @cached_property
    def random(self) -> pd.DataFrame:
        """Random terms: index (group, term); columns variance, sd, and "r <term>", the correlation with a term above.

        A correlation is NaN where the model has none, or where a variance is zero.
        """
        return random_table(self.design, self.covariances)

    @property
    def residual_variance(self) -> float:
        """σ²; with prior weights w that of a row is σ²/w."""
        return self.fit.variance * self.fit.coordinates.scale**2

    @property
    def log_likelihood(self) -> float:
        """Logarithm of the likelihood, of the restricted likelihood under REML."""
        return -self.fit.deviance / 2

    @property
    def n_parameters(self) -> int:
        """Fixed effects, variances, covariances, and the residual variance."""
        return self.design.n_parameters

    @property
    def aic(self) -> float:
        return self.fit.deviance + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        return self.fit.deviance + np.log(self.design.n_rows) * self.n_parameters

    @property
    def singular(self) -> bool:
        """Whether a variance is zero or a correlation ±1: the data do not support all random terms."""
        return self.fit.singular

    @property
    def converged(self) -> bool:
        return self.fit.converged

    @property
    def icc(self) -> float:
        """Share of the groups in the variance that the fixed effects leave: the intraclass correlation.

        With slopes, the groups' variance is its mean over the rows.
        """
        residual = equal_row_variance(self.design.weights, self.residual_variance)
        between = random_variance(self.design, [table.to_numpy() for table in self.covariances.values()])
        return between / (between + residual)

    @cached_property
    def blups(self) -> pd.DataFrame:
        """Predicted random coefficients: index (group, level, term); columns estimate and (conditional) se."""
        return predict_random(self.design, self.fit)

    @cached_property
    def fitted(self) -> Float[np.ndarray, " rows"]:
        """Fixed effects and predicted random coefficients of every row."""
        values = self.design.x @ self.coefficients
        for grouping in self.design.groupings:
            values = values + (grouping.columns * self._predicted(grouping)[grouping.codes]).sum(1)
        return values

    def _predicted(self, grouping: Grouping) -> Float[np.ndarray, "levels terms"]:
        return self.blups.loc[[grouping.name], "estimate"].to_numpy().reshape(len(grouping.levels), -1)

    def predict(
        self, data: pd.DataFrame, *, groups: bool | str | Sequence[str] = True, new_levels: str = "refuse"
    ) -> Float[np.ndarray, " rows"]:
        """What the model expects of new rows, on the scale of the response as the formula has it.

        >>> model.predict(pd.DataFrame({"Days": [0, 9], "Subject": [308, 999]}), new_levels="mean")

        Categories, `center` and `scale` mean what they meant in the data of the fit. The response is not needed; nor,
        with groups=False, are grouping columns and columns that only vary over groups.

        Args:
            groups: True adds the predicted random coefficients of every row's groups, False is the mean over groups;
                names of grouping factors add those alone.
            new_levels: of a grouping factor: "refuse" them, or predict the "mean" over groups, coefficients of zero.

        Raises:
            LookupError: a column is not there, or the model has no such grouping factor.
            ValueError: values are missing or not finite; a category has a level that the model was not fitted with;
                a group is new.
        """
        chosen = chosen_groupings(self.design, groups)
        random = [(grouping, self._predicted(grouping)) for grouping in chosen]
        return predict_rows(self.design, data, self.coefficients, random, new_levels)

    @property
    def residuals(self) -> Float[np.ndarray, " rows"]:
        """Response minus `fitted`."""
        return self.design.y - self.fitted

    @property
    def pearson_residuals(self) -> Float[np.ndarray, " rows"]:
        """√w times the residuals, w the prior weights: all of variance σ²."""
        return self.design.weighted(self.residuals)

    @property
    def components(self) -> Components:
        """The variances behind `r2`, in squared units of the response."""
        residual = equal_row_variance(self.design.weights, self.residual_variance)
        return implied_variances(self.design, self.coefficients, self._only_covariance(), residual)

    def r2(self) -> pd.DataFrame:
        """Variance shares of Rights & Sterba (2019): see `variance_shares`.

        Rows total, within, between; columns f1, f2, v, m, residual, and the sums f, fv, fvm. Where a level-1 predictor
        is not centred in every group there are totals only; a warning, and `attrs["note"]`, say why.
        """
        components = self.components
        if components.note:
            warnings.warn(components.note, stacklevel=2)
        table = share_table(components)
        table.attrs["note"] = components.note
        return table

    def block_shares(self, blocks: Mapping[str, list[str]]) -> pd.DataFrame:
        """Shares of the total variance that go through blocks of predictors: columns fixed, slopes."""
        residual = equal_row_variance(self.design.weights, self.residual_variance)
        values = self.coefficients, self._only_covariance(), residual
        return block_shares(self.design, *values, blocks)

    def nakagawa(self) -> pd.Series:
        """Marginal and conditional R² of Nakagawa."""
        covariances = [table.to_numpy() for table in self.covariances.values()]
        residual = equal_row_variance(self.design.weights, self.residual_variance)
        return nakagawa_r2(self.design, self.coefficients, covariances, residual)

    def refit(self, *, reml: bool) -> "MultilevelModel":
        """The same model by REML or by maximum likelihood."""
        return self if reml == self.reml else fit_model(self.design, reml=reml)

    def _only_covariance(self) -> Float[np.ndarray, "terms terms"]:
        return next(iter(self.covariances.values())).to_numpy()

    def __repr__(self) -> str:
        kind = "REML" if self.reml else "maximum likelihood"
        groups = ", ".join(f"{grouping.name} {len(grouping.levels)}" for grouping in self.design.groupings)
        lines = [
            f"{self.formula}",
            f"{kind}, log-likelihood {self.log_likelihood:.4f}, {self.design.n_rows} rows, groups: {groups}",
            *(["prior weights: residual variance σ²/w"] if self.design.weights is not None else []),
            *(["singular: a variance is zero, or a correlation ±1"] if self.singular else []),
            *(["not converged"] if not self.converged else []),
            f"\n{self.random.to_string(float_format='{:.5g}'.format, na_rep='')}",
            f"residual variance {self.residual_variance:.5g}",
            f"\n{self.fixed.to_string(float_format='{:.5g}'.format)}",
        ]
        return "\n".join(lines)
