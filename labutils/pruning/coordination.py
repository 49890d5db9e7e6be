"""SparseLLM (arXiv 2402.17946): the matrices of an MLP pruned in concert, by alternating over its inner states.

Attention is pruned by SparseGPT. For the MLP with inputs X and outputs Y of the dense block, auxiliary states stand
between the matrices: s and z before the activation φ, and p behind it. Of the gated form, they minimise together

    α ‖s − X W_gateᵀ‖² + α ‖z − X W_upᵀ‖² + γ ‖p − φ(s) z‖² + β ‖Y − p W_downᵀ‖²,

of the plain one α ‖z − X W_inᵀ‖² + γ ‖p − φ(z)‖² + β ‖Y − p W_outᵀ‖². Each round fits the matrices to the states by
ridge regression, prunes them with SparseGPT by what they read (X and p), and then fits the states to the pruned
matrices: p by a linear solve, z of the gated form in closed form, what stands inside φ by two Gauss-Newton steps. Four
rounds and equal weights α, β, γ, as the authors' code has them for most blocks; no block is treated apart. Where that
code takes pseudo-inverses for the regressions, these are solved with the damped Hessian, by the damping of `prune`.

X, Y and the states stand in float32 for all tokens at once, as the method has it; a forecast counts them. The states
are renewed a few thousand tokens at a time.

Published tables prune only the first half of the blocks (an author, in the repository's issue 16): nothing here does.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labutils.models.modes import eval_mode
from labutils.models.structure import weight_matrix
from labutils.pruning.block_matching import PrunedBlock
from labutils.pruning.matrices import SparseGPT
from labutils.pruning.methods import Method, register_method
from labutils.pruning.reconstruction import damped_hessian, factor_hessian
from labutils.pruning.reconstructions import Reconstruction
from labutils.pruning.statistics import Statistics

ROUNDS, INNER_STEPS = 4, 2
SAME = 0.02  # of what is the same computation, in bfloat16 at worst
CHUNK = 4096  # tokens whose states are renewed together
FLOAT = 4  # bytes
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda states: nn.functional.gelu(states, approximate="tanh"),
    "relu": nn.functional.relu,
}


@dataclass(frozen=True)
class Mlp:
    """The MLP of a block, found by what its matrices read.

    Attributes:
        first: the matrices that read its inputs: one, or the gate's and the other's.
        last: the matrix that reads its inner states.
        activation: between them, a key of `ACTIVATIONS`.
    """

    first: tuple[str, ...]
    last: str
    activation: str


def coordinate(block: PrunedBlock, *, rounds: int = ROUNDS) -> None:
    """Prune the MLP of a block anew, its matrices in concert, in place; attention stays as it is.

    Raises:
        LookupError: no MLP of one of the two forms is found in the block.
    """
    with _dense(block):
        mlp = find_mlp(block)
        read = _record(block, (mlp.first[0], mlp.last))
    inputs, inner = read[mlp.first[0]], read.pop(mlp.last)
    act, n_sequences = ACTIVATIONS[mlp.activation], block.walk.n_sequences
    layers = block.layers
    biases = {name: _bias(layers[name]) for name in (*mlp.first, mlp.last)}
    dense = {name: block.dense[name].float() for name in (*mlp.first, mlp.last)}
    outputs = inner @ dense[mlp.last].T  # without the bias, which stays
    states = {name: inputs @ dense[name].T + biases[name] for name in mlp.first}
    of_inputs = _statistics(inputs, n_sequences)
    for _ in range(rounds):
        of_inner = _statistics(inner, n_sequences)
        for name in mlp.first:
            fitted = _fit(of_inputs, inputs, states[name] - biases[name], dense[name], block.damping)
            block.prune_as(name, fitted, of_inputs)
        block.prune_as(mlp.last, _fit(of_inner, inner, outputs, dense[mlp.last], block.damping), of_inner)
        matrices = {name: weight_matrix(layers[name]).float() for name in (*mlp.first, mlp.last)}
        for start in range(0, len(inputs), CHUNK):
            part = slice(start, start + CHUNK)
            own = {name: values[part] for name, values in states.items()}
            outer = {name: inputs[part] @ matrices[name].T + biases[name] for name in mlp.first}
            inner[part] = _inner_states(outputs[part], _activate(own, mlp.first, act), matrices[mlp.last])
            for name, values in _outer_states(own, outer, inner[part], mlp.first, act).items():
                states[name][part] = values


def find_mlp(block: PrunedBlock) -> Mlp:
    """The MLP of the block as it is, by trying which activation of which matrices' outputs gives another's inputs.

    It is tried on the first batch of the calibration.

    Raises:
        LookupError: there is none of the two forms.
    """
    read = _record(block, batches=1)
    layers = block.layers
    outputs = {
        name: inputs @ weight_matrix(layers[name]).float().T + _bias(layers[name]) for name, inputs in read.items()
    }
    candidates: list[tuple[float, Mlp]] = []
    for last, inner in read.items():
        shaped = [name for name in read if name != last and outputs[name].shape == inner.shape]
        for activation, act in ACTIVATIONS.items():
            for name in shaped:
                alone = act(outputs[name])
                pairs = [((name,), alone)]
                pairs += [((name, other), alone * outputs[other]) for other in shaped
                          if other != name and torch.equal(read[other], read[name])]  # fmt: skip
                candidates += [(_distance(made, inner), Mlp(first, last, activation)) for first, made in pairs]
    if candidates:
        distance, found = min(candidates, key=lambda candidate: candidate[0])
        if distance < SAME:
            return found
    raise LookupError(
        f"{block.walk.prefix}.{block.index} holds no MLP of two matrices, or of three with a gate, with one of the "
        f"activations {', '.join(ACTIVATIONS)} between them, so its matrices cannot be pruned in concert. Choose "
        "another method, such as sparsegpt."
    )


@contextmanager
def _dense(block: PrunedBlock) -> Iterator[None]:
    """While this lasts, the block has its dense weights."""
    pruned = {name: weight_matrix(layer).clone() for name, layer in block.layers.items()}
    try:
        for name, layer in block.layers.items():
            weight_matrix(layer).copy_(block.dense[name])
        yield
    finally:
        for name, layer in block.layers.items():
            weight_matrix(layer).copy_(pruned[name])


def _record(
    block: PrunedBlock, names: Collection[str] | None = None, *, batches: int | None = None
) -> dict[str, Float[Tensor, "tokens in"]]:
    """What linear layers of the block read, over all tokens that are no padding; experts are left out.

    Args:
        names: of the layers; all by default.
        batches: of the calibration, from the first on; all by default.
    """
    seen: dict[str, list[Tensor]] = {}
    layers = {name: layer for name, layer in block.layers.items() if isinstance(layer, nn.Module)}
    layers = {name: layer for name, layer in layers.items() if names is None or name in names}
    hooks = []
    try:
        for name, layer in layers.items():
            keep = seen.setdefault(name, [])
            hooks.append(layer.register_forward_pre_hook(lambda _, args, keep=keep: keep.append(args[0].detach())))
        with eval_mode(block.walk.block(block.index)):
            for _, mask in islice(block.walk.outputs_of(block.index), batches):
                for kept in seen.values():
                    if kept:
                        flat = kept[-1].reshape(-1, kept[-1].shape[-1]).float()
                        kept[-1] = flat if mask is None or len(flat) != mask.numel() else flat[mask.reshape(-1)]
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(seen.pop(name)) for name in list(seen) if seen[name]}


def _statistics(inputs: Tensor, n_sequences: int) -> Statistics:
    hessian = inputs.T @ inputs * (2 / n_sequences)
    return Statistics(hessian, inputs.norm(dim=0), inputs[:256], len(inputs), inputs.sum(dim=0), n_sequences)


def _fit(own: Statistics, inputs: Tensor, targets: Tensor, dense: Tensor, damping: float) -> Tensor:
    """The matrix whose outputs are nearest to the targets, by ridge regression towards the dense one."""
    hessian = own.hessian.double()
    damped = damped_hessian(hessian, factor_hessian(hessian, damping=damping, inverse=False).damping)
    right = (inputs.T @ targets).double() * (2 / own.n_sequences) + (damped - hessian) @ dense.T.double()
    return torch.cholesky_solve(right, torch.linalg.cholesky(damped)).T.float()


def _activate(states: dict[str, Tensor], first: tuple[str, ...], act: Callable[[Tensor], Tensor]) -> Tensor:
    return act(states[first[0]]) if len(first) == 1 else act(states[first[0]]) * states[first[1]]


def _inner_states(outputs: Tensor, activated: Tensor, last: Tensor) -> Tensor:
    """p: the minimum of ‖Y − p Wᵀ‖² + ‖p − activated‖², a + (Y − a Wᵀ) (I + W Wᵀ)⁻¹ W."""
    system = last.double() @ last.T.double()
    system.diagonal().add_(1.0)
    rest = (outputs - activated @ last.T).T.double()
    return activated + torch.cholesky_solve(rest, torch.linalg.cholesky(system)).T.float() @ last


def _outer_states(
    states: dict[str, Tensor], outer: dict[str, Tensor], inner: Tensor, first: tuple[str, ...],
    act: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:  # fmt: skip
    """What stands before the activation: near to the pruned matrices' outputs, and to p behind it."""
    inside = first[0]
    if len(first) == 1:
        return {inside: _descend(states[inside], outer[inside], inner, 1.0, act)}
    gate = act(states[inside])
    other = (outer[first[1]] + gate * inner) / (gate.square() + 1)
    return {inside: _descend(states[inside], outer[inside], inner, other, act), first[1]: other}


def _descend(state: Tensor, near: Tensor, inner: Tensor, times: Tensor | float, act: Callable) -> Tensor:
    """A few Gauss-Newton steps down (s − near)² + (p − φ(s) · times)², for every element by itself.

    The authors' gradient steps of a fixed length diverge where an inner state is larger than a few units. What does not
    lower its own term stays.
    """
    value = _value(state, near, inner, times, act)
    for _ in range(INNER_STEPS):
        with torch.enable_grad():
            moving = state.detach().requires_grad_(True)
            activated = act(moving)
            (derivative,) = torch.autograd.grad(activated.sum(), moving)
        tangent = derivative * times
        slope = (state - near) - (inner - activated.detach() * times) * tangent
        moved = state - slope / (1 + tangent.square())
        lower = (new := _value(moved, near, inner, times, act)) < value
        state, value = torch.where(lower, moved, state), torch.where(lower, new, value)
    return state


def _value(state: Tensor, near: Tensor, inner: Tensor, times: Tensor | float, act: Callable) -> Tensor:
    return (state - near).square() + (inner - act(state) * times).square()


def _distance(made: Tensor, inner: Tensor) -> float:
    """Relative to the largest inner state."""
    return ((made - inner).abs().max() / inner.abs().max().clamp(min=torch.finfo(inner.dtype).tiny)).item()


def _bias(layer: nn.Module) -> Tensor | float:
    bias = getattr(layer, "bias", None)
    return 0.0 if bias is None else bias.detach().float()


class Coordination(Reconstruction):
    """The matrices of the MLP pruned once more, in concert."""

    name, of_block = "coordination", True

    def reconstruct_block(self, block: PrunedBlock) -> None:
        coordinate(block)

    def block_memory(self, shapes: Sequence[tuple[int, int]], tokens: int) -> int:
        width, inner, n_first = _mlp_shape(shapes)
        return FLOAT * tokens * (2 * width + (2 + n_first) * inner) + 4 * FLOAT * inner**2

    def block_operations(self, shapes: Sequence[tuple[int, int]], tokens: int) -> int:
        width, inner, n_first = _mlp_shape(shapes)
        products = 2 * tokens * (inner**2 + (2 * n_first + 3) * width * inner)  # a Gram matrix, fits, and states
        solves = 2 * (inner**3 + width**3 + 2 * width * inner * (inner + n_first * width))  # in double precision
        return ROUNDS * (products + solves) + 2 * tokens * width**2


def _mlp_shape(shapes: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """The width of a block, the inner width of its MLP, and how many matrices lead to it, by the matrices' shapes."""
    width, inner = max(shapes, key=lambda shape: shape[1])
    return width, inner, max(1, sum(shape == (inner, width) for shape in shapes))


@dataclass(frozen=True)
class CoordinatedSparseGPT(SparseGPT):
    """SparseGPT, and the matrices of every MLP in concert (Bai et al. 2024)."""

    name = "sparsellm"
    of_block = Coordination()

    def operations(self, rows: int, columns: int) -> int:
        return (1 + ROUNDS) * (rows * columns**2 + columns**3)


@register_method("sparsellm")
class _SparseLLM(Method):
    """SparseGPT, and the matrices of every MLP in concert (arXiv 2402.17946)."""

    def matrix_method(self, sparsity: float) -> CoordinatedSparseGPT:
        return CoordinatedSparseGPT()
