"""From token sequences of unequal length to a model and back: batches, context length, evaluation mode, checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.corpora import special_frame

LOGITS_AT_ONCE = 2**27  # half a GiB in float32; a batch is cut so that its logits are no more than this


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is back in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: PreTrainedModel) -> torch.device:
    """Where the model expects its token ids."""
    return model.get_input_embeddings().weight.device


def check_token_ids(model: PreTrainedModel, tokens: Int64[Tensor, "..."]) -> None:
    """ValueError when there are no tokens, or ids outside the model's vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    if tokens.numel() == 0:
        raise ValueError(f"tokens of shape {list(tokens.shape)} are empty; give at least one sequence of two tokens")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"token ids from {low} to {high} do not fit a vocabulary of {size}: use the model's own tokenizer"
        )


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


@dataclass(frozen=True)
class Candidate:
    """One choice after its prompt: token ids, of which the last `n_choice` belong to the choice."""

    item: int
    ids: list[int]
    n_choice: int


def encode_choices(tokenizer: PreTrainedTokenizerBase, row: dict, limit: int) -> tuple[list[Candidate], bool]:
    """The choices of one item (`prompt, choices, gold, item`) after its prompt, and whether the prompt was shortened.

    ``prompt + " " + choice`` is tokenised as one text. A token belongs to the choice when it ends behind the prompt, so
    a token across the boundary counts with the choice. A prompt that leaves no room for the item's longest choice in
    `limit` tokens loses its beginning. ValueError for fewer than two choices, a gold that is none of them, a choice
    without tokens, one longer than the context, or nothing to precede it.
    """
    prompt, item, choices = row["prompt"], row["item"], row["choices"]
    if len(choices) < 2 or not 0 <= row["gold"] < len(choices):
        raise ValueError(f"item {item}: gold {row['gold']} is no position among {len(choices)} choices (≥ 2)")
    texts = [f"{prompt} {choice}" for choice in choices]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    counts = [sum(end > len(prompt) for _, end in offsets) for offsets in encoded["offset_mapping"]]
    contexts = [ids[: len(ids) - count] for ids, count in zip(encoded["input_ids"], counts, strict=True)]
    prefix, _ = special_frame(tokenizer)
    room = limit - len(prefix) - max(counts)  # one for all choices, which thus follow the same rest of the prompt
    if min(counts) == 0 or room < 0 or not all(prefix or context[:room] for context in contexts):
        raise ValueError(
            f"item {item}: each choice needs a token of its own, something before it, and room in {limit} "
            f"tokens of context; its choices have {counts} tokens"
        )
    candidates = [
        Candidate(item, prefix + context[max(0, len(context) - room) :] + ids[len(context) :], count)
        for context, ids, count in zip(contexts, encoded["input_ids"], counts, strict=True)
    ]
    return candidates, any(len(context) > room for context in contexts)
