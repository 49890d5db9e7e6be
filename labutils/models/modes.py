"""Evaluation mode, and where a model is: what every reading of a model needs, given back afterwards."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel


@contextlib.contextmanager
def eval_mode(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Evaluation mode, without dropout; afterwards every module is back in the mode it was in.

        with eval_mode(model):
            logits = model(input_ids=tokens).logits

    Args:
        gradients: False computes none; True leaves them as they are around the context.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with contextlib.nullcontext() if gradients else torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: PreTrainedModel) -> torch.device:
    """Where the model expects its token ids: `model(input_ids=tokens.to(device_of(model)))`."""
    return model.get_input_embeddings().weight.device
