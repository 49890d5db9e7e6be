"""Which teacher layers a student's layers are compared with, as a matrix that mixes teacher layers.

A map is a matrix [student blocks × teacher blocks] whose rows sum to one: row i holds the weights with which the
teacher's layers make the target of the student's layer i. Layers are blocks, counted from 0 at the input.
"""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from labutils.core.options import suggest

LAYER_MAPS = ("fixed", "average", "random-step", "random-epoch")


def map_layers(
    kind: str, n_teacher: int, n_student: int, generator: np.random.Generator
) -> Float32[Tensor, "student teacher"]:
    """A layer map.

    Args:
        kind: "fixed" takes the last layer of each of `n_student` even groups of teacher layers (3, 7, …, 23 of 24 for
            six), "average" the mean of each group, "random-step" and "random-epoch" different layers in rising order
            (RAIL-KD, Haidar et al. 2022), drawn anew for every step or every epoch by the caller.
        generator: used by the random kinds alone.

    Raises:
        ValueError: an unknown kind, or a student with more layers than the teacher.
    """
    check_layer_map(kind)
    ends = group_ends(n_teacher, n_student)
    table = torch.zeros(n_student, n_teacher)
    if kind == "average":
        for row, (start, end) in enumerate(zip([-1, *ends], ends, strict=False)):
            table[row, start + 1 : end + 1] = 1 / (end - start)
        return table
    chosen = ends if kind == "fixed" else sorted(generator.choice(n_teacher, n_student, replace=False).tolist())
    table[range(n_student), chosen] = 1.0
    return table


def group_ends(n_teacher: int, n_student: int) -> list[int]:
    """The last layer of each of `n_student` groups of consecutive teacher layers, as even as the numbers allow."""
    if not 1 <= n_student <= n_teacher:
        raise ValueError(
            f"a student of {n_student} blocks cannot be matched with a teacher of {n_teacher}: it needs at least one "
            "block and no more than the teacher has"
        )
    return [(group + 1) * n_teacher // n_student - 1 for group in range(n_student)]


def check_layer_map(kind: str) -> None:
    """ValueError, with the nearest known kind, unless `kind` is a layer map."""
    if kind not in LAYER_MAPS:
        raise ValueError(f"layer_map={kind!r} is not one of {', '.join(LAYER_MAPS)}.{suggest(kind, LAYER_MAPS)}")
