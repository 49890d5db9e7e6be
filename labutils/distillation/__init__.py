"""Distillation: students that learn from a teacher's outputs (KD) and from its layers (ILD, RAIL-KD, LoRAILD).

>>> task = load_task_data("lab:topic/stories", tokenizer, n_train=200, n_validation=100, n_test=300)
>>> teacher = train_teacher(model, task, rank=8)
>>> result = distill(teacher, cut_student(model, [2, 5]), task, method="loraild", rank=8)

Imports `core`, `stats`, `claims`, `models`, `runner`, `data`, `training` and `evaluation`. A new way to imitate layers
is a class in `matchers`, a new loss belongs into `losses`. `python -m labutils.distillation` carries out the long study
of notebook 08; whoever changes its numbers raises `FORMAT` in `bench`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "amounts": ["gains_by_amount", "judge_amounts", "task_interval", "why_no_baseline"],
        "arms": ["DistillSetting", "arms_along"],
        "comparison": [
            "arm_differences",
            "floor_guard",
            "gains_along",
            "gains_by_start",
            "interval_rows",
            "score_interval",
            "seed_tests",
            "shared_seeds",
        ],
        "data": ["TaskData", "load_task_data"],
        "figures": ["gain_curves", "gain_forest", "layer_curves", "layer_values"],
        "matchers": ["METHODS"],
        "pipeline": ["Distillation", "distill", "train_teacher"],
        "plan": ["DistillPlan"],
        "sentences": [
            "describe_baseline",
            "describe_difference",
            "describe_layer_gains",
            "describe_layers",
            "describe_score_table",
            "describe_task_gains",
            "describe_teachers",
        ],
        "students": ["cut_student", "narrow_student"],
        "sweep": ["DistillSweep", "distill_sweep"],
        "tables": [
            "control_table",
            "describe_controls",
            "describe_gains",
            "describe_rates",
            "mapping_sizes",
            "rate_table",
            "score_table",
        ],
    },
)
