"""Which of several choices a causal language model finds most likely after a prompt."""

from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.tasks import Task
from labutils.data.tokens import special_frame
from labutils.evaluation.batching import context_length, finite_logits, padded_batches, rows_at_once
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, check_token_ids


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


def _choice_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, candidates: list[Candidate], batch_size: int
) -> Float64[Tensor, " n"]:
    """Mean log-likelihood per choice token, in nats, of every candidate."""
    rows = [candidate.ids for candidate in candidates]
    check_token_ids(model, rows)
    step = rows_at_once(model, batch_size, max(map(len, rows)))
    scores = torch.empty(len(rows), dtype=torch.float64)
    with eval_mode(model):
        for chosen, ids, mask in padded_batches(rows, step, tokenizer, device_of(model)):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for position, index in enumerate(chosen):
                last, count = len(rows[index]), candidates[index].n_choice
                predicted = finite_logits(
                    logits[position, last - count - 1 : last - 1], f"item {candidates[index].item}"
                )
                scores[index] = -F.cross_entropy(predicted, ids[position, last - count : last])
    return scores


def score_task(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, *, batch_size: int = 32
) -> pd.DataFrame:
    """Which choice a causal language model finds most likely after each prompt.

        accuracy = lab.score_task(model, tokenizer, task)["correct"].mean()

    Each choice is scored in ``prompt + " " + choice``, tokenised as one text (after bos, where the tokenizer has one):
    the mean log-likelihood of the choice's tokens given all before them. The mean, not the sum, so that a choice does
    not lose for being long; where all choices of an item have equally many tokens the order is the same. A token across
    the boundary counts with the choice. A prompt too long for the context loses its beginning, and every choice of an
    item then follows the same rest of it.

    Returns:
        one row per item: ``item, gold, prediction`` (positions in the choices; ties go to the first), ``correct``, and
        ``margin``: score of the gold choice minus the best other, nats per token.
        ``attrs["truncated_prompts"]`` counts the items whose prompt lost its beginning.

    Raises:
        ValueError: a similarity task, an encoder, a choice without tokens or longer than the context, ids outside the
            vocabulary, or logits that are NaN or infinite (the item is named).
    """
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task without choices; score its items with score_similarity")
    check_causal(model, "a choice task")
    limit = context_length(model, tokenizer)
    per_item = [encode_choices(tokenizer, row, limit) for row in task.items.to_dict("records")]
    flat = [candidate for candidates, _ in per_item for candidate in candidates]
    scores = iter(_choice_log_likelihoods(model, tokenizer, flat, batch_size).tolist())
    frame = pd.DataFrame(
        [
            _verdict(item, gold, [next(scores) for _ in candidates])
            for item, gold, (candidates, _) in zip(task.items["item"], task.items["gold"], per_item, strict=True)
        ]
    )
    frame.attrs["truncated_prompts"] = sum(truncated for _, truncated in per_item)
    return frame


def _verdict(item: int, gold: int, scores: list[float]) -> dict:
    prediction = scores.index(max(scores))
    best_other = max(score for choice, score in enumerate(scores) if choice != gold)
    return {
        "item": item,
        "gold": gold,
        "prediction": prediction,
        "correct": prediction == gold,
        "margin": scores[gold] - best_other,
    }
