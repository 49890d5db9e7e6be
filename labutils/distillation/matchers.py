"""The methods: what each compares between teacher and student, and the mapping it has to learn for that.

A matcher is a module whose parameters are the mapping, trained beside the student and thrown away with it. A new
method is one matcher and one entry in `METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from labutils.core.options import suggest
from labutils.distillation.losses import ild_loss, loraild_loss, rail_c_loss, rail_l_loss
from labutils.evaluation.similarity import mean_pool

States = Literal["hidden", "adapters"]


@dataclass(frozen=True)
class Sizes:
    """Blocks and widths of teacher and student, and the size that a method may choose: rank, or RAIL-KD's u."""

    teacher_blocks: int
    teacher_width: int
    student_blocks: int
    student_width: int
    rank: int


class LayerMatcher(nn.Module):
    """What compares the layers of teacher and student; a subclass computes the loss in `compare`."""

    def forward(
        self,
        teacher: Float[Tensor, "teacher rows tokens teacher_width"],
        student: Float[Tensor, "student rows tokens student_width"],
        mask: Int64[Tensor, "rows tokens"],
        layer_map: Float[Tensor, "student teacher"],
    ) -> Float[Tensor, ""]:
        return self.compare(teacher, student, mask, layer_map)

    def compare(self, teacher: Tensor, student: Tensor, mask: Tensor, layer_map: Tensor) -> Tensor:
        """The loss, for tensors of the shapes that `forward` names."""
        raise NotImplementedError


class ProjectedMatcher(LayerMatcher):
    """ILD: one linear map per student layer, from the student's width to the teacher's, without a constant."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.projections = _linears(sizes.student_blocks, sizes.student_width, sizes.teacher_width, bias=False)

    def compare(self, teacher: Tensor, student: Tensor, mask: Tensor, layer_map: Tensor) -> Tensor:
        projected = torch.stack([layer(states) for layer, states in zip(self.projections, student, strict=True)])
        return ild_loss(mix_layers(layer_map, teacher), projected, mask)


class PooledMatcher(LayerMatcher):
    """RAIL-KD, layer by layer: mean-pooled states, projected to a common size by one linear map per layer and side."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.teacher = _linears(sizes.teacher_blocks, sizes.teacher_width, sizes.rank)
        self.student = _linears(sizes.student_blocks, sizes.student_width, sizes.rank)

    def compare(self, teacher: Tensor, student: Tensor, mask: Tensor, layer_map: Tensor) -> Tensor:
        projected = [
            torch.stack([layer(pooled) for layer, pooled in zip(layers, mean_pool(states, mask), strict=True)])
            for layers, states in ((self.teacher, teacher), (self.student, student))
        ]
        return rail_l_loss(mix_layers(layer_map, projected[0]), projected[1])


class ConcatenatedMatcher(LayerMatcher):
    """RAIL-KD, concatenated: the mean-pooled states of all chosen layers side by side, one linear map per side."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.teacher = nn.Linear(sizes.student_blocks * sizes.teacher_width, sizes.rank)
        self.student = nn.Linear(sizes.student_blocks * sizes.student_width, sizes.rank)

    def compare(self, teacher: Tensor, student: Tensor, mask: Tensor, layer_map: Tensor) -> Tensor:
        pooled = mix_layers(layer_map, mean_pool(teacher, mask)), mean_pool(student, mask)
        joined = [states.transpose(0, 1).flatten(1) for states in pooled]
        return rail_c_loss(self.teacher(joined[0]), self.student(joined[1]))


class AdapterMatcher(LayerMatcher):
    """LoRAILD: the adapters' outputs as they are. Nothing is learned for the comparison alone."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

    def compare(self, teacher: Tensor, student: Tensor, mask: Tensor, layer_map: Tensor) -> Tensor:
        return loraild_loss(mix_layers(layer_map, teacher), student, mask)


@dataclass(frozen=True)
class Method:
    """A distillation method.

    `states` says what of the two models is compared, with `matcher`, under `layer_map` unless the caller wants another;
    None for methods that leave the layers alone. `teaches` is False for a student that learns from labels alone.
    """

    teaches: bool = True
    states: States | None = None
    matcher: Callable[[Sizes], nn.Module] | None = None
    layer_map: str = "fixed"


METHODS = {
    "none": Method(teaches=False),
    "kd": Method(),
    "ild": Method(states="hidden", matcher=ProjectedMatcher),
    "rail-l": Method(states="hidden", matcher=PooledMatcher, layer_map="random-epoch"),
    "rail-c": Method(states="hidden", matcher=ConcatenatedMatcher, layer_map="random-epoch"),
    "loraild": Method(states="adapters", matcher=AdapterMatcher),
}


def find_method(name: str) -> Method:
    """The method of a name; LookupError with the nearest known one."""
    if name not in METHODS:
        raise LookupError(f"no distillation method {name!r}.{suggest(name, METHODS)} Known: {', '.join(METHODS)}.")
    return METHODS[name]


def mix_layers(
    layer_map: Float[Tensor, "student teacher"], states: Float[Tensor, "teacher *shape width"]
) -> Float[Tensor, "student *shape width"]:
    """The targets of the student's layers: teacher layers mixed with the weights of a layer map."""
    return torch.tensordot(layer_map, states, dims=1)


def _linears(n: int, width: int, size: int, *, bias: bool = True) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, size, bias=bias) for _ in range(n))
