"""LoRA adapters (Hu et al. 2022) through peft: the one place where its configuration is made."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.core.extras import import_peft
from labutils.models.experts import expert_matrices, find_routers, holds_fused_experts

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER = "default"  # peft's name of the first adapter


def wrap_with_lora(
    model: PreTrainedModel,
    targets: Sequence[str] | Literal["all-linear"],
    *,
    rank: int,
    alpha: int | float,
    dropout: float = 0.0,
    parameters: Sequence[str] = (),
) -> "PeftModel":
    """Put fresh adapters on linear layers, whose update is scaled by alpha / rank; only the adapters are trainable.

    The A matrices are drawn from torch's generator, the B matrices are zero: at first the model computes what it did.

        adapted = wrap_with_lora(model, ["model.layers.0.self_attn.q_proj"], rank=8, alpha=16)

    Args:
        targets: names of the layers, or "all-linear" for every one outside the head; the routers of experts stay out.
        parameters: names of fused experts' parameters, each expert of which gets an adapter of its own; with
            "all-linear" those of the whole model. They take no dropout.

    Raises:
        LookupError: peft is not installed.
    """
    peft = import_peft()
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    names, fused = (targets, list(parameters)) if not isinstance(targets, str) else _everything(model)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, fan_in_fan_out=transposed,
        target_modules=names if isinstance(names, str) else list(names), target_parameters=fused or None,
    )  # fmt: skip
    with warnings.catch_warnings():
        # peft asks for an attribute under a name that transformers is about to retire.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return peft.get_peft_model(model, config)


def _everything(model: PreTrainedModel) -> tuple[Sequence[str], list[str]]:
    """All linear layers outside the head, and the parameters of fused experts."""
    fused = [
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if holds_fused_experts(module)
        for parameter in dict.fromkeys(matrix.parameter for matrix in expert_matrices(module))
    ]
    routers = find_routers(model)
    if not fused and not routers:
        return "all-linear", []
    # peft's "all-linear" (0.21) takes the routers too, whose choices decide which weights are used at all.
    left_out = {*routers, model.get_output_embeddings()}
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module not in left_out
    ]
    return linear, fused
