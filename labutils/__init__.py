"""Shared analysis code of the collection: `import labutils as lab`.

Public names are loaded when first used, so that importing the package costs nothing.
"""

import sys
import warnings
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

# Progress bars are text everywhere; that the widgets for another kind are not installed concerns nobody.
warnings.filterwarnings("ignore", message="IProgress not found")

_HOMES = {  # fmt: skip
    "models": ["load_model", "list_lab_models", "find_blocks"],
    "corpora": ["load_texts", "load_tokens"],
    "tasks": ["load_task"],
    "evaluation": ["sequence_losses", "perplexity", "score_task", "load_evaluation", "item_losses"],
    "similarity": ["score_similarity"],
    "outside": ["evaluate_outside", "write_harness_task"],
    "pruning": ["prune", "prune_grid", "PruneReport", "register_score"],
    "forecasting": ["forecast", "Forecast"],
    "sweeps": ["sweep", "Setting", "dense_loss", "dense_check", "scope", "sources_of", "split_cell"],
    "stats": ["crossed_bootstrap", "paired_differences", "slope", "crossover", "heterogeneity"],
    "adaptation": [
        "text_features",
        "composite_complexity",
        "draw_samples",
        "describe_samples",
        "Sample",
        "load_base",
        "adapt_model",
        "Adaptation",
        "tune_similarity",
        "Tuning",
        "fold_correlations",
        "pearson_contributions",
        "run_study",
        "StudyPlan",
        "carry_out",
        "save_study",
        "load_study",
        "load_runs",
        "origin_table",
        "StudySetting",
        "StudyRows",
        "adaptation_gain",
        "sample_map",
        "gain_by_sample",
        "gain_by_configuration",
    ],
    "multilevel": ["fit_multilevel", "compare_models"],
    "checkpoints": [
        "save_pruned",
        "load_pruned",
        "prune_checkpoint",
        "compare_forms",
        "fresh_folder",
        "save_dense",
        "add_lora",
        "merge_lora",
        "tune_lora",
    ],
    "measuring": ["measure_cost", "describe_processor"],
    "distillation": ["distill"],
    "attribution": ["influential_words", "neuron_words", "compare_semantics", "ablate_neurons"],
    "contrasts": [
        "contrast",
        "contrast_interval",
        "advantage_over",
        "smallest_advantage",
        "regret_table",
        "cross_fitted_regret",
        "expected_sign_share",
        "stratum_estimates",
        "expected_signs",
    ],
    "claims": ["judge", "not_testable", "claim", "Verdict"],
    "ledger": ["ledger", "ledger_table", "tensions_table"],
    "provenance": ["provenance"],
    "studies": ["conclude", "run_studies", "run_folder"],
    "progress": ["progress"],
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

_ROOMS = (
    "plots",
    "world",
    "adaptation",
    "attribution",
    "costs",
    "distillation",
    "multilevel",
)  # used as `lab.<room>.<name>`

__all__ = [*_ROOMS, *_MODULE_OF]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f"labutils.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"labutils has no {name!r}. Public names: {', '.join(sorted(__all__))}.")
    return getattr(import_module(f"labutils.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """A public name stays what it is when the submodule of the same name (`progress`, `ledger`) has been imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
