"""What perplexity hides: the same facts read by several yardsticks, on models that are pruned, quantised or shortened.

`planting` gives a lab model facts told known numbers of times, `questions` asks for them, `reading` reads one model by
every yardstick, and `damage` does so for a list of arms, which `kept_readings` finds again after a kill. `knowledge`,
`shares`, `illusion`, `frequency`, `subgroups`, `predictors`, `reasoning`, `lengths` and `sizes` turn the rows into the
numbers that notebook 09 shows and judges; `arms` and `study` are its plan, and `figures` draws them.

Imports `core`, `stats`, `world`, `models`, `runner`, `data`, `pruning`, `quantisation`, `training`, `evaluation`,
`structured` and `plots`. A new yardstick is a column of `reading`; a new kind of damage is a form of an arm in
`damage`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "arms": ["ArmPlan"],
        "planting": ["plant", "Planted"],
        "questions": ["fact_questions", "task_questions"],
        "reading": ["Reader", "YARDSTICKS", "add_arm", "frequency_bins"],
        "damage": ["read_damaged", "parse_arm", "undone", "silence_deepest"],
        "divergence": ["divergence", "keep_likeliest"],
        "knowledge": [
            "block_table",
            "interval_of_models",
            "pattern_costs",
            "telling",
            "usable_yardsticks",
            "yardstick_check",
            "accuracy_differences",
        ],
        "shares": ["compare_losses", "kept_shares", "lost_shares", "share_of"],
        "illusion": ["chance_of_guessing", "recognition_table"],
        "frequency": ["fact_losses", "facts_by_arm", "frequency_correlation", "word_losses"],
        "subgroups": ["group_losses", "largest_excess", "excess_table", "text_excess"],
        "lengths": ["length_changes", "lengthening"],
        "predictors": ["PREDICTORS", "damage_table", "predictor_errors", "predictor_gain", "predictor_gains"],
        "reasoning": ["reasoning_arms", "reasoning_contrast"],
        "study": ["load_asked", "load_copies", "read_copies", "read_copy"],
        "sentences": [
            "tell_blocks",
            "tell_kept",
            "tell_rise",
            "tell_lengths",
            "tell_orders",
            "tell_predictors",
            "tell_recognition",
            "tell_words",
        ],
        "sizes": ["arm_bits", "bits_table", "equal_bits_arm", "order_table"],
    },
    rooms=["figures"],
)
