"""What the dense model puts out as the target of a matrix that reads pruned inputs.

A matrix is pruned by what it reads behind the pruned blocks before it, X*. By default its new weights are to give there
what its own dense weights W give there. The other target is what the dense model gives in its place, X Wᵀ with the
dense model's inputs X, so that a matrix also makes up for the blocks before it:

    min over V of ‖X* Vᵀ − X Wᵀ‖² + λ ‖V − W‖²,   H = X*ᵀ X*,   C = Xᵀ X*.

Without a mask the minimum is M = (W C + λ W) (H + λ I)⁻¹, and every other V costs (V − M) (H + λ I) (V − M)ᵀ more. So
to prune M towards its own outputs is to prune W towards the dense model's: score, search and reconstruction stay as
they are. On a mask S exact least squares then solves (H + λ I)_SS v_S = (Cᵀ w + λ w)_S.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labutils.models.experts import ExpertMatrix
from labutils.models.structure import prunable_layers
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.reconstruction import damped_hessian


def dense_target(
    weight: Float[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    cross: Float[Tensor, "in in"],
    *,
    damping: float = 0.01,
) -> Float[Tensor, "out in"]:
    """M: the weights that on the inputs X* come nearest to what `weight` gives on X, pulled towards `weight`.

    >>> dense_target(weight, pruned.T @ pruned, dense.T @ pruned)  # equal inputs give the weight itself

    Args:
        hessian: X*ᵀX*, and cross: XᵀX*, or the same multiple of both.
        damping: share of the Hessian's mean diagonal that is λ.

    Raises:
        ValueError: the damped Hessian cannot be factorised.
    """
    damped, dense = damped_hessian(hessian.double(), damping), weight.double()
    # What was added to the diagonal, for inputs that were always zero too, pulls towards the weight.
    right = dense @ (cross.double() + (damped - hessian.double()))
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ValueError("The Hessian is singular. Use more calibration tokens, or a larger `damping`.")
    return torch.cholesky_solve(right.T, lower).T.to(weight.dtype)


class DensePath:
    """The dense model's way through the calibration, beside a walk that prunes it; one block behind none.

    >>> path = DensePath(walk)  # before the first block is pruned
    >>> crosses = path.step(0)  # and of every block before it is pruned
    """

    def __init__(self, walk: BlockWalk):
        """The walk stands at the first block; as much memory as its hidden states is taken."""
        self.walk, self.hidden = walk, [hidden.clone() for hidden in walk.hidden]

    def step(self, index: int) -> dict[str, Float[Tensor, "in in"]]:
        """(2 / sequences) XᵀX* of every matrix of a block that is still dense, by name; then on to the next block.

        Of a matrix that is not called exactly once in a pass, as one of several experts, there is none.
        """
        layers = prunable_layers(self.walk.block(index))
        watched = {name: layer for name, layer in layers.items() if not isinstance(layer, ExpertMatrix)}
        sums: dict[str, Tensor] = {}
        source: dict[str, str] = {}  # query, key and value read one tensor
        for batch in range(len(self.hidden)):
            with _inputs_of(watched) as pruned:
                self.walk.run_block(index, batch, self.walk.hidden[batch])
            with _inputs_of(watched) as dense:
                output = self.walk.run_block(index, batch, self.hidden[batch])
            self.hidden[batch] = output.clone()
            seen: dict[tuple[int, int], str] = {}
            for name in watched:
                if len(pruned.get(name, ())) == len(dense.get(name, ())) == 1:
                    pair = dense[name][0], pruned[name][0]
                    first = source[name] = seen.setdefault((id(pair[0]), id(pair[1])), name)
                    if first == name:
                        own, other = (self.walk.text_tokens(batch, each) for each in pair)
                        sums[name] = sums.get(name, 0) + own.T @ other
        found = {name: total * (2 / self.walk.n_sequences) for name, total in sums.items()}
        return {name: found[first] for name, first in source.items()}


@contextmanager
def _inputs_of(layers: dict[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """While this lasts, what every layer reads, call by call."""
    found: dict[str, list[Tensor]] = {}

    def note(name: str, layer: nn.Module, args: tuple) -> None:
        found.setdefault(name, []).append(args[0])

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(partial(note, name)))
        yield found
