"""How many tokens a model reads: tried out, on models of every way to number positions."""

import logging

import pytest
import torch
import transformers
from torch import nn

from labutils.models.positions import check_context, context_length, has_learned_positions

ROWS = 24
SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": ROWS,
}  # fmt: skip
GPT = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": ROWS}
LEARNED = {
    "gpt2": ("GPT2Model", "GPT2Config", GPT, ROWS),
    "openai-gpt": ("OpenAIGPTModel", "OpenAIGPTConfig", GPT, ROWS),
    "gptj": ("GPTJModel", "GPTJConfig", {**GPT, "rotary_dim": 4}, ROWS),
    "ctrl": ("CTRLModel", "CTRLConfig", {**GPT, "dff": 24}, ROWS),
    "opt": ("OPTModel", "OPTConfig", {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16}, ROWS),
    "bert": ("BertModel", "BertConfig", SIZES, ROWS),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", {**SIZES, "embedding_size": 16}, ROWS),
    "roberta": ("RobertaModel", "RobertaConfig", {**SIZES, "pad_token_id": 1}, ROWS - 2),
    "roberta, another padding": ("RobertaForMaskedLM", "RobertaConfig", {**SIZES, "pad_token_id": 4}, ROWS - 5),
    "mpnet": ("MPNetModel", "MPNetConfig", {**SIZES, "pad_token_id": 1}, ROWS - 2),
    "xlm": ("XLMModel", "XLMConfig", {"vocab_size": 64, "emb_dim": 16, "n_layers": 2, "n_heads": 2,
                                       "max_position_embeddings": ROWS}, ROWS),
}  # fmt: skip
OPEN = {
    "llama": ("LlamaModel", "LlamaConfig", SIZES, ROWS),
    "bloom": ("BloomModel", "BloomConfig", {"vocab_size": 64, "hidden_size": 16, "n_layer": 2, "n_head": 2}, None),
    "t5": ("T5EncoderModel", "T5Config", {"vocab_size": 64, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2,
                                          "num_heads": 2}, None),
}  # fmt: skip


def build(model: str, config: str, options: dict) -> nn.Module:
    return getattr(transformers, model)(getattr(transformers, config)(**options)).eval()


def read(model: nn.Module, length: int) -> None:
    with torch.no_grad():
        model(input_ids=torch.arange(length).remainder(50).add(8)[None])


@pytest.mark.parametrize("name", LEARNED)
def test_a_table_of_positions_takes_what_is_said_and_not_one_more(name: str) -> None:
    *what, limit = LEARNED[name]
    model = build(*what)
    assert context_length(model) == limit and has_learned_positions(model)
    read(model, limit)
    with pytest.raises((IndexError, RuntimeError)):
        read(model, limit + 1)


@pytest.mark.parametrize("name", OPEN)
def test_without_a_table_longer_sequences_are_read(name: str) -> None:
    *what, stated = OPEN[name]
    model = build(*what)
    assert context_length(model) == stated and not has_learned_positions(model)
    read(model, ROWS + 8)


def test_of_a_wrapped_model_the_limit_is_that_of_its_base(tiny_gpt2: nn.Module) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(tiny_gpt2, peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    assert context_length(adapted) == 64 and has_learned_positions(adapted)


def test_longer_sequences_are_refused_or_told_once(caplog: pytest.LogCaptureFixture) -> None:
    gpt2, llama, bloom = (
        build(*known[name][:3]) for known, name in ((LEARNED, "gpt2"), (OPEN, "llama"), (OPEN, "bloom"))
    )
    for model in (gpt2, llama, bloom):
        check_context(model, ROWS, "a test")
    with pytest.raises(ValueError, match=f"a test: the sequences have {ROWS + 1} tokens, GPT2Model has {ROWS} .*=24"):
        check_context(gpt2, ROWS + 1, "a test")
    check_context(bloom, 10**6, "a test")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "labutils"):
        for length in (ROWS + 1, ROWS + 1, ROWS + 2):
            check_context(llama, length, "a test of what is told once")
    told = [record.message for record in caplog.records]
    assert [f"{ROWS + n} tokens, LlamaModel has {ROWS} positions" in told[n - 1] for n in (1, 2)] == [True, True]
    assert len(told) == 2
