"""Passages: token ids of which some are to be predicted, and how likely a causal language model finds these."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.data.tasks import Task
from labutils.data.tokens import special_frame, tokenize
from labutils.data.words import Terms
from labutils.evaluation.batching import context_length, padded_batches, rows_at_once
from labutils.evaluation.choice_tokens import encode_choices
from labutils.evaluation.readout import check_finite_values, log_likelihoods
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, check_token_ids


class Passage(NamedTuple):
    """Token ids with the special tokens before them; the tokens from position `first_target` (≥ 1) on are predicted."""

    ids: list[int]
    first_target: int


def gold_passage(tokenizer: PreTrainedTokenizerBase, item: dict, limit: int) -> tuple[Passage, bool]:
    """The gold choice of a task's item after its prompt, and whether the prompt lost its beginning to fit in `limit`.

    Tokens and errors are those of `labutils.evaluation.choice_tokens.encode_choices`.
    """
    candidates, shortened = encode_choices(tokenizer, item, limit)
    gold = candidates[item["gold"]]
    return Passage(gold.ids, len(gold.ids) - gold.n_choice), shortened


def task_passages(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task) -> list[Passage]:
    """The gold choice of every item after its prompt; ValueError for a similarity task, which has no choices.

    >>> passages = task_passages(model, tokenizer, task)
    """
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task; a task with choices is needed")
    limit = context_length(model, tokenizer)
    return [gold_passage(tokenizer, item, limit)[0] for item in task.items.to_dict("records")]


def text_passages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    n_tokens: int | None = None,
    about: Sequence[str] = (),
) -> list[Passage]:
    """Each text with all its tokens to be predicted, but the first where no bos precedes it.

        passages = text_passages(model, tokenizer, texts)
        passages = text_passages(model, tokenizer, texts, n_tokens=64, about=["fever", "pain"])

    Args:
        n_tokens: the most tokens of a text; None takes as many as the context holds.
        about: words that a longer text is about: where none of them ends within the first `n_tokens`, those around the
            first one are taken. A text without any of them, and every one if there are no words, loses its end.

    Raises:
        ValueError: no texts, a text with nothing to predict, or less than two tokens asked for.
    """
    if not texts:
        raise ValueError("there are no texts; give at least one")
    if n_tokens is not None and n_tokens < 2:
        raise ValueError(f"n_tokens={n_tokens}: a passage needs two tokens, one of them to be predicted")
    prefix, _ = special_frame(tokenizer)
    room = context_length(model, tokenizer) - len(prefix)
    room = room if n_tokens is None else min(room, n_tokens)
    ends = (
        [len(ids) for ids in tokenize(tokenizer, [_upto(text, about) for text in texts])] if about else [0] * len(texts)
    )
    rows = [prefix + _window(ids, end, room) for ids, end in zip(tokenize(tokenizer, list(texts)), ends, strict=True)]
    if short := [text for text, row in zip(texts, rows, strict=True) if len(row) < 2]:
        raise ValueError(f"text {short[0]!r} has nothing to predict; leave it out")
    return [Passage(row, 1) for row in rows]


def _upto(text: str, words: Sequence[str]) -> str:
    """A text up to the end of the first of these words, nothing of one without them."""
    return text[: min((last for _, _, last in Terms(words).find(text)), default=0)]


def _window(ids: list[int], end: int, room: int) -> list[int]:
    """At most `room` tokens: the first, or those around place `end` where that lies beyond them."""
    start = 0 if end <= room else min(end - room // 2, len(ids) - room)
    return ids[start : start + room]


def target_log_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    batch_size: int = 32,
    description: str = "read passages",
) -> list[Float[Tensor, " targets"]]:
    """log p of every target token given all tokens before it, in nats, one float32 tensor on the CPU per passage.

    Raises:
        ValueError: an encoder, ids outside the vocabulary, or logits that are NaN or infinite (the passage is named).
    """
    check_causal(model, "the log-likelihood of a passage")
    rows = [passage.ids for passage in passages]
    check_token_ids(model, rows)
    step = rows_at_once(model, batch_size, max(map(len, rows)))
    found: dict[int, Tensor] = {}
    with eval_mode(model):
        batches = padded_batches(rows, step, tokenizer, device_of(model))
        for chosen, ids, mask in progress(batches, total=-(-len(rows) // step), description=description, unit="batch"):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for position, index in enumerate(chosen):
                first, last = passages[index].first_target, len(rows[index])
                places = torch.arange(last - first, device=ids.device)
                found[index] = log_likelihoods(
                    logits[position, first - 1 : last - 1], places, ids[position, first:last]
                ).cpu()
                check_finite_values(found[index], [index] * len(found[index]), "passage")
    return [found[index] for index in range(len(rows))]


def passage_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage], **options: object
) -> Float64[Tensor, " passages"]:
    """log p of all target tokens together, in nats: the sum of `target_log_likelihoods`, whose options it takes."""
    found = target_log_likelihoods(model, tokenizer, passages, **options)
    return torch.stack([values.double().sum() for values in found])


def passage_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage], **options: object
) -> Float64[Tensor, " passages"]:
    """Mean negative log-likelihood per target token, in nats, of each passage.

    >>> losses = passage_losses(model, tokenizer, passages)
    """
    found = target_log_likelihoods(model, tokenizer, passages, **options)
    return torch.stack([-values.double().mean() for values in found])
