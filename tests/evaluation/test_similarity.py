"""Cosines of mean-pooled states against a slow loop, and rank losses against scipy."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from helpers import frame_with, poison
from transformers import RobertaConfig, RobertaModel

from labutils.evaluation.similarity import rank_losses, score_similarity

CAUSAL = ["tiny_llama", "tiny_gpt2", "tiny_opt"]


@pytest.mark.parametrize("name", [*CAUSAL, "tiny_bert"])
def test_similarity_equals_a_slow_loop_at_every_batch_size(name, request, tokenizer, pairs):
    model = request.getfixturevalue(name)
    if name == "tiny_bert":
        frame_with(tokenizer, "<s>", "</s>")
    frames = [score_similarity(model, tokenizer, pairs, batch_size=size) for size in (1, 4, 32)]
    tokenizer.pad_token = "w3"
    frames.append(score_similarity(model, tokenizer, pairs))
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0], rtol=1e-5, atol=1e-5)
    slow = model.double().base_model
    for row, scored in zip(pairs.itertuples(), frames[0].itertuples(), strict=True):
        means = []
        for sentence in (row.sentence1, row.sentence2):
            ids = [0] + tokenizer.convert_tokens_to_ids(sentence.split()) + ([1] if name == "tiny_bert" else [])
            with torch.no_grad():
                means.append(slow(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy().mean(axis=0))
        first, second = means
        cosine = float(first @ second / math.sqrt((first @ first) * (second @ second)))
        assert scored.predicted == pytest.approx(cosine, abs=1e-5) and scored.gold == row.score


def test_similarity_edge_cases(tiny_bert, tokenizer, pairs):
    long = pairs.assign(sentence1=["w1 " * 100] + ["w1"] * 8)
    assert score_similarity(tiny_bert, tokenizer, long).attrs["truncated_sentences"] == 1
    assert score_similarity(tiny_bert, tokenizer, pairs).attrs["truncated_sentences"] == 0
    same = score_similarity(tiny_bert, tokenizer, pairs.assign(sentence2=pairs["sentence1"]))
    np.testing.assert_allclose(same["predicted"], 1)
    for bad, message in ((pairs.head(0), "no sentence pairs"), (pairs.drop(columns="score"), "missing: score")):
        with pytest.raises(ValueError, match=message):
            score_similarity(tiny_bert, tokenizer, bad)
    poison(tiny_bert, tokenizer.convert_tokens_to_ids("w39"), math.nan)
    with pytest.raises(ValueError, match="'w2 w39' are NaN"):
        score_similarity(
            tiny_bert, tokenizer, pd.DataFrame([{"item": 0, "sentence1": "w1", "sentence2": "w2 w39", "score": 1}])
        )
    frame_with(tokenizer, None, None)
    with pytest.raises(ValueError, match="no tokens"):
        score_similarity(tiny_bert, tokenizer, pairs.assign(sentence1=""))


def test_sentences_are_cut_at_the_rows_that_a_table_of_positions_has(tokenizer, pairs):
    """RoBERTa leaves the rows of its table up to the padding token's number unused."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    model = RobertaModel(config).eval()
    cut = pairs.assign(sentence1=" ".join((["w7", "w9"] * 16)[:31]))
    frame = score_similarity(model, tokenizer, pairs.assign(sentence1="w7 w9 " * 40))
    assert frame.attrs["truncated_sentences"] == 1  # bos and 31 tokens of text are left
    pd.testing.assert_series_equal(frame["predicted"], score_similarity(model, tokenizer, cut)["predicted"])


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_the_mean_rank_loss_is_one_minus_spearman(levels):
    generator = np.random.default_rng(levels)
    gold, predicted = (generator.integers(levels, size=200).astype(float) for _ in range(2))
    predicted += gold * 0.5
    losses = rank_losses(gold, predicted)
    assert losses.dtype == torch.float64 and (losses >= 0).all()
    assert losses.mean().item() == pytest.approx(1 - scipy.stats.spearmanr(gold, predicted).statistic, abs=1e-12)
    assert rank_losses(gold, gold).abs().max() == 0
    assert rank_losses(gold, -gold).mean().item() == pytest.approx(2, abs=1e-12)


def test_rank_losses_refuse_what_has_no_correlation():
    some = np.array([1.0, 2.0, 3.0])
    for gold, predicted, message in (
        (some, np.ones(3), "predicted scores of all 3 pairs are equal"),
        (np.ones(3), some, "gold scores"),
        (some, np.array([1.0, np.nan, 2.0]), "finite"),
        (some[:1], some[:1], "at least two pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            rank_losses(gold, predicted)
