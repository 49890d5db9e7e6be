"""`optiprune`: one method at low sparsities, another at high ones (OptiPrune, COLING 2025)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from labutils.pruning.allocations import AdaptiveOwl, Budgets
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.methods import Method, matrix_method, register_method


@register_method("optiprune")
@dataclass(frozen=True)
class OptiPrune(Method):
    """One method below a threshold, another from it on (OptiPrune, COLING 2025).

    Attributes:
        threshold: τ: below this sparsity `below` prunes, from it on `above`.
        threshold_on: compare τ with the model's sparsity ("global") or with each block's ("layer").
        below, above: names of methods.
    """

    threshold: float = 0.5
    threshold_on: Literal["global", "layer"] = "global"
    below: str = "ria"
    above: str = "sparsegpt"

    default_allocation = AdaptiveOwl

    def __post_init__(self) -> None:
        if self.threshold_on not in ("global", "layer"):
            raise ValueError(f'threshold_on={self.threshold_on!r} must be "global" or "layer".')
        for name in (self.below, self.above):
            matrix_method(name)

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return matrix_method(self.below if sparsity < self.threshold else self.above)

    def block_methods(self, budgets: Budgets, sizes: Tensor, sparsity: float) -> list[MatrixMethod]:
        if self.threshold_on != "layer":
            return super().block_methods(budgets, sizes, sparsity)
        methods = []
        for index, size in enumerate(sizes.tolist()):
            share = sum(count for (block, _), count in budgets.items() if block == index) / size
            methods.append(self.matrix_method(share))
        return methods
