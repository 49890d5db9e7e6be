"""What a model can do, item by item, as paired statistics need it: next-token losses, choice tasks, similarity."""

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils import world
from labutils.core.progress import progress
from labutils.data.corpora import load_tokens, read_units
from labutils.data.sources import parse_source
from labutils.data.tasks import SIMILARITY_COLUMNS, load_task
from labutils.evaluation.batching import batches_of, rows_at_once
from labutils.evaluation.readout import check_finite_values, log_likelihoods
from labutils.evaluation.similarity import rank_losses, score_similarity
from labutils.models.modes import device_of, eval_mode
from labutils.models.positions import check_context
from labutils.models.structure import check_causal, check_token_ids

TEXT_UNIT = "nats per token"
PAIR_UNIT = "1 − Spearman ρ"


def sequence_losses(
    model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 32
) -> Float32[Tensor, " n"]:
    """Mean next-token negative log-likelihood of each sequence, in nats, float32 on the CPU.

        losses = lab.sequence_losses(model, tokens)

    The first token of a sequence is context only; the mean is over its seq_len − 1 predicted tokens. Logits are turned
    into log-probabilities in float32; batches are cut where their logits would not fit, or where a processor is slower
    with more (`labutils.evaluation.batching`). The model's training mode is restored.

    Raises:
        ValueError: no tokens or fewer than two per sequence, more than a table of positions has rows, ids outside the
            vocabulary, an encoder, or logits that are NaN or infinite (the sequence is named).
    """
    check_causal(model, "the loss of a text")
    check_token_ids(model, tokens)
    n, length = tokens.shape
    if length < 2:
        raise ValueError(f"sequences of {length} token have nothing to predict; seq_len must be at least 2")
    check_context(model, length, "the loss of a text")
    losses, device = torch.empty(n, dtype=torch.float32), device_of(model)
    places = torch.arange(length - 1, device=device)
    with eval_mode(model):
        batches = list(batches_of([length] * n, rows_at_once(model, batch_size, length), device))
        for chosen in progress(batches, description="evaluate", unit="batch"):
            batch = tokens[chosen].to(device)
            logits = model(input_ids=batch, use_cache=False).logits
            found = [log_likelihoods(row[:-1], places, ids[1:]) for row, ids in zip(logits, batch, strict=True)]
            losses[chosen] = -torch.stack(found).double().mean(1).float().cpu()
            check_finite_values(losses[chosen], chosen, "sequence")
    return losses


def perplexity(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 32) -> float:
    """exp of the mean negative log-likelihood over all predicted positions; errors as in `sequence_losses`.

        before = lab.perplexity(model, tokens)

    Not the mean of the sequences' perplexities: all sequences have the same length, so the mean of their losses is the
    mean over positions.
    """
    return float(sequence_losses(model, tokens, batch_size=batch_size).double().mean().exp())


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

        evaluation = load_evaluation("lab:review", model, tokenizer, n_items=64, seq_len=128)

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
    check_causal(model, "the loss of a text")
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

        item_losses(model, tokenizer, evaluation).mean()

    Token windows: `sequence_losses`. Sentence pairs: `rank_losses`, whose mean is exactly 1 − Spearman's ρ.
    """
    if evaluation.tokens is not None:
        return sequence_losses(model, evaluation.tokens, batch_size=batch_size)
    scored = score_similarity(model, tokenizer, evaluation.pairs, batch_size=batch_size)
    return rank_losses(scored["gold"].to_numpy(), scored["predicted"].to_numpy())
