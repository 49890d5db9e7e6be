"""Sequences for recoveries: equal tokens in every set, prompts alone in one of them, draws apart."""

import pytest
import torch
from helpers import TINY_WORDS, word_tokenizer, write_jsonl

import labutils as lab


@pytest.fixture
def texts(tmp_path) -> str:
    lines = [{"text": " ".join(TINY_WORDS[(n + k) % 40] for k in range(12))} for n in range(60)]
    return write_jsonl(tmp_path / "texts.jsonl", lines)


def test_sets_have_equal_tokens(texts: str) -> None:
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>")
    given = {"n_draws": 2, "n_sequences": 3, "seq_len": 8, "prompt_len": 4}
    sets = lab.sweeps.load_recovery_sets(texts, texts, tokenizer, **given)
    assert {name: [each.shape for each in own] for name, own in sets.items()} == {
        name: [(3, 8), (3, 8)] for name in ("prompts", "other", "random")
    }
    windows = lab.load_tokens(texts, tokenizer, n_sequences=6, seq_len=8, seed=1)
    assert torch.equal(sets["prompts"][1].reshape(6, 4), windows[:, :4])
    assert not torch.equal(sets["other"][0], sets["other"][1])
    with pytest.raises(ValueError, match="do not fill"):
        lab.sweeps.load_recovery_sets(texts, texts, tokenizer, **{**given, "prompt_len": 3})


def test_a_pool_has_equal_parts(texts: str) -> None:
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>")
    pool = lab.sweeps.load_pool([texts, "random"], tokenizer, n_draws=2, n_sequences=9, seq_len=8)
    assert [each.shape for own in pool.values() for each in own] == [(4, 8)] * 4
    behind = lab.sweeps.load_pool([texts, "random"], tokenizer, n_draws=2, n_sequences=9, seq_len=8, behind=3)
    windows = lab.load_tokens(texts, tokenizer, n_sequences=7, seq_len=8, seed=1)
    assert torch.equal(behind[texts][1], windows[3:]) and torch.equal(pool[texts][1], windows[:4])
    assert lab.sweeps.load_pool([], tokenizer, n_draws=2, n_sequences=9, seq_len=8) == {}
