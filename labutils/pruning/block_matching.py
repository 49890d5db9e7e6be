"""Matching a pruned block's output to the dense block's on the same inputs, by a few steps of gradient descent.

The inputs are those that the pruned blocks before it put out; the teacher is the block before it was pruned. Only its
matrices move: norms and biases stay, as everywhere in pruning. Two recipes:

- `match_block` keeps the mask (block-local reconstruction, as in 'A Free Lunch in LLM Compression', arXiv 2510.14444):
  64 steps of Adam, whose rate is a hundredth of a matrix's own size (2e-4 for the weights of a 7B Llama) and falls to
  zero. If the block is farther from the dense one in the end, its weights are put back.
- `optimise_regionally` is Wanda++'s (arXiv 2503.04992): five rounds of 32 steps of RMSprop on all weights, and pruning
  anew after each. Its rate of 3e-7 is taken relative to weights of size 0.02, as those of a 7B Llama are. The steps
  are smaller than half-precision weights lie apart, so float32 copies of the weights live through all rounds. The
  authors take 32 of 128 sequences for every round; here every round goes through all of them, batch after batch.

The targets are what the dense block makes of the *pruned* inputs, so that each block mends itself alone. Windows of a
matrix, of half a block or of several blocks are not offered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labutils.models.modes import eval_mode
from labutils.models.structure import Layer, layer_parameter, matrix_in, prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradients import gradients_of
from labutils.pruning.statistics import Statistics

STEPS, RATE, BETAS = 64, 0.01, (0.9, 0.95)  # of `match_block`
ROUNDS, ROUND_STEPS, ROUND_RATE = 5, 32, 1.5e-5  # of `optimise_regionally`


@dataclass(frozen=True)
class PrunedBlock:
    """A block whose matrices have just been pruned, and what it is to be matched with.

    Attributes:
        walk: has come to this block.
        targets: per batch, what the dense block puts out for the walk's hidden states.
        masks: of its matrices, by their name in the block; True = kept.
        prune_again: prunes its matrices anew, by the same scores of their present weights.
        dense: the matrices before they were pruned.
        prune_as: prunes one matrix, of that name, from a weight and what its inputs are; writes it into the block.
        damping: of Hessians, as `prune` was asked for.
    """

    walk: BlockWalk
    index: int
    targets: Sequence[Float[Tensor, "n ..."]]
    masks: Callable[[], dict[str, Bool[Tensor, "out in"]]]
    prune_again: Callable[[], None]
    dense: Mapping[str, Float[Tensor, "out in"]] = field(default_factory=dict)
    prune_as: Callable[[str, Tensor, Statistics], None] | None = None
    damping: float = 0.01

    @property
    def layers(self) -> dict[str, Layer]:
        return prunable_layers(self.walk.block(self.index))


def match_block(block: PrunedBlock, *, steps: int = STEPS, rate: float = RATE) -> None:
    """Move the kept weights towards the dense block's output, in place; what does not help is taken back.

    Args:
        rate: of the first step, relative to the root mean square of a matrix's kept weights; it falls to zero.

    Raises:
        ValueError: the block's output or its gradient is not finite.
    """
    before = block_error(block)
    kept = {name: weight_matrix(layer).clone() for name, layer in block.layers.items()}
    masks = block.masks()
    values = {name: kept[name].float() * mask for name, mask in masks.items()}
    _descend(block, values, masks, torch.optim.Adam, steps, rate, falling=True, betas=BETAS)
    if not block_error(block) < before:
        for name, layer in block.layers.items():
            weight_matrix(layer).copy_(kept[name])


def optimise_regionally(
    block: PrunedBlock, *, rounds: int = ROUNDS, steps: int = ROUND_STEPS, rate: float = ROUND_RATE
) -> None:
    """Rounds of steps on all weights towards the dense block's output, each followed by pruning anew, in place.

    What is pruned anew is the block's weights; what moves are their copies in float32, which lose the same weights.
    """
    values = {name: weight_matrix(layer).to(torch.float32, copy=True) for name, layer in block.layers.items()}
    for _ in range(rounds):
        everywhere = {name: torch.ones_like(mask) for name, mask in block.masks().items()}
        _descend(block, values, everywhere, torch.optim.RMSprop, steps, rate, falling=False)
        block.prune_again()
        values = {name: values[name] * mask for name, mask in block.masks().items()}


def block_error(block: PrunedBlock) -> float:
    """The squared distance of the block's output to the dense one's, over that one's square; padding left out."""
    error = total = 0.0
    with eval_mode(block.walk.block(block.index)):
        for (output, mask), target in zip(block.walk.outputs_of(block.index), block.targets, strict=True):
            output, target = _tokens(output, mask), _tokens(target, mask)
            error += (output - target).float().square().sum().item()
            total += target.float().square().sum().item()
    return error / total if total > 0 else 0.0


def _descend(
    block: PrunedBlock, values: dict[str, Tensor], masks: dict[str, Tensor], kind: type[torch.optim.Optimizer],
    steps: int, rate: float, *, falling: bool, **options: object,
) -> None:  # fmt: skip
    """Steps on float32 weights inside the masks, in place, batch after batch; written into the block each time.

    Only the direction of the loss counts for both optimisers, so that its scale is free: it is relative.
    """
    layers, module = block.layers, block.walk.block(block.index)
    sizes = {name: (values[name].square().sum() / masks[name].sum().clamp(min=1)).sqrt().item() for name in layers}
    groups = [{"params": [values[name]], "lr": rate * sizes[name]} for name in layers]
    optimiser = kind(groups, lr=rate, **options)
    n_batches = len(block.targets)
    with eval_mode(module, gradients=True), gradients_of(module, list(layers.values())) as parameters:
        for step in range(steps):
            batch = step % n_batches
            loss = _loss(*block.walk.output_of(block.index, batch), block.targets[batch])
            found = dict(zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
            for name, layer in layers.items():
                gradient = found[layer_parameter(layer)]
                own = torch.zeros_like(values[name]) if gradient is None else matrix_in(layer, gradient).float()
                values[name].grad = own * masks[name]
            for group, size in zip(optimiser.param_groups, sizes.values(), strict=True):
                group["lr"] = rate * size * (1 - step / steps if falling else 1.0)
            optimiser.step()
            for name, layer in layers.items():
                weight_matrix(layer).copy_(values[name])


def _loss(output: Tensor, mask: Tensor | None, target: Tensor) -> Tensor:
    output, target = _tokens(output, mask).float(), _tokens(target, mask).float()
    loss = (output - target).square().sum() / target.square().sum().clamp(min=torch.finfo(torch.float32).tiny)
    if not loss.isfinite():
        raise ValueError(
            "A block's output is not finite while it is matched with the dense one's. Choose another reconstruction."
        )
    return loss


def _tokens(output: Tensor, mask: Tensor | None) -> Tensor:
    """Without padding, where it can be told."""
    return output if mask is None or output.shape[: mask.dim()] != mask.shape else output[mask]
