"""Neuron Semantic Attribution: which words a task hangs on, which neurons answer them, and what pruning does to both.

The three steps (arXiv 2503.01542) and their causal check are public names of `labutils` too: `influential_words`,
`neuron_words`, `compare_semantics`, `ablate_neurons`. The others hold what proves them (planted truth, random word
sets, random partners, gradients, the un-prune check). `word_transfer` asks whether the words of one task matter for
another (notebook 14).

Imports `core`, `stats`, `models`, `data`, `pruning` and `evaluation`. A new measure of neurons is a file here, beside a
test in which the truth is planted; drops of tasks and their contrasts are `sweeps`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ablation": ["ablate_neurons"],
        "activations": ["WordActivations", "measure_words"],
        "causality": ["ablation_contrast", "concept_contrasts", "partner_interval", "random_partners"],
        "comparison": ["compare_activations", "compare_semantics", "concept_drops"],
        "concept_evidence": ["concept_agreement", "concept_conductance", "text_interval"],
        "concept_sweep": ["concept_sweep"],
        "gradients": ["TOLERANCE", "attribute_tokens", "block_conductance", "neuron_conductance"],
        "heatmaps": ["WordHeatmap", "word_heatmap"],
        "influence": ["influential_words", "usable_words", "words_of_tasks"],
        "matching": ["concept_neurons", "describe_concepts", "neuron_words", "words_of_neurons"],
        "reference": ["captum_conductance"],
        "passages": ["Passage", "passage_losses", "task_passages", "text_passages"],
        "synthetic_neurons": ["draw_plan", "plant_neurons"],
        "weight_restoration": [
            "changed_passages",
            "changed_predictions",
            "neuron_survival",
            "revival_check",
            "revived",
        ],
        "word_transfer": ["depth_correlations", "text_task", "transfer_gain", "transfer_words", "word_scores"],
        "validation": ["attribution_agreement", "concept_precision", "match_stability", "recovered_share"],
    },
    rooms=["figures"],
)
