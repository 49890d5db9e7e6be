"""Experiments over models, texts, draws, arms and sparsities, as tidy rows, and contrasts of their arms.

`losses` sweeps over texts and `tasks` over tasks; `contrasts`, `over_models`, `allocation_claims`, `replication`,
`regret`, `task_contrasts`, `within_cells`, `variance` and `set_comparison` turn their rows into the numbers that claims
are judged by, and `effect_figures` and `figures` draw them; `which_method` turns them into advice; `calibration_sets`,
`calibration_sizes` and `text_vectors` tell what the calibration was, `domain_scores` sweeps scores of two texts,
`kept_prunings` keeps rows with the run, and `recovery_data` loads what notebook 14 heals with.

Imports every room before it but `multilevel`, `claims` and `checkpoints`; of `runner`, where finished runs are kept. A
new experiment is a function that returns one row per item; a new contrast takes such rows and returns differences or an
interval.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "losses": ["sweep", "SweepSizes", "dense_loss", "dense_check", "scope"],
        "calibration_sizes": ["calibration_size_sweep", "gain_by_calibration_size"],
        "tasks": ["task_sweep", "score_items", "expand_tasks"],
        "contrasts": [
            "contrast",
            "contrast_interval",
            "advantage_over",
            "smallest_advantage",
            "regret_table",
            "cross_fitted_regret",
            "share_of_gain",
            "average_contrasts",
            "added_loss",
        ],
        "over_models": ["effects_over_models", "lowest_over_models", "find_crossing", "model_table"],
        "allocation_claims": ["rule_gain", "allocation_effects", "rule_table"],
        "replication": [
            "claim_effects",
            "worst_effect",
            "worst_claim",
            "effect_table",
            "claim_summary",
            "dense_losses",
            "per_dense_loss",
        ],
        "wording": ["counted", "doubt", "gain_or_loss", "name_list"],
        "regret": ["relative_advantage", "worst_regrets", "rule_regrets"],
        "task_contrasts": [
            "add_drops",
            "calibration_gain",
            "family_contrast",
            "family_contrast_over_tasks",
            "knowledge_contrast",
            "rank_correlation",
            "relative_drops",
            "task_check",
        ],
        "domain_scores": ["MIXTURES", "mixture_sweep", "mixture_gains"],
        "within_cells": ["within_cell_correlation"],
        "set_comparison": ["leave_one_set_out", "gains_over_sets", "gain_over_best"],
        "variance": ["score_table", "set_effect", "variance_components"],
        "recovery_data": ["load_recovery_sets", "load_pool"],
        "calibration_sets": [
            "load_calibration",
            "describe_calibration",
            "covering_calibration",
            "short_calibration",
            "calibration_sources",
            "task_texts",
        ],
    },
    rooms=["calibration_sets", "effect_figures", "figures"],
)
