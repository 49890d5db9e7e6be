"""`optiprune-auto`: one method for every sparsity, of which the spread and the damping are measured.

ADMM, spread by what the blocks can spare. Where an input has few calibration tokens to its name, the Hessian is damped
more: the solve would fit their noise. `12_best_possible` has what spoke for ADMM and against other methods.
"""

from dataclasses import replace

from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.measured import Measured
from labutils.pruning.methods import Method, Request, register_method
from labutils.pruning.projection_methods import GradualADMM
from labutils.pruning.scarcity import needed_damping


@register_method("optiprune-auto")
class OptiPruneAuto(Method):
    """ADMM, spread by measured damage, with more damping where an input has few calibration tokens to its name."""

    default_allocation = Measured
    streamable = False

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return GradualADMM()

    def fit_to(self, walk: BlockWalk, request: Request) -> Request:
        damping = max(request.options.damping, needed_damping(walk))
        return replace(request, options=replace(request.options, damping=damping))
