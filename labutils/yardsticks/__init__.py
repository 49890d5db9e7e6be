"""What perplexity hides: the same facts read by several yardsticks, on models that are pruned, quantised or shortened.

`planting` gives a lab model facts told known numbers of times, `questions` asks for them, `reading` reads one model by
every yardstick, and `damage` does so for a list of arms. `knowledge`, `illusion`, `frequency`, `subgroups`,
`predictors`, `reasoning`, `lengths` and `sizes` turn the rows into the numbers that notebook 09 shows and judges;
`arms` and `study` are its plan, and `figures` draws them.

Imports `core`, `stats`, `world`, `models`, `data`, `pruning`, `quantisation`, `training`, `evaluation` and `plots`. A
new yardstick is a column of `reading`; a new kind of damage is a form of an arm in `damage`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "arms": ["ArmPlan"],
        "planting": ["plant", "Planted"],
        "questions": ["fact_questions", "task_questions"],
        "reading": ["Reader", "YARDSTICKS", "add_arm", "frequency_bins"],
        "damage": ["read_damaged", "parse_arm", "undone", "silence_blocks"],
        "knowledge": [
            "block_table",
            "kept_shares",
            "pattern_costs",
            "usable_yardsticks",
            "yardstick_check",
            "accuracy_differences",
            "lost_shares",
            "compare_losses",
        ],
        "illusion": ["recognition_table"],
        "frequency": ["fact_losses", "facts_by_arm", "frequency_correlation", "word_losses"],
        "subgroups": ["group_losses", "largest_excess", "excess_table", "text_excess"],
        "lengths": ["length_changes"],
        "predictors": ["PREDICTORS", "damage_table", "predictor_errors", "predictor_gain"],
        "reasoning": ["reasoning_contrast"],
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
