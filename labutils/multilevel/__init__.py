"""Mixed models for grouped data, with lme4's formulas and estimates, and the division of their variance into shares.

    model = fit_multilevel("score ~ word_length + adaptation + (1 + adaptation | sample)", rows)
    model.fixed      # estimates, standard errors, Satterthwaite t-tests
    model.random     # variances and correlations
    model.r2()       # variance shares of Rights & Sterba
    compare_models(model, fit_multilevel("score ~ adaptation + (1 + adaptation | sample)", rows))

Beside them: `bootstrap` (intervals for any number a model gives), `centre_within` (splits predictors into their parts
within and between groups), `simulate_study`, `recovery` and `text_effect_power` (studies with known coefficients),
and the figures of `labutils.multilevel.figures`.
"""

from labutils.multilevel.likelihood_ratio import ModelComparison, compare_models
from labutils.multilevel.model import MultilevelModel, fit_multilevel
from labutils.multilevel.power import recovery, text_effect_power
from labutils.multilevel.resampling import Bootstrap, bootstrap
from labutils.multilevel.simulation import StudyTruth, draw_features, simulate_study, study_formula
from labutils.multilevel.variance_shares import centre_within

__all__ = [
    "Bootstrap", "ModelComparison", "MultilevelModel", "StudyTruth", "bootstrap", "centre_within", "compare_models",
    "draw_features", "fit_multilevel", "recovery", "simulate_study", "study_formula", "text_effect_power",
]  # fmt: skip
