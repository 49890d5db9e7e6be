"""The summed next-token loss of a calibration, a few sequences at a time: as many as the way back has room for."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core.progress import progress
from labutils.models.modes import device_of
from labutils.training.parts_of_batches import rows_that_fit

Batch = dict[str, Tensor]  # what the forward pass takes; `input_ids`, and `attention_mask` where there is padding


def summed_loss(model: PreTrainedModel, batch: Batch) -> Float[Tensor, ""]:
    """Σ −log p of every token that follows another one, in nats, padding left out.

    >>> summed_loss(model, {"input_ids": tokens[:2]}).backward()
    """
    ids, mask = batch["input_ids"], mask_of(batch)
    logits = model(**batch, use_cache=False).logits[:, :-1].float()
    targets = ids[:, 1:].masked_fill((mask[:, 1:] * mask[:, :-1]) == 0, -100).to(logits.device)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def batches_that_fit(model: PreTrainedModel, inputs: Batch, batch_size: int, description: str) -> Iterator[Batch]:
    """The calibration on the model's device, `batch_size` sequences at a time, or fewer; progress bears that name.

    What a sequence keeps is measured where gradients are computed as they will be.

    Raises:
        ValueError: no sequence at a time.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")

    def rows(places: Tensor) -> Batch:
        return {name: value[places].to(device_of(model)) for name, value in inputs.items()}

    count = len(inputs["input_ids"])
    first = torch.arange(min(batch_size, count))[:, None]
    at_once = rows_that_fit(model, lambda places: summed_loss(model, rows(places.flatten())), first)
    for start in progress(range(0, count, at_once), description=description, unit="batch"):
        yield rows(torch.arange(start, min(start + at_once, count)))


def mask_of(batch: Batch) -> Tensor:
    """1 at every token, 0 at padding."""
    return batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
