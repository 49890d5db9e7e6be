"""From token sequences of unequal length to a model and back: batches, and how long a sequence may be."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.models import positions

LOGITS_AT_ONCE = 2**27  # half a GiB in float32; a batch is cut so that its logits are no more than this
TOKENS_AT_ONCE = 512  # of a processor: more leave its caches between layers, and hold more padding
PROMPTS_AT_ONCE = 2048  # the same of prompts to answer: to write a token takes few rows about as long as many


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens a sequence may have: the smaller of the model's positions and the tokenizer's own limit.

    Models without a limit of positions (ALiBi) are bounded by the tokenizer alone, whose default is endless.
    """
    return min(tokenizer.model_max_length, positions.context_length(model) or tokenizer.model_max_length)


def rows_at_once(model: PreTrainedModel, batch_size: int, length: int) -> int:
    """`batch_size`, or fewer sequences of `length` tokens where their logits would exceed `LOGITS_AT_ONCE`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return max(1, min(batch_size, LOGITS_AT_ONCE // (length * vocabulary)))


def batches_of(
    lengths: list[int], rows_per_batch: int, device: torch.device, *, at_once: int = TOKENS_AT_ONCE
) -> Iterator[list[int]]:
    """Places of rows that run together, longest first: at most so many, and on a processor `at_once` tokens.

    list(batches_of([3, 1, 2], 2, torch.device("cpu")))  # [[0, 2], [1]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        fitting = at_once // lengths[order[0]] if device.type == "cpu" else rows_per_batch
        size = max(1, min(rows_per_batch, fitting))
        yield order[:size]
        order = order[size:]


def padded_batches(
    rows: list[list[int]], rows_per_batch: int, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Iterator[tuple[list[int], Int64[Tensor, "batch longest"], Int64[Tensor, "batch longest"]]]:
    """Batches of rows of similar length, longest first: their positions in `rows`, right-padded ids, and mask."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for start in range(0, len(order), rows_per_batch):
        chosen = order[start : start + rows_per_batch]
        ids = pad_rows([rows[index] for index in chosen], tokenizer)
        lengths = torch.tensor([len(rows[index]) for index in chosen])
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()
        yield chosen, ids.to(device), mask.to(device)


def pad_rows(rows: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> Int64[Tensor, "batch longest"]:
    """Rows of token ids side by side, filled up on the right."""
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0  # any id serves: a mask hides it
    longest = max(map(len, rows))
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
