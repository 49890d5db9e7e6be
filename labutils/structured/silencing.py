"""Blocks that add nothing but stay where they are: what notebooks compare without building a smaller model."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.experts import holds_fused_experts
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix

IDS = 4  # tokens of the run that checks, where none are given


@torch.no_grad()
def silence_blocks(
    model: PreTrainedModel, chosen: Sequence[int], tokens: Int64[Tensor, "n seq_len"] | None = None
) -> None:
    """Let some blocks add nothing, in place: each then passes on what it reads, as if it had been cut out.

    >>> silence_blocks(model, [4, 5])

    All that `prune` could prune in them becomes zero, fused experts too, and so do the biases. A run of the model
    checks that what each block gives is what it got.

    Args:
        chosen: numbers of the blocks.
        tokens: what the run reads; a few ids otherwise.

    Raises:
        ValueError: a block that there is not, or one that changes what it gets even so, as one that normalises its
            output does. The model is as it was.
    """
    blocks = find_blocks(model)[1]
    if unknown := [index for index in chosen if not 0 <= index < len(blocks)]:
        raise ValueError(f"there is no block {unknown[0]}; the model has 0 to {len(blocks) - 1}")
    silent = [blocks[index] for index in dict.fromkeys(chosen)]
    kept = [(parameter, parameter.detach().clone()) for block in silent for parameter in block.parameters()]
    try:
        for block in silent:
            _zero(block)
        _check(model, silent, tokens)
    except BaseException:
        for parameter, before in kept:
            parameter.copy_(before)
        raise


def _zero(block: nn.Module) -> None:
    for layer in prunable_layers(block).values():
        weight_matrix(layer).zero_()
        if getattr(layer, "bias", None) is not None:
            layer.bias.zero_()
    for module in block.modules():
        if holds_fused_experts(module):  # their biases are parameters beside the matrices
            for parameter in module.parameters():
                parameter.zero_()


def _check(model: PreTrainedModel, silent: list[nn.Module], tokens: Int64[Tensor, "n seq_len"] | None) -> None:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(IDS).remainder(vocabulary)[None] if tokens is None else tokens
    through: list[bool] = []

    def compare(module: nn.Module, given: tuple, options: dict, output: object) -> None:
        before = given[0] if given else options["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        through.append(torch.equal(before, after))

    hooks = [block.register_forward_hook(compare, with_kwargs=True) for block in silent]
    try:
        with eval_mode(model):
            model(input_ids=ids.to(device_of(model)), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(through):
        raise ValueError(f"the blocks of {type(model).__name__} change what they get even without weights")
