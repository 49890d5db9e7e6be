"""LoRA adapters on the projections that read an attention's input (query, key, value), through peft.

The A matrix of an adapter maps a layer's input to `rank` numbers. LoRAILD compares these numbers between teacher and
student: no projection has to be learned for it, and merging the adapters leaves the student as it was built.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.modes import device_of
from labutils.models.structure import find_blocks, prunable_layers
from labutils.training.lora import ADAPTER, wrap_with_lora

DROPOUT = 0.05  # LoRAILD's; its alpha is twice the rank


def find_attention_inputs(model: PreTrainedModel) -> list[list[str]]:
    """Per block, the names of the linear layers that read the attention's input: query, key and value, or one for all.

    They are the first linear layers of a block to be called, and all that read the same tensor: found by running the
    model on two tokens.
    """
    prefix, blocks = find_blocks(model)
    found: list[list[str]] = [[] for _ in blocks]
    first: list[Tensor | None] = [None] * len(blocks)

    def record(block: int, name: str, given: Tensor) -> None:
        first[block] = given if first[block] is None else first[block]
        if given is first[block]:
            found[block].append(f"{prefix}.{block}.{name}")

    with ExitStack() as hooks, torch.no_grad():
        for number, block in enumerate(blocks):
            for name, layer in prunable_layers(block).items():
                hook = layer.register_forward_pre_hook(lambda _, inputs, b=number, n=name: record(b, n, inputs[0]))
                hooks.enter_context(hook)
        model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=device_of(model)))
    return found


def add_adapters(model: PreTrainedModel, *, rank: int) -> nn.Module:
    """Wrap a model with fresh adapters of a rank (alpha = 2 · rank, dropout 0.05); its own weights are frozen.

    `wrap_with_lora` says how they begin.
    """
    names = [name for block in find_attention_inputs(model) for name in block]
    return wrap_with_lora(model, names, rank=rank, alpha=2 * rank, dropout=DROPOUT)


def merge_adapters(model: nn.Module) -> PreTrainedModel:
    """The model with its adapters added to its weights, which then computes the same in evaluation mode."""
    return model.merge_and_unload()


def has_adapters(model: nn.Module) -> bool:
    """Whether the model carries adapters that have not been merged."""
    return any(hasattr(module, "lora_A") for module in model.modules())


def adapter_matrices(model: nn.Module) -> list[list[nn.Linear]]:
    """The A matrices of every block, in the order in which the block holds them."""
    return [
        [module.lora_A[ADAPTER] for module in block.modules() if hasattr(module, "lora_A")]
        for block in find_blocks(model)[1]
    ]


@contextmanager
def recorded_adapters(matrices: list[list[nn.Linear]]) -> Iterator[list[Float[Tensor, "rows tokens features"]]]:
    """Collect what A matrices (`adapter_matrices`) put out in one forward pass: a tensor per block, side by side."""
    outputs: dict[nn.Module, Tensor] = {}
    states: list[Tensor] = []
    with ExitStack() as hooks:
        for matrix in chain.from_iterable(matrices):
            hook = matrix.register_forward_hook(lambda module, _, output: outputs.__setitem__(module, output))
            hooks.enter_context(hook)
        yield states
        states += [torch.cat([outputs[matrix] for matrix in block], dim=-1) for block in matrices]
