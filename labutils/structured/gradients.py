"""Gradients of the calibration's loss with respect to the blocks' matrices."""

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from labutils.models.modes import eval_mode
from labutils.models.structure import all_finite, check_causal, find_blocks, prunable_layers
from labutils.pruning.inputs import Calibration, check_calibration
from labutils.structured.summed_loss import batches_that_fit, mask_of, summed_loss


def matrix_gradients(
    model: PreTrainedModel, calibration: Calibration, *, batch_size: int = 8
) -> list[dict[str, Float[Tensor, "out in"]]]:
    """∂(mean next-token loss)/∂W of every linear layer, by block and name, as (out × in), float32 on the CPU.

    Gradients that parameters hold are left as they are.

    Args:
        batch_size: sequences that run together; fewer where what they keep for the way back would be too much.

    Raises:
        ValueError: a model that predicts no next token, a calibration that cannot be used, no sequence at a time, or
            gradients that are not finite.
    """
    check_causal(model, "a gradient of the loss")
    inputs = check_calibration(calibration, model)
    layers = [
        {name: layer for name, layer in prunable_layers(block).items() if isinstance(layer, torch.nn.Module)}
        for block in find_blocks(model)[1]
    ]
    weights = [layer.weight for own in layers for layer in own.values()]
    wanted = [weight.requires_grad for weight in weights]
    sums = [torch.zeros(weight.shape, dtype=torch.float32) for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with eval_mode(model, gradients=True), torch.enable_grad():
            _add_up(model, inputs, batch_size, weights, sums)
    finally:
        for weight, own in zip(weights, wanted, strict=True):
            weight.requires_grad_(own)
    if not all(map(all_finite, sums)):
        raise ValueError("the gradients of the loss on the calibration are not finite; load the model in float32.")
    found = iter(sums)
    return [{name: _as_matrix(next(found), layer) for name, layer in own.items()} for own in layers]


def _add_up(
    model: PreTrainedModel, inputs: dict[str, Tensor], batch_size: int, weights: list[Tensor], sums: list[Tensor]
) -> None:
    mask = mask_of(inputs)
    predicted = int((mask[:, 1:] * mask[:, :-1]).sum())
    for batch in batches_that_fit(model, inputs, batch_size, "gradients"):
        loss = summed_loss(model, batch) / predicted
        for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
            total += gradient.float().cpu()


def _as_matrix(gradient: Tensor, layer: torch.nn.Module) -> Tensor:
    return gradient if isinstance(layer, torch.nn.Linear) else gradient.T
