"""Sentence similarity: cosine of mean-pooled hidden states, and its rank correlation as a loss per pair."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from scipy.stats import rankdata
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.data.tokens import frame_texts
from labutils.evaluation.batching import context_length, padded_batches
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_token_ids

PAIR_COLUMNS = ("item", "sentence1", "sentence2", "score")


def mean_pool(
    states: Float[Tensor, "*layers rows tokens width"], mask: Int64[Tensor, "rows tokens"]
) -> Float[Tensor, "*layers rows width"]:
    """Each row's mean state over the tokens where the mask is 1."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(-2) / weights.sum(-2)


def embed_sentences(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: list[str], *, batch_size: int = 32
) -> tuple[Float32[Tensor, "n width"], int]:
    """Mean of the last hidden states over a sentence's tokens (special tokens too, padding not), float32 on the CPU.

    The pooling of Sentence-BERT (Reimers & Gurevych 2019), for encoders and decoders alike. Sentences longer than the
    context lose their end; the second value says how many did. ValueError for a sentence without tokens, ids outside
    the vocabulary, or hidden states that are not finite.
    """
    rows, n_cut = frame_texts(tokenizer, sentences, context_length(model, tokenizer))
    if empty := [sentence for sentence, row in zip(sentences, rows, strict=True) if not row]:
        raise ValueError(f"sentence {empty[0]!r} has no tokens; remove the pair")
    check_token_ids(model, rows)
    pooled: dict[int, Tensor] = {}
    with eval_mode(model):
        batches = padded_batches(rows, batch_size, tokenizer, device_of(model))
        total = -(-len(rows) // batch_size)
        for chosen, ids, mask in progress(batches, total=total, description="embed sentences", unit="batch"):
            states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled.update(zip(chosen, mean_pool(states, mask).cpu(), strict=True))
    embeddings = torch.stack([pooled[index] for index in range(len(rows))])
    if not torch.isfinite(embeddings).all():
        bad = int((~torch.isfinite(embeddings)).any(dim=1).nonzero()[0])
        raise ValueError(f"the hidden states of {sentences[bad]!r} are NaN or infinite; check the model's weights")
    return embeddings, n_cut


def score_similarity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame, *, batch_size: int = 32
) -> pd.DataFrame:
    """Predicted and human similarity of sentence pairs, for decoders and encoders.

        scores = lab.score_similarity(model, tokenizer, task.items)

    Args:
        pairs: columns ``item, sentence1, sentence2, score`` (`Task.items` of a similarity task).
        batch_size: sentences per forward pass, which does not change the result.

    Returns:
        one row per pair: ``item, gold`` (the score) and ``predicted`` (cosine of the mean-pooled last hidden states);
        ``attrs["truncated_sentences"]`` counts the sentences that were longer than the model's context.

    Raises:
        ValueError: no pairs, a missing column, or what `embed_sentences` refuses.
    """
    if missing := [column for column in PAIR_COLUMNS if column not in pairs.columns]:
        raise ValueError(f"pairs need the columns {', '.join(PAIR_COLUMNS)}; missing: {', '.join(missing)}")
    if len(pairs) == 0:
        raise ValueError("there are no sentence pairs to score")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    codes, sentences = pd.factorize(pd.concat([pairs["sentence1"], pairs["sentence2"]], ignore_index=True))
    embeddings, truncated = embed_sentences(model, tokenizer, list(sentences), batch_size=batch_size)
    first, second = embeddings[codes[: len(pairs)]], embeddings[codes[len(pairs) :]]
    predicted = F.cosine_similarity(first.double(), second.double(), dim=-1)
    frame = pd.DataFrame(
        {"item": pairs["item"].to_numpy(), "gold": pairs["score"].to_numpy(dtype=float), "predicted": predicted.numpy()}
    )
    frame.attrs["truncated_sentences"] = truncated
    return frame


def _standardised_ranks(values: np.ndarray, name: str) -> np.ndarray:
    """Ranks (ties share their average), shifted and scaled to mean 0 and population variance 1."""
    ranks = rankdata(values, method="average")
    if np.ptp(ranks) == 0:
        raise ValueError(f"the {name} scores of all {len(values)} pairs are equal, so no rank correlation is defined")
    return (ranks - ranks.mean()) / ranks.std()


def rank_losses(gold: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"]) -> Float64[Tensor, " n"]:
    """Per pair ½ (z(rank predicted) − z(rank gold))², whose mean is exactly 1 − Spearman's ρ.

    The mean of ½ (a − b)² of two standardised variables is 1 − their correlation, and Spearman's ρ is the correlation
    of the average ranks. ValueError for fewer than two pairs, values that are not finite, or all values equal.
    """
    if len(gold) < 2 or not (np.isfinite(gold).all() and np.isfinite(predicted).all()):
        raise ValueError(f"a rank correlation needs at least two pairs of finite scores; got {len(gold)} pairs")
    difference = _standardised_ranks(predicted, "predicted") - _standardised_ranks(gold, "gold")
    return torch.from_numpy(difference**2 / 2)
