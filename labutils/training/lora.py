"""LoRA adapters (Hu et al. 2022) through peft: the one place where its configuration is made."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.core.extras import import_peft

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
) -> "PeftModel":
    """Put fresh adapters on linear layers, whose update is scaled by alpha / rank; only the adapters are trainable.

    The A matrices are drawn from torch's generator, the B matrices are zero: at first the model computes what it did.

        adapted = wrap_with_lora(model, ["model.layers.0.self_attn.q_proj"], rank=8, alpha=16)

    Args:
        targets: names of the layers, or "all-linear" for every one outside the head.

    Raises:
        LookupError: peft is not installed.
    """
    peft = import_peft()
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    names = targets if isinstance(targets, str) else list(targets)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, fan_in_fan_out=transposed
    )
    with warnings.catch_warnings():
        # peft asks for an attribute under a name that transformers is about to retire.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return peft.get_peft_model(model, config)
