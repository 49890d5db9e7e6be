"""Shared analysis code of the collection: `import labutils as lab`.

At the top stand the names that most work begins with; everything else is `lab.<room>.<name>`. All of them are loaded
when first used, so that importing the package costs nothing. docs/architecture.md tells what each room is for.
"""

import warnings

from labutils.core.lazy import attach

# Libraries that draw progress by `tqdm.auto` warn in a Jupyter without widgets, in red, and draw it as text anyway.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"

_HOMES = {
    "models": ["load_model", "list_lab_models", "find_blocks"],
    "data": ["load_texts", "load_tokens", "load_task"],
    "evaluation": [
        "load_evaluation",
        "item_losses",
        "sequence_losses",
        "perplexity",
        "score_task",
        "score_similarity",
        "evaluate_outside",
    ],
    "pruning": [
        "prune",
        "prune_grid",
        "PruneReport",
        "register_score",
        "register_method",
        "register_allocation",
        "register_reconstruction",
    ],
    "pruning.forecast": ["forecast"],
    "checkpoints": ["save_pruned", "load_pruned", "prune_checkpoint"],
    "structured": ["drop_blocks", "drop_experts", "forecast_smaller", "shrink"],
    "training": ["tune_lora"],
    "plots": ["show"],
    "logs": ["compare_logs"],
    "sweeps": ["sweep", "contrast", "contrast_interval"],
    "stats": ["crossed_bootstrap"],
    "claims": ["judge", "not_testable", "claim", "Verdict", "ledger"],
    "core": ["provenance", "progress", "run_folder"],
    "runner": ["conclude", "run_studies"],
    "attribution": ["influential_words", "neuron_words", "compare_semantics", "ablate_neurons"],
    "multilevel": ["fit_multilevel"],
    "adaptation": ["text_features"],
    "distillation": ["distill"],
}

_ROOMS = [
    "core", "stats", "world", "models", "multilevel", "claims", "runner", "data", "pruning", "quantisation", "training",
    "evaluation", "checkpoints", "structured", "plots", "logs", "recovery", "sweeps", "attribution", "adaptation",
    "distillation", "yardsticks", "smaller", "costs", "optima", "lab_models", "foresight",
]  # fmt: skip

# Names that stood at the top once, by the room that has them now; "old:new" where the name has changed too.
_MOVED_BY_ROOM = {
    "core": "measure_cost describe_processor",
    "stats": "paired_differences slope crossover heterogeneity",
    "claims": "ledger_table tensions_table",
    "data": "sources_of split_cell:split_pair",
    "evaluation": "write_harness_task",
    "pruning.forecast": "Forecast",
    "checkpoints": "compare_forms fresh_folder save_dense",
    "training": "add_lora merge_lora",
    "sweeps": "Setting:SweepSizes dense_loss dense_check scope advantage_over smallest_advantage regret_table "
    "cross_fitted_regret",
    "multilevel": "compare_models",
    "adaptation": "composite_complexity draw_samples describe_samples Sample load_base adapt_model Adaptation "
    "tune_similarity Tuning fold_correlations pearson_contributions run_study StudyPlan "
    "load_runs origin_table StudySetting StudyRows adaptation_gain sample_map gain_by_sample "
    "gain_by_configuration",
}

__getattr__, __dir__, __all__ = attach(
    __name__,
    _HOMES,
    rooms=_ROOMS,
    moved={
        old: f"{room}:{new}"
        for room, names in _MOVED_BY_ROOM.items()
        for old, _, new in (name.partition(":") for name in names.split())
    },
    gone={
        "expected_sign_share": "lab.stats.lowest_cell on lab.sweeps.worst_effect",
        "expected_signs": "lab.sweeps.claim_effects",
        "stratum_estimates": "lab.sweeps.effect_table",
        "carry_out": "lab.adaptation.StudyPlan.carry_out",
        "load_study": "lab.adaptation.StudyPlan.load",
        "save_study": "lab.adaptation.StudyPlan.save",
    },
)
