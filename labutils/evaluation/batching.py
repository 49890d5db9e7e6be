"""From token sequences of unequal length to a model and back: batches, context length, evaluation mode, checks."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGITS_AT_ONCE = 2**27  # half a GiB in float32; a batch is cut so that its logits are no more than this


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens a sequence may have: the smaller of the model's positions and the tokenizer's own limit.

    Models without a limit of positions (ALiBi) are bounded by the tokenizer alone, whose default is endless.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(tokenizer.model_max_length, positions or tokenizer.model_max_length)


def rows_at_once(model: PreTrainedModel, batch_size: int, length: int) -> int:
    """`batch_size`, or fewer sequences of `length` tokens where their logits would exceed `LOGITS_AT_ONCE`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return max(1, min(batch_size, LOGITS_AT_ONCE // (length * vocabulary)))


def padded_batches(
    rows: list[list[int]], rows_per_batch: int, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Iterator[tuple[list[int], Int64[Tensor, "batch longest"], Int64[Tensor, "batch longest"]]]:
    """Batches of rows of similar length, longest first: their positions in `rows`, right-padded ids, and mask."""
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0  # any id serves: the mask hides it
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for start in range(0, len(order), rows_per_batch):
        chosen = order[start : start + rows_per_batch]
        ids = torch.full((len(chosen), len(rows[chosen[0]])), padding, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for position, index in enumerate(chosen):
            ids[position, : len(rows[index])] = torch.tensor(rows[index])
            mask[position, : len(rows[index])] = 1
        yield chosen, ids.to(device), mask.to(device)


def finite_logits(logits: Float[Tensor, "positions vocabulary"], what: str) -> Float32[Tensor, "positions vocabulary"]:
    """The logits in float32; ValueError naming `what` when one is NaN or infinite."""
    logits = logits.float()
    if not torch.isfinite(logits).all():
        raise ValueError(f"the logits of {what} are NaN or infinite; check the model's weights and its precision")
    return logits
