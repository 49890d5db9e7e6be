"""Distillation: students that learn from a teacher's outputs (KD) and from its layers (ILD, RAIL-KD, LoRAILD).

>>> task = load_task_data("lab:topic/stories", tokenizer, n_train=200, n_validation=100, n_test=300)
>>> teacher = train_teacher(model, task, rank=8)
>>> result = distill(teacher, cut_student(model, [2, 5]), task, method="loraild", rank=8)
"""

from labutils.distillation.arms import DistillSetting, arms_along
from labutils.distillation.comparison import (
    arm_differences,
    floor_guard,
    gains_along,
    interval_rows,
    score_interval,
    seed_tests,
)
from labutils.distillation.data import TaskData, load_task_data
from labutils.distillation.figures import gain_curves, gain_forest, layer_curves, layer_values
from labutils.distillation.matchers import METHODS
from labutils.distillation.pipeline import Distillation, distill, train_teacher
from labutils.distillation.plan import DistillPlan
from labutils.distillation.students import cut_student, narrow_student
from labutils.distillation.sweep import DistillSweep, distill_sweep
from labutils.distillation.tables import (
    control_table,
    describe_controls,
    describe_gains,
    describe_rates,
    mapping_sizes,
    rate_table,
    score_table,
)
from labutils.runner.stored_rows import describe_origin

__all__ = [
    "METHODS",
    "DistillPlan",
    "DistillSetting",
    "DistillSweep",
    "Distillation",
    "TaskData",
    "arm_differences",
    "arms_along",
    "control_table",
    "cut_student",
    "distill",
    "distill_sweep",
    "floor_guard",
    "gain_curves",
    "gain_forest",
    "gains_along",
    "interval_rows",
    "layer_curves",
    "layer_values",
    "mapping_sizes",
    "load_task_data",
    "narrow_student",
    "rate_table",
    "score_interval",
    "score_table",
    "seed_tests",
    "describe_controls",
    "describe_gains",
    "describe_origin",
    "describe_rates",
    "train_teacher",
]
