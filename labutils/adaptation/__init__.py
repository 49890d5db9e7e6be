"""Domain adaptation studied as in the multilevel analysis: samples of abstracts, training on them, and what it changes.

Samples that differ in readability and term density (`draw_samples`) each adapt a model (`adapt_model`), which is then
fine-tuned for sentence similarity (`tune_similarity`); `run_study` does all combinations.

Imports `core`, `stats`, `world`, `models`, `runner`, `data`, `training` and `evaluation`. A new feature of texts
belongs into `features` or `readability`, a new hyperparameter into `configurations`. `python -m labutils.adaptation`
carries out the long study of notebook 06; whoever changes its numbers raises `FORMAT` in `jobs`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "configurations": ["Adaptation", "Tuning", "configuration_table", "name_configurations", "short_names"],
        "manipulation": ["heldout_changes", "manipulation_check", "why_not_adapted"],
        "samples": ["Sample", "describe_samples", "draw_samples"],
        "plan": ["StudyPlan", "load_runs", "origin_table"],
        "study": ["StudyRows", "GAIN_UNITS", "adaptation_gain", "run_study"],
        "jobs": ["StudySetting"],
        "training": ["adapt_model", "load_base"],
        "features": ["composite_complexity", "text_features"],
        "correlations": ["fold_correlations", "pearson_contributions"],
        "figures": ["gain_by_configuration", "gain_by_sample", "sample_gains", "sample_map", "score_by_configuration"],
        "ranges": ["runs_in_range", "split_ranges"],
        "sentences": [
            "describe_check",
            "describe_configuration_gains",
            "describe_samples_gains",
            "describe_scores",
            "describe_spread",
        ],
        "similarity_tuning": ["tune_similarity"],
    },
)
