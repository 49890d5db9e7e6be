"""Mixed models for grouped data, with lme4's formulas and estimates, and the division of their variance into shares.

    model = fit_multilevel("score ~ word_length + adaptation + (1 + adaptation | sample)", rows)
    model.fixed      # estimates, standard errors, Satterthwaite t-tests
    model.random     # variances and correlations
    model.r2()       # variance shares of Rights & Sterba
    compare_models(model, fit_multilevel("score ~ adaptation + (1 + adaptation | sample)", rows))

A study of adaptation goes through a fixed sequence of models: `study_table`, `fit_sequence`, `model_table`; what claims
are judged by: `smallest_effect`, `share_ratio`.

Beside them: `bootstrap` (intervals for any number a model gives), `centre_within` (splits predictors into their parts
within and between groups), `simulate_study`, `recovery` and `text_effect_power` (studies with known coefficients),
and figures.
"""

import importlib
from typing import Any

from labutils.multilevel.judging import share_ratio, smallest_effect, standardised_effects
from labutils.multilevel.likelihood_ratio import ModelComparison, compare_models
from labutils.multilevel.model import MultilevelModel, fit_multilevel
from labutils.multilevel.power import recovery, text_effect_power
from labutils.multilevel.resampling import Bootstrap, bootstrap
from labutils.multilevel.sequence import ModelSequence, StudyTable, fit_sequence, model_table, study_table, truth_like
from labutils.multilevel.simulation import StudyTruth, draw_features, simulate_study, study_formula
from labutils.multilevel.variance_shares import centre_within

_FIGURES = (
    "caterpillar", "fixed_effects_forest", "power_curves", "recovery_plot", "residual_plots", "variance_share_bars",
)  # fmt: skip

__all__ = [
    "Bootstrap", "ModelComparison", "ModelSequence", "MultilevelModel", "StudyTable", "StudyTruth", "bootstrap",
    "centre_within", "compare_models", "draw_features", "fit_multilevel", "fit_sequence", "model_table", "recovery",
    "share_ratio", "simulate_study", "smallest_effect", "standardised_effects", "study_formula", "study_table",
    "text_effect_power", "truth_like", *_FIGURES,
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Figures, loaded when they are drawn."""
    if name not in _FIGURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.figures"), name)
