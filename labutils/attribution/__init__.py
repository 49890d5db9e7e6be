"""Neuron Semantic Attribution: which words a task hangs on, which neurons answer them, and what pruning does to both.

The three steps (arXiv 2503.01542) and their causal check are public names of `labutils` too: `influential_words`,
`neuron_words`, `compare_semantics`, `ablate_neurons`. The others hold what proves them (planted truth, random word
sets, random partners, gradients, the un-prune check) and what the studies are made of. They are loaded when first used.
"""

from importlib import import_module

_HOMES = {  # fmt: skip
    "ablation": ["ablate_neurons"],
    "activations": ["WordActivations", "measure_words"],
    "causality": ["ablation_contrast", "concept_contrasts", "partner_interval", "random_partners"],
    "comparison": ["compare_activations", "compare_semantics", "concept_drops"],
    "contrasts": [
        "add_drops",
        "calibration_gain",
        "family_contrast",
        "knowledge_contrast",
        "rank_correlation",
        "relative_drops",
        "task_check",
    ],
    "damage": ["concept_sweep", "expand_tasks", "score_items", "task_sweep"],
    "gradients": ["attribute_tokens", "block_conductance", "neuron_conductance"],
    "heatmaps": ["WordHeatmap", "word_heatmap"],
    "influence": ["influential_words", "words_of_tasks"],
    "matching": ["concept_neurons", "describe_concepts", "neuron_words", "neurons_of_words", "words_of_neurons"],
    "passages": ["Passage", "passage_losses", "task_passages", "text_passages"],
    "planting": ["draw_plan", "plant_neurons"],
    "revival": ["changed_passages", "changed_predictions", "neuron_survival", "revival_check", "revived"],
    "validation": ["attribution_agreement", "concept_precision", "match_stability", "recovered_share"],
    "variance": ["score_table", "set_effect", "variance_components"],
    "words": ["read_concepts", "texts_about"],
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["figures", *_MODULE_OF]


def __getattr__(name: str) -> object:
    if name == "figures":
        return import_module("labutils.attribution.figures")
    if name not in _MODULE_OF:
        raise AttributeError(f"labutils.attribution has no {name!r}. Public names: {', '.join(sorted(__all__))}.")
    return getattr(import_module(f"labutils.attribution.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
