"""What a model can do, item by item, as paired statistics need it: next-token losses, choice tasks, similarity."""

from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.batching import (
    Candidate,
    check_token_ids,
    context_length,
    device_of,
    encode_choices,
    evaluating,
    finite_logits,
    padded_batches,
    rows_at_once,
)
from labutils.corpora import load_tokens, parse_source, read_units
from labutils.models import is_causal
from labutils.similarity import rank_losses, score_similarity
from labutils.tasks import SIMILARITY_COLUMNS, Task, load_task

TEXT_UNIT = "nats per token"
PAIR_UNIT = "1 − Spearman ρ"


def _check_causal(model: PreTrainedModel) -> None:
    if not is_causal(model):
        raise ValueError(
            f"{type(model).__name__} does not predict the next token: text and choice tasks need a causal LM. "
            "Evaluate an encoder on a similarity task (sentence1, sentence2, score)"
        )


def sequence_losses(
    model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 32
) -> Float32[Tensor, " n"]:
    """Mean next-token negative log-likelihood of each sequence, in nats, float32 on the CPU.

    The first token of a sequence is context only; the mean is over its seq_len − 1 predicted tokens. Logits are turned
    into log-probabilities in float32, sequence by sequence; batches are cut where their logits would not fit
    (`labutils.batching.LOGITS_AT_ONCE`). The model's training mode is restored.

    Raises:
        ValueError: no tokens or fewer than two per sequence, ids outside the vocabulary, an encoder, or logits that are
            NaN or infinite (the sequence is named).
    """
    _check_causal(model)
    check_token_ids(model, tokens)
    n, length = tokens.shape
    if length < 2:
        raise ValueError(f"sequences of {length} token have nothing to predict; seq_len must be at least 2")
    losses = torch.empty(n, dtype=torch.float32)
    step = rows_at_once(model, batch_size, length)
    with evaluating(model):
        for start in range(0, n, step):
            batch = tokens[start : start + step].to(device_of(model))
            logits = model(input_ids=batch, use_cache=False).logits
            for row in range(len(batch)):
                scores = finite_logits(logits[row, :-1], f"sequence {start + row}")
                losses[start + row] = F.cross_entropy(scores, batch[row, 1:])
    return losses


def perplexity(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 32) -> float:
    """exp of the mean negative log-likelihood over all predicted positions; errors as in `sequence_losses`.

    Not the mean of the sequences' perplexities: all sequences have the same length, so the mean of their losses is the
    mean over positions.
    """
    return float(sequence_losses(model, tokens, batch_size=batch_size).double().mean().exp())


def _choice_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, candidates: list[Candidate], batch_size: int
) -> Float64[Tensor, " n"]:
    """Mean log-likelihood per choice token, in nats, of every candidate."""
    rows = [candidate.ids for candidate in candidates]
    check_token_ids(model, torch.tensor([token for row in rows for token in row]))
    step = rows_at_once(model, batch_size, max(map(len, rows)))
    scores = torch.empty(len(rows), dtype=torch.float64)
    with evaluating(model):
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
    _check_causal(model)
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


@dataclass(frozen=True)
class Evaluation:
    """What damage is measured on: token windows (loss in nats per token) or sentence pairs (1 − Spearman ρ)."""

    name: str
    unit: str
    tokens: Int64[Tensor, "n seq_len"] | None = None
    pairs: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        expected = TEXT_UNIT if self.pairs is None else PAIR_UNIT
        if (self.tokens is None) == (self.pairs is None) or self.unit != expected:
            raise ValueError(
                f"an evaluation has either tokens, in {TEXT_UNIT!r}, or pairs, in {PAIR_UNIT!r}; {self.name!r} has "
                f"tokens: {self.tokens is not None}, pairs: {self.pairs is not None}, unit {self.unit!r}"
            )


def _is_similarity(source: str, revision: str | None) -> bool:
    parsed = parse_source(source)
    if parsed.scheme == "lab":
        from labutils import world  # only the lab: sources need the grammar

        return parsed.name.partition("/")[0] in world.FAMILIES
    records, indices = read_units(source, "test", revision=revision)
    return records[indices[0]].keys() >= SIMILARITY_COLUMNS


def load_evaluation(
    source: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_items: int | None,
    seq_len: int,
    seed: int = 0,
    revision: str | None = None,
) -> Evaluation:
    """The test split of a source as an evaluation fit for the model.

    A source with ``sentence1, sentence2, score`` gives sentence pairs, for any model (all of them with `n_items` None).
    Any other text gives `n_items` windows of `seq_len` tokens, for causal language models only.

    Raises:
        ValueError: text for an encoder, which has no next-token loss; a choice task (see `score_task`); too few items.
        LookupError: the source cannot be found.
    """
    if _is_similarity(source, revision):
        task = load_task(source, n_items=n_items, seed=seed, revision=revision)
        if task.kind != "similarity":
            raise ValueError(f"{source} is a choice task, whose unit is accuracy: use load_task and score_task")
        return Evaluation(source, PAIR_UNIT, pairs=task.items)
    _check_causal(model)
    if n_items is None:
        raise ValueError(f"{source} is text: say how many windows with n_items=…")
    tokens = load_tokens(
        source, tokenizer, n_sequences=n_items, seq_len=seq_len, seed=seed, split="test", revision=revision
    )
    return Evaluation(source, TEXT_UNIT, tokens=tokens)


def item_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, evaluation: Evaluation, *, batch_size: int = 32
) -> Float[Tensor, " n"]:
    """One loss per item, whose mean is the evaluation's value in its `unit`.

    Token windows: `sequence_losses`. Sentence pairs: `rank_losses`, whose mean is exactly 1 − Spearman's ρ.
    """
    if evaluation.tokens is not None:
        return sequence_losses(model, evaluation.tokens, batch_size=batch_size)
    scored = score_similarity(model, tokenizer, evaluation.pairs, batch_size=batch_size)
    return rank_losses(scored["gold"].to_numpy(), scored["predicted"].to_numpy())
