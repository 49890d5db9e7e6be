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


def text_passages(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Passage]:
    """Each text with all its tokens to be predicted, but the first where no bos precedes it.

        passages = text_passages(model, tokenizer, texts)

    A text longer than the context loses its end. ValueError for no texts, or a text with nothing to predict.
    """
    if not texts:
        raise ValueError("there are no texts; give at least one")
    prefix, _ = special_frame(tokenizer)
    room = context_length(model, tokenizer) - len(prefix)
    rows = [prefix + ids[:room] for ids in tokenize(tokenizer, list(texts))]
    if short := [text for text, row in zip(texts, rows, strict=True) if len(row) < 2]:
        raise ValueError(f"text {short[0]!r} has nothing to predict; leave it out")
    return [Passage(row, 1) for row in rows]


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
