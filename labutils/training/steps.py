"""Training steps: which weights are trained, and how, for adaptation and fine-tuning alike."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.core.progress import progress
from labutils.training.lora import wrap_with_lora

WARMUP_SHARE = 0.1
CLIP_NORM = 1.0


@contextmanager
def trainable(
    model: PreTrainedModel, method: Literal["full", "lora"], *, rank: int, seed: int
) -> Iterator[list[nn.Parameter]]:
    """The parameters that a method trains; inside the block the model is in training mode.

        with trainable(model, "lora", rank=8, seed=0) as parameters:
            losses = minimise(parameters, batches, loss_of, learning_rate=1e-3, steps=len(batches))

    "full" trains all. "lora" adds a low-rank update to every linear layer outside the head (Hu et al. 2022, scaled by
    2, since alpha is twice the rank) and merges it into the weights at the end; after an error it is taken off.
    """
    if method == "full":
        try:
            yield list(model.train().parameters())
        finally:
            model.eval()
        return
    torch.manual_seed(seed)
    wrapped = wrap_with_lora(model, "all-linear", rank=rank, alpha=2 * rank)
    model.train()
    try:
        yield [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
        wrapped.merge_and_unload()
    except BaseException:
        wrapped.unload()
        raise
    finally:
        model.requires_grad_(True).eval()


def minimise(
    parameters: list[nn.Parameter],
    batches: Iterable[Any],
    loss_of: Callable[[Any], Float[Tensor, ""]],
    *,
    learning_rate: float,
    steps: int,
) -> list[float]:
    """One step of AdamW (no weight decay, gradients clipped to norm 1) per batch; returns the loss of every step.

    The learning rate follows `rate_share`. ValueError when a loss is NaN or infinite, before the step that would spoil
    the weights.
    """
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, steps))
    losses = []
    for step, batch in enumerate(progress(batches, total=steps, description="train", unit="step")):
        losses.append(guarded_step(optimizer, loss_of(batch), step=step, clipped=parameters, clip_norm=CLIP_NORM))
        schedule.step()
    return losses


def guarded_step(
    optimizer: torch.optim.Optimizer,
    loss: Float[Tensor, ""],
    *,
    step: int,
    clipped: Iterable[nn.Parameter] = (),
    clip_norm: float = math.inf,
) -> float:
    """One step down a loss; returns the loss.

        value = guarded_step(optimizer, model(**batch).loss, step=0, clipped=model.parameters(), clip_norm=1.0)

    Args:
        step: its number, from 0, for the message.
        clipped: parameters whose gradients are scaled down together to a norm of `clip_norm`; none by default.

    Raises:
        ValueError: the loss is NaN or infinite, before the step that would spoil the weights.
    """
    if not math.isfinite(value := loss.item()):
        rate = optimizer.defaults["lr"]
        raise ValueError(f"the loss at step {step} is {value}; lower the learning rate (now {rate:g}).")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm < math.inf:
        nn.utils.clip_grad_norm_(clipped, clip_norm)
    optimizer.step()
    return value


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Trainable parameters in groups for an optimizer: weight decay for matrices, none for biases and norms.

    >>> torch.optim.AdamW(decay_groups(model.parameters(), 0.1), lr=1e-3)
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def rate_share(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step (from 0): a straight rise over the first tenth of the steps, then a
    straight fall; neither end is zero, so that no step is wasted."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    return min((step + 1) / warmup, (steps - step) / (steps - warmup + 1))
