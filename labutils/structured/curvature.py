"""The two factors of the loss's curvature by a matrix: second moments of its inputs and of its output gradients."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.modes import eval_mode
from labutils.models.structure import all_finite, check_causal
from labutils.pruning.gradients import gradients_of
from labutils.pruning.inputs import Calibration, check_calibration
from labutils.structured.summed_loss import batches_that_fit, mask_of, summed_loss

Calls = list[tuple[int, str, Tensor, Tensor]]  # block, matrix, what it read and what it put out


@dataclass
class Factors:
    """Of one matrix, float32 on the CPU, without padding.

    Attributes:
        inputs: A = mean over tokens of x xᵀ; of a layer with a bias, x has a 1 at its end.
        gradients: G = mean over tokens of g gᵀ, with g the gradient of the sum of the next-token losses by the output.
    """

    inputs: Float[Tensor, "in in"]
    gradients: Float[Tensor, "out out"]


def layer_factors(
    model: PreTrainedModel, calibration: Calibration, layers: Sequence[Mapping[str, nn.Module]], *, batch_size: int = 8
) -> list[dict[str, Factors]]:
    """The factors of these layers, of every block by name: the empirical Fisher matrix's, as LLM Surgeon takes it.

    >>> layer_factors(model, tokens, [{"mlp.down_proj": block.mlp.down_proj} for block in model.model.layers])

    Gradients that parameters hold are left as they are.

    Args:
        batch_size: sequences that run together; fewer where what they keep for the way back would be too much.

    Raises:
        ValueError: a model that predicts no next token, a calibration that cannot be used, no sequence at a time, or
            factors that are not finite.
    """
    check_causal(model, "a curvature of the loss")
    inputs = check_calibration(calibration, model)
    found: list[dict[str, Factors]] = [{} for _ in layers]
    with eval_mode(model, gradients=True), gradients_of(model, [one for own in layers for one in own.values()]):
        for batch in batches_that_fit(model, inputs, batch_size, "curvature"):
            with _noted(layers) as calls:
                loss = summed_loss(model, batch)
            gradients = torch.autograd.grad(loss, [output for *_, output in calls])
            mask = mask_of(batch).bool()
            for (block, name, read, _), gradient in zip(calls, gradients, strict=True):
                _add(found[block], name, read, gradient, mask, layers[block][name].bias is not None)
    count = int(mask_of(inputs).sum())
    for own in found:
        for name, factors in own.items():
            factors.inputs /= count
            factors.gradients /= count
            if not all_finite(factors.inputs) or not all_finite(factors.gradients):
                raise ValueError(
                    f"the curvature by {name} is not finite on the calibration; load the model in float32."
                )
    return found


@contextmanager
def _noted(layers: Sequence[Mapping[str, nn.Module]]) -> Iterator[Calls]:
    calls: Calls = []
    with ExitStack() as hooks:
        for block, own in enumerate(layers):
            for name, layer in own.items():
                hooks.enter_context(layer.register_forward_hook(_note(calls, block, name)))
        yield calls


def _note(calls: Calls, block: int, name: str):
    return lambda layer, args, output: calls.append((block, name, args[0].detach(), output))


def _add(own: dict[str, Factors], name: str, read: Tensor, gradient: Tensor, mask: Tensor, biased: bool) -> None:
    x, g = (values.reshape(*mask.shape, -1)[mask.to(values.device)].float().cpu() for values in (read, gradient))
    if biased:
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    if name in own:
        own[name].inputs += x.T @ x
        own[name].gradients += g.T @ g
    else:
        own[name] = Factors(x.T @ x, g.T @ g)
