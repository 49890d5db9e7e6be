"""Structured damage that a mask can hold: neurons and whole blocks set to zero, and left zero by every recovery.

A silenced block passes on what it reads, as if it had been cut out; a silenced neuron adds nothing. Parameters are
zeroed, not removed: what is gained is a fair start for recoveries, not speed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import find_blocks, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.structured.depth import DEPTH, DepthOptions

Neurons = Mapping[int, Sequence[int]]  # block → neurons


@dataclass(frozen=True)
class FeedForward:
    """The layers around a block's neurons: each of `ups` writes `width` rows, or twice as many where fused."""

    ups: tuple[nn.Module, ...]
    down: nn.Module
    width: int


def find_feed_forward(block: nn.Module) -> FeedForward:
    """The feed-forward layers of a block: the layer of the widest input, and those that write as many rows.

    Raises:
        LookupError: no single layer has the widest input, or nothing in the block writes as many rows.
    """
    layers = [module for module in block.modules() if isinstance(module, nn.Linear | Conv1D)]
    widths = [weight_matrix(layer).shape[1] for layer in layers]
    widest = max(widths, default=0)
    ups = tuple(layer for layer in layers if weight_matrix(layer).shape[0] in (widest, 2 * widest))
    if widths.count(widest) != 1 or not ups:
        raise LookupError(
            f"{type(block).__name__} has no single layer that reads its widest vector of neurons; neurons can be "
            "silenced in blocks with one feed-forward part whose inner width exceeds all others."
        )
    return FeedForward(ups, layers[widths.index(widest)], widest)


def choose_neurons(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], share: float) -> dict[int, list[int]]:
    """The same share of every block's neurons, those whose output is smallest on the tokens.

        lab.recovery.choose_neurons(model, tokens, 0.5)

    A neuron's output energy is the mean square of its activation times the squared length of the column that reads it,
    ‖a_j‖² ‖W_down[:, j]‖²: what the block's output loses, were the others' outputs orthogonal to it. Of equal ones the
    first go; a neuron whose energy is no number goes last.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} must lie between 0 and 1.")
    chosen = {}
    for index, block in enumerate(find_blocks(model)[1]):
        layers = find_feed_forward(block)
        energy = _mean_squares(model, layers.down, tokens) * weight_matrix(layers.down).float().square().sum(0)
        chosen[index] = energy.argsort(stable=True)[: round(share * layers.width)].tolist()
    return chosen


def _mean_squares(
    model: PreTrainedModel, layer: nn.Module, tokens: Int64[Tensor, "n seq_len"]
) -> Float[Tensor, " inputs"]:
    """Mean square of each input of a layer over all tokens."""
    total = torch.zeros(weight_matrix(layer).shape[1], device=device_of(model))

    def add(_: nn.Module, args: tuple) -> None:
        total.add_(args[0].float().flatten(0, -2).square().sum(0))

    hook = layer.register_forward_pre_hook(add)
    try:
        with eval_mode(model):
            for batch in tokens.split(16):
                model(input_ids=batch.to(device_of(model)), use_cache=False)
    finally:
        hook.remove()
    return total / tokens.numel()


def neuron_slices(layers: FeedForward, neurons: Sequence[int]) -> list[tuple[nn.Parameter, tuple[Tensor | slice, ...]]]:
    """Where a block's neurons stand: parameters, each with the index of the places that belong to the neurons."""
    index = torch.tensor(list(neurons), dtype=torch.int64, device=layers.down.weight.device)
    found = []
    for layer in layers.ups:
        rows = weight_matrix(layer).shape[0]
        own = torch.cat([index + start for start in range(0, rows, layers.width)])
        found.append((layer.weight, (slice(None), own) if isinstance(layer, Conv1D) else (own,)))
        if layer.bias is not None:
            found.append((layer.bias, (own,)))
    found.append((layers.down.weight, (index,) if isinstance(layers.down, Conv1D) else (slice(None), index)))
    return found


def silence_neurons(model: PreTrainedModel, neurons: Neurons) -> None:
    """Zero everything that writes or reads some neurons, biases included, in place.

    >>> silence_neurons(model, {0: [3, 5]})
    """
    blocks = find_blocks(model)[1]
    with torch.no_grad():
        for index, own in neurons.items():
            for parameter, places in neuron_slices(find_feed_forward(blocks[index]), own):
                parameter[places] = 0.0


def choose_blocks(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], count: int) -> list[int]:
    """Blocks one after another, each the one without which the loss on the tokens is lowest; in ascending order.

        lab.recovery.choose_blocks(model, tokens, 2)

    The search of `labutils.structured`: the first and the last block that are left are no candidates, a candidate whose
    loss is not finite is the worst. Source: Song et al. 2024 (SLEB, arXiv:2402.09025).

    Raises:
        ValueError: more blocks than lie between the ends, or none.
    """
    total = len(find_blocks(model)[1])
    check_count(count, total)
    return list(DEPTH["greedy"].chooser(BlockWalk(model, tokens), count, DepthOptions(race=0.0)).blocks)


def check_count(count: int, total: int) -> None:
    """ValueError for a number of blocks that cannot go while the first and the last stay."""
    if not 1 <= count <= total - 2:
        raise ValueError(f"count={count} must be from 1 to {total - 2} of {total} blocks: the first and the last stay.")


def count_blocks(model: PreTrainedModel, share: float) -> int:
    """How many blocks a share of them is, at least one; ValueError as `check_count`.

    >>> count_blocks(model, 0.33)
    2
    """
    total = len(find_blocks(model)[1])
    check_count(count := max(1, round(share * total)), total)
    return count
