"""Getting back what pruning lost: what is trained, towards what, on which data, and what it costs; every zero stays.

`recover` trains a part of a pruned model (adapters, biases and norms, everything), `reestimate` moves biases and norms
without gradients, `prune_while_tuning` and `tune_with_penalty` mix pruning and training. `own_text` and `data_scores`
tell what one may train on, `removal` takes out neurons and blocks, `study` makes rows of it, `figures` draws them.

Imports `core`, `models`, `stats`, `runner` (where finished runs are kept), `data`, `pruning`, `training`, `evaluation`,
`structured` (the search for blocks) and `plots`. A new way to recover is a stage in `stages`; a new part of a model
that may be trained stands in `places`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "recovering": ["recover", "Recovered"],
        "descent": ["Diverged"],
        "reestimating": ["reestimate"],
        "gradual": ["prune_while_tuning"],
        "penalised": ["tune_with_penalty"],
        "places": ["kept_places", "parameters_of"],
        "removal": ["choose_neurons", "choose_blocks", "silence_neurons"],
        "own_text": ["own_continuations", "continuation_losses", "join_prompts"],
        "data_scores": ["score_data", "choose_share", "divergences", "target_clusters", "select_pools", "random_name"],
        "readings": [
            "Reading",
            "load_readings",
            "held_out_reading",
            "own_reading",
            "read_model",
            "check_dense",
            "if_able",
            "pool_tasks",
        ],  # fmt: skip
        "study": ["recovery_sweep"],
        "draws": ["RecoverySizes", "Recipe", "load_calibrations"],
        "rates": ["try_rates", "chosen_recipes", "if_settled"],
        "task_masks": ["task_mask_sweep", "own_mask_gain", "own_gain_over_tasks", "mask_overlap"],
        "sentences": ["tell_ways", "tell_cells", "tell_rates"],
        "remaining": ["remaining_share", "if_gained"],
        "shares": ["recovered_share", "recovered_shares", "share_over_models"],
    },
    rooms=["figures"],
)
