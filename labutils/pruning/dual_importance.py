"""D-Pruner's importance: what a domain's loss tells of every weight while general importance holds the weights back.

D-Pruner (Zhang et al. 2024, arXiv 2405.06275) trains the dense model on the domain's text and adds up, at every step t
before it, how much the loss would change without a weight:

    Σ_t |a + a²/2000 + W³|,   a = g′ W,   g′ = g + 2 λ η² G g² / 1000.

G is the general importance: what SparseGPT says that removing the weight costs on general text, W² / U_jj². Its term
is the gradient of λ Σ G (ΔW)² with ΔW = −η g. The weights are put back, and those of least importance go.

As in the authors' code, where it departs from the paper: the remainder O(|W|³) is W³ itself, ½ a² is a²/2000, and g is
the gradient of the loss times 2¹⁶, the factor of their half-precision training, which they divide by only afterwards.
Their settings: λ = 0.1, 5 epochs in batches of 8 sequences, plain gradient descent on all weights with gradients
clipped to norm 1, rate η rising to 0.03 in the first tenth of the steps and falling to zero. Ours: sequences keep their
order, and G reads the dense model, where the authors read it off SparseGPT at work, from weights already updated.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from labutils.models.modes import eval_mode
from labutils.models.structure import Layer, check_causal, layer_parameter, matrix_in, prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradients import Gradients, check_finite_gradients, next_token_loss
from labutils.pruning.importance import surgeon_score
from labutils.pruning.reconstruction import factor_hessian

GENERAL_STRENGTH, LOSS_SCALE = 0.1, 2.0**16
EPOCHS, BATCH, RATE, WARM_UP, CLIP = 5, 8, 0.03, 0.1, 1.0
NO_GENERAL = (
    "needs general text beside the domain's. Give the calibration as "
    "CalibrationTexts(domain, general=…) of labutils.pruning, or {}=0 to do without."
)


class _Place(NamedTuple):
    """A matrix of the model: its layer, the general importance of its weights (None at λ = 0), and its own so far."""

    layer: Layer
    general: Tensor | None
    importance: Tensor


def dual_importance(
    walk: BlockWalk, *, general_strength: float = GENERAL_STRENGTH, loss_scale: float = LOSS_SCALE
) -> list[Gradients]:
    """Per block, the importance of every weight for the domain's text; the model is as before when this returns.

    >>> dual_importance(BlockWalk(model, CalibrationTexts(domain, general=general)))[0]["mlp.down_proj"]

    Args:
        general_strength: λ; at 0 no general text is read.
        loss_scale: what gradients are multiplied by.

    Raises:
        ValueError: no general text, a model that predicts no next token, or importance that is not finite.
    """
    check_causal(walk.model, "the gradient of its loss")
    if general_strength and walk.general is None:
        raise ValueError(f"d-pruner {NO_GENERAL.format('general_strength')}")
    general = general_importance(walk) if general_strength else None
    found, places = [], []
    for index, block in enumerate(walk.blocks):
        found.append({})
        for name, layer in prunable_layers(block).items():
            own = found[-1][name] = torch.zeros_like(weight_matrix(layer), dtype=torch.float32)
            places.append(_Place(layer, None if general is None else general[index][name], own))
    rows, size = walk.gradient_inputs, len(walk.gradient_inputs["input_ids"])
    n_steps, step = EPOCHS * math.ceil(size / BATCH), 0
    with eval_mode(walk.model, gradients=True), _training(walk.model) as parameters:
        for _ in range(EPOCHS):
            for batch in walk.rows_of(rows, BATCH):
                step += 1
                _take_step(walk, batch, parameters, places, rate_at(step, n_steps), general_strength, loss_scale)
    for index, own in enumerate(found):
        check_finite_gradients(own, f"{walk.prefix}.{index}")
    return found


def general_importance(walk: BlockWalk) -> list[Gradients]:
    """Per block, W² / U_jj² on the walk's general text: what SparseGPT says that a weight's removal costs.

    >>> general_importance(BlockWalk(model, CalibrationTexts(domain, general=general)))[0]["mlp.down_proj"]

    A matrix that no token reached has none.
    """
    other, found = BlockWalk(walk.model, walk.general, prove=False), []
    for index, block in enumerate(other.blocks):
        statistics, factors = other.collect_and_advance(index, hessian=True), {}
        found.append({})
        for name, layer in prunable_layers(block).items():
            own, weight = statistics[name], weight_matrix(layer).float()
            if not own.n_tokens:
                found[-1][name] = torch.zeros_like(weight)
                continue
            if id(own) not in factors:
                factors[id(own)] = factor_hessian(own.hessian)
            found[-1][name] = surgeon_score(weight, factors[id(own)])
    return found


def rate_at(step: int, n_steps: int) -> float:
    """The learning rate of a step, counted from 1: up to `RATE` in the first tenth, then down to zero.

    >>> rate_at(1, 10)
    0.03
    """
    progress = step / max(2, n_steps)
    return RATE * (progress / WARM_UP if progress < WARM_UP else (1 - progress) / (1 - WARM_UP))


def _take_step(
    walk: BlockWalk, batch: dict[str, Tensor], parameters: list[nn.Parameter], places: list[_Place], rate: float,
    general_strength: float, loss_scale: float,
) -> None:  # fmt: skip
    """Add the importance of the weights as they are now, then move all weights down the regularised gradient."""
    loss = next_token_loss(walk.forward(batch).logits, batch)
    if loss is None:
        return
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    found = {
        parameter: gradient.float() * loss_scale
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    }
    with torch.no_grad():
        for layer, general, importance in places:
            if (whole := found.get(layer_parameter(layer))) is None:
                continue
            gradient, weight = matrix_in(layer, whole), weight_matrix(layer).float()
            if general is not None:
                gradient += 2 * general_strength * rate**2 * general * gradient.square() / 1000
            first = gradient * weight
            importance += (first + first.square() / 2000 + weight**3).abs()
        norm = math.sqrt(sum(gradient.square().sum().item() for gradient in found.values())) / loss_scale
        stride = rate * min(1.0, CLIP / (norm + 1e-6)) / loss_scale
        for parameter, gradient in found.items():
            parameter.copy_(parameter.float() - stride * gradient)


@contextmanager
def _training(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """While this lasts, all weights have gradients and may move; afterwards they are what they were."""
    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    before = [(parameter.requires_grad, parameter.detach().clone()) for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield parameters
    finally:
        with torch.no_grad():
            for parameter, (needed, values) in zip(parameters, before, strict=True):
                parameter.copy_(values)
                parameter.requires_grad_(needed)
