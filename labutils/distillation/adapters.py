"""LoRA adapters on the projections that read an attention's input (query, key, value), through peft.

The A matrix of an adapter maps a layer's input to `rank` numbers. LoRAILD compares these numbers between teacher and
student: no projection has to be learned for it, and merging the adapters leaves the student as it was built.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.core.extras import import_peft
from labutils.models.modes import device_of
from labutils.models.structure import find_blocks, prunable_layers

DROPOUT = 0.05  # LoRAILD's; its alpha is twice the rank
ADAPTER = "default"  # peft's name of the first adapter


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

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, b=number, n=name: record(b, n, inputs[0]))
        for number, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    ]
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def add_adapters(model: PreTrainedModel, *, rank: int) -> nn.Module:
    """Wrap a model with fresh adapters of a rank (alpha = 2 · rank, dropout 0.05); its own weights are frozen.

    The A matrices are drawn from torch's generator, the B matrices are zero: at first the model computes what it did.
    """
    peft = import_peft()
    names = [name for block in find_attention_inputs(model) for name in block]
    transposed = isinstance(model.get_submodule(names[0]), Conv1D)
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=DROPOUT, target_modules=names, fan_in_fan_out=transposed
    )
    with warnings.catch_warnings():
        # peft asks for an attribute under a name that transformers is about to retire.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return peft.get_peft_model(model, config)


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
    handles = [
        matrix.register_forward_hook(lambda module, _, output: outputs.__setitem__(module, output))
        for block in matrices
        for matrix in block
    ]
    try:
        yield states
        states += [torch.cat([outputs[matrix] for matrix in block], dim=-1) for block in matrices]
    finally:
        for handle in handles:
            handle.remove()
