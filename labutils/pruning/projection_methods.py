"""Methods that choose a mask and its weights together, by alternating between a solve and a projection: ADMM, ALPS."""

from dataclasses import dataclass

from torch import Tensor

from labutils.pruning.admm import STEPS, gradual_admm
from labutils.pruning.alps import alps
from labutils.pruning.importance import wanda_score
from labutils.pruning.matrices import Group, MatrixMethod
from labutils.pruning.methods import Method, register_method
from labutils.pruning.patterns import Cut
from labutils.pruning.reconstruction import Factor
from labutils.pruning.statistics import Statistics

DOUBLE = 8  # bytes
USUAL_ALPS_STEPS = 32  # before the mask stands still: 27 to 39 on the layers of lab-llama, at 50% and at 70%


class _Projection(MatrixMethod):
    needs_hessian = True
    needs_inverse = False

    def scores(self, weight: Tensor, statistics: Statistics | None, factor: Factor | None) -> Tensor:
        return wanda_score(weight.float(), statistics.norms)  # the sizes from which the first mask is chosen


@dataclass(frozen=True)
class GradualADMM(_Projection):
    """The mask is chosen anew while the sparsity rises and the weights are reconstructed (Boža 2024)."""

    gradual: bool = True

    name = "admm"

    def operations(self, rows: int, columns: int) -> int:
        return 2 * (STEPS + 1) * rows * columns**2 + 2 * columns**3

    def memory(self, rows: int, columns: int) -> int:
        return 4 * (4 * rows * columns + 2 * columns**2)

    def prune(
        self, weight: Tensor, statistics: Statistics | None, *, n_drop: int, pattern: tuple[int, int] | None,
        factor: Factor | None, block_size: int, group: Group | None, cut: Cut | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return gradual_admm(
            weight, statistics.hessian, n_drop=n_drop, pattern=pattern, group=group or "matrix", damping=factor.damping,
            gradual=self.gradual,
        )  # fmt: skip


@dataclass(frozen=True)
class Alps(_Projection):
    """ADMM until the mask stands still, then conjugate gradients on it (Meng et al. 2024)."""

    name = "alps"

    def operations(self, rows: int, columns: int) -> int:
        return 4 * USUAL_ALPS_STEPS * rows * columns**2 + 20 * columns**3

    def memory(self, rows: int, columns: int) -> int:
        return 4 * (5 * rows * columns + columns**2) + 3 * DOUBLE * columns**2

    def prune(
        self, weight: Tensor, statistics: Statistics | None, *, n_drop: int, pattern: tuple[int, int] | None,
        factor: Factor | None, block_size: int, group: Group | None, cut: Cut | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return alps(
            weight, statistics.hessian, n_drop=n_drop, pattern=pattern, group=group or "matrix", damping=factor.damping
        )


@register_method("admm")
@dataclass(frozen=True)
class _ADMM(Method):
    """Mask and weights together while the sparsity rises, by alternating solves and projections (arXiv 2401.02938).

    Attributes:
        gradual: False for the target's sparsity at every step, as the authors' code has it.
    """

    gradual: bool = True

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return GradualADMM(self.gradual)


@register_method("alps")
class _Alps(Method):
    """Mask and weights together until the mask stands still, then conjugate gradients on it (arXiv 2406.07831)."""

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return Alps()
