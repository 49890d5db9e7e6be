"""Training steps: which weights are trained, and how, for adaptation and fine-tuning alike."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.core.extras import import_peft
from labutils.core.progress import progress

WARMUP_SHARE = 0.1
CLIP_NORM = 1.0


@contextmanager
def trainable(
    model: PreTrainedModel, method: Literal["full", "lora"], *, rank: int, seed: int
) -> Iterator[list[nn.Parameter]]:
    """The parameters that a method trains; inside the block the model is in training mode.

    "full" trains all. "lora" adds a low-rank update to every linear layer outside the head (Hu et al. 2022, scaled by
    2, since alpha is twice the rank) and merges it into the weights at the end; after an error it is taken off.
    """
    if method == "full":
        try:
            yield list(model.train().parameters())
        finally:
            model.eval()
        return
    wrapped = _with_lora(model, rank, seed)
    model.train()
    try:
        yield [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
        wrapped.merge_and_unload()
    except BaseException:
        wrapped.unload()
        raise
    finally:
        model.requires_grad_(True).eval()


def _with_lora(model: PreTrainedModel, rank: int, seed: int) -> nn.Module:
    peft = import_peft()
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", fan_in_fan_out=transposed)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will change
        return peft.get_peft_model(model, settings)


def minimise(
    parameters: list[nn.Parameter],
    batches: Iterable[Any],
    loss_of: Callable[[Any], Float[Tensor, ""]],
    *,
    rate: float,
    steps: int,
) -> list[float]:
    """One step of AdamW (no weight decay, gradients clipped to norm 1) per batch; returns the loss of every step.

    The learning rate follows `rate_share`. ValueError when a loss is NaN or infinite, before the step that would spoil
    the weights.
    """
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_share(step, steps))
    losses = []
    for batch in progress(batches, total=steps, description="train", unit="step"):
        loss = loss_of(batch)
        if not math.isfinite(value := loss.item()):
            raise ValueError(f"the loss at step {len(losses) + 1} of {steps} is {value}: lower the rate (now {rate:g})")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimiser.step()
        schedule.step()
        losses.append(value)
    return losses


def rate_share(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step (from 0): a straight rise over the first tenth of the steps, then a
    straight fall; neither end is zero, so that no step is wasted."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    return min((step + 1) / warmup, (steps - step) / (steps - warmup + 1))
