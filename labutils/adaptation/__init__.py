"""Domain adaptation studied as in the multilevel analysis: samples of abstracts, training on them, and what it changes.

Samples that differ in readability and term density (`draw_samples`) each adapt a model (`adapt_model`), which is then
fine-tuned for sentence similarity (`tune_similarity`); `run_study` does all combinations. Names are loaded when they
are used: to count syllables no model is needed.
"""

import importlib
from typing import Any

_HOME = {
    "Adaptation": "configurations",
    "Sample": "samples",
    "StudyPlan": "plan",
    "StudyRows": "study",
    "StudySetting": "jobs",
    "Tuning": "configurations",
    "adapt_model": "training",
    "adaptation_gain": "study",
    "carry_out": "plan",
    "composite_complexity": "features",
    "describe_samples": "samples",
    "draw_samples": "samples",
    "fold_correlations": "correlations",
    "gain_by_configuration": "figures",
    "gain_by_sample": "figures",
    "load_base": "training",
    "load_runs": "plan",
    "load_study": "plan",
    "origin_table": "plan",
    "pearson_contributions": "correlations",
    "run_study": "study",
    "sample_map": "figures",
    "save_study": "plan",
    "text_features": "features",
    "tune_similarity": "similarity_tuning",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
