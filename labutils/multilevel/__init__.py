"""Mixed models for grouped data, with lme4's formulas and estimates, and the division of their variance into shares.

    model = fit_multilevel("score ~ word_length + adaptation + (1 + adaptation | sample)", rows)
    model.fixed      # estimates, standard errors, Satterthwaite t-tests
    model.random     # variances and correlations
    model.r2()       # variance shares of Rights & Sterba
    model.predict(new)           # with or without groups
    marginal_means(model, "adaptation").pairs()
    influence(model).table       # Cook's distance of every group
    compare_models(model, fit_multilevel("score ~ adaptation + (1 + adaptation | sample)", rows))

A study of adaptation goes through a fixed sequence of models: `study_table`, `fit_sequence`, `model_table`; what claims
are judged by: `smallest_effect`, `share_ratio`; the same asked in other ways: `specification_curve`,
`ratio_over_ranges`. Beside them stand `bootstrap` (intervals for any number a model gives),
`centre_within`, simulated studies with known coefficients (`simulate_study`, `recovery`, `text_effect_power`), figures.

Imports `core` and `stats` only. From a formula to a fit the files are, in this order: `syntax`, `formula`, `coding`,
`codebook`, `weighting`, `orthogonal`, `matrices`, `identification`, `design`, `products`, `coordinates`, `deviance`
with `single` and `crossed`, `fit` with `curvature` and `descent`; what is read from a fit (`satterthwaite`,
`random_effects`, `prediction`, `variance_shares`) becomes an attribute of `model.MultilevelModel`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "model": ["MultilevelModel", "fit_multilevel"],
        "reference_grid": ["MarginalMeans", "marginal_means"],
        "deletion": ["Influence", "influence"],
        "likelihood_ratio": ["ModelComparison", "compare_models"],
        "resampling": ["Bootstrap", "bootstrap"],
        "judging": ["share_ratio", "smallest_effect", "standardised_effects"],
        "sequence": ["ModelSequence", "StudyTable", "fit_sequence", "model_table", "study_table", "truth_like"],
        "simulation": ["StudyTruth", "draw_features", "simulate_study", "study_formula"],
        "forks": ["explains_anything", "ratio_over_ranges", "specification_curve"],
        "fork_figures": ["ratio_forest", "specification_plot"],
        "sentences": [
            "describe_curve",
            "describe_effects",
            "describe_groups",
            "describe_power",
            "describe_ranges",
            "describe_ratio",
            "describe_residuals",
            "describe_shares",
        ],
        "power": ["recovery", "text_effect_power"],
        "variance_shares": ["centre_within"],
        "figures": [
            "caterpillar",
            "fixed_effects_forest",
            "power_curves",
            "recovery_plot",
            "residual_plots",
            "variance_share_bars",
        ],
    },
)
