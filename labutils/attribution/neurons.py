"""Neurons: the units of each block's MLP, found by structure, and their activations during a forward pass.

Neuron n of block l is unit n of the vector that enters the block's down projection: act(gate x)_n · (up x)_n in gated
MLPs, act(up x)_n in others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix

Neurons = pd.DataFrame | Sequence[tuple[int, int]]
Receiver = Callable[[int, Float[Tensor, "tokens width"]], Float[Tensor, "tokens width"] | None]


@dataclass(frozen=True)
class MlpLayer:
    """The linear layers around the neurons of one block.

    `down` reads the neurons; each of `ups` (gate and up, or the only one) writes `width` rows, or a multiple of it
    where gate and up are fused: neuron n owns the rows n, n + width, …
    """

    name: str
    down: nn.Module
    ups: tuple[nn.Module, ...]
    width: int


def find_mlp_layers(model: PreTrainedModel) -> list[MlpLayer]:
    """The MLP of every block, found by what its linear layers do with two tokens.

    Of the linear layers of a block, the down projection is the last one whose input depends on the linear layer run
    before it token by token and unit by unit. This tells it from the output projection of attention, whose input mixes
    tokens, and from whatever stands behind a norm, which mixes units.

    Raises:
        LookupError: a block has no such layer (experts fused into one tensor, or a norm inside the MLP).
    """
    prefix, blocks = find_blocks(model)
    probes = [_Probe() for _ in blocks]
    with eval_mode(model, gradients=True), torch.inference_mode(False), torch.enable_grad():
        with ExitStack() as hooks:
            for probe, block in zip(probes, blocks, strict=True):
                probe.watch(block, hooks)
            model(input_ids=torch.tensor([[0, 1]], device=device_of(model)))
        return [probe.find(f"{prefix}.{index}") for index, probe in enumerate(probes)]


class _Probe:
    """Records inputs and outputs of a block's linear layers; every output is cut off from what came before it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def watch(self, block: nn.Module, hooks: ExitStack) -> None:
        for name, layer in prunable_layers(block).items():
            if isinstance(layer, nn.Module):  # slices of fused experts are none
                hooks.enter_context(layer.register_forward_hook(self._hook(name)))

    def _hook(self, name: str) -> Callable:
        def record(layer: nn.Module, args: tuple, output: Tensor) -> Tensor:
            leaf = output.detach().requires_grad_()
            self.calls.append((name, layer, args[0], leaf))
            return leaf.clone()  # Falcon adds to it in place, which a leaf does not allow

        return record

    def find(self, block: str) -> MlpLayer:
        for (_, _, source, before), (name, layer, inner, _) in reversed(
            list(zip(self.calls, self.calls[1:], strict=False))
        ):
            if _is_unit_wise(inner, before):
                ups = tuple(up for _, up, read, output in self.calls if read is source and _is_unit_wise(inner, output))
                return MlpLayer(f"{block}.{name}", layer, ups, inner.shape[-1])
        raise LookupError(
            f"no MLP neurons were found in {block}: none of its linear layers ({len(self.calls)} were run) reads the "
            "units of the layer before it one by one. Experts fused into one tensor, and MLPs with a norm inside, have "
            "no neurons in the sense used here."
        )


def _is_unit_wise(inner: Tensor, before: Tensor) -> bool:
    """Whether unit n of `inner` depends on unit n (or n + width, …) of `before` alone, at its own token alone."""
    width = inner.shape[-1]
    if not inner.requires_grad or before.shape[-1] % width or before.numel() % 2:
        return False
    half = width - width // 2
    wanted = inner.reshape(2, width)[1, :half].sum()  # units of the first half, at the second token
    (gradient,) = torch.autograd.grad(wanted, before, retain_graph=True, allow_unused=True)
    if gradient is None:
        return False
    by_token = gradient.reshape(2, -1, width)
    return not by_token[0].any() and not by_token[1, :, half:].any()


@contextmanager
def hooked_neurons(layers: Sequence[MlpLayer], receive: Receiver) -> Iterator[None]:
    """Within the context every forward pass calls `receive(block, inner)` with all tokens' neurons of each block.

        with hooked_neurons(find_mlp_layers(model), lambda block, inner: print(block, inner.shape)):
            model(input_ids=tokens)

    What it returns, if anything, takes the place of the neurons. The hooks are removed however the context ends.
    """

    def hook(block: int) -> Callable:
        def on_inputs(layer: nn.Module, args: tuple) -> tuple | None:
            inner = args[0]  # OPT flattens batch and sequence itself
            changed = receive(block, inner.reshape(-1, inner.shape[-1]))
            return None if changed is None else (changed.reshape(inner.shape), *args[1:])

        return on_inputs

    with ExitStack() as hooks:
        for block, layer in enumerate(layers):
            hooks.enter_context(layer.down.register_forward_pre_hook(hook(block)))
        yield


def check_neurons(neurons: Neurons, layers: Sequence[MlpLayer]) -> pd.DataFrame:
    """The neurons as a frame with `block` and `neuron`, each pair once, further columns of the first mention kept.

    Args:
        neurons: a frame with these columns, as the functions of this package return, or pairs (block, neuron).

    Raises:
        ValueError: no neurons, or a frame without the columns.
        LookupError: a block or neuron that the model does not have.
    """
    frame = neurons if isinstance(neurons, pd.DataFrame) else pd.DataFrame(neurons, columns=["block", "neuron"])
    if missing := {"block", "neuron"} - set(frame.columns):
        raise ValueError(f"neurons need the columns block and neuron; missing: {', '.join(sorted(missing))}")
    if frame.empty:
        raise ValueError("there are no neurons in the list; name at least one as (block, neuron)")
    frame = frame.drop_duplicates(["block", "neuron"]).reset_index(drop=True)
    for block, neuron in zip(frame["block"], frame["neuron"], strict=True):
        if not 0 <= block < len(layers):
            raise LookupError(f"there is no block {block}: the model has the blocks 0 to {len(layers) - 1}")
        if not 0 <= neuron < layers[block].width:
            raise LookupError(f"block {block} has no neuron {neuron}: its neurons are 0 to {layers[block].width - 1}")
    return frame


def neuron_weights(layer: MlpLayer, neuron: int) -> list[Tensor]:
    """Everything that belongs to one neuron, as views: its rows and biases in `ups`, and its column in `down`."""
    views = []
    for up in layer.ups:
        rows = slice(neuron, None, layer.width)
        views.append(weight_matrix(up)[rows])
        if up.bias is not None:
            views.append(up.bias.data[rows])
    return [*views, weight_matrix(layer.down)[:, neuron]]
