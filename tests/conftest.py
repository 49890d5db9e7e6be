"""Fixtures shared by all tests: tiny random models, and the folder of real data or a skip that says so."""

from pathlib import Path

import checked_types  # noqa: F401  before anything of labutils
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import TINY_WORDS, word_tokenizer, words
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from labutils.core import paths

VOCABULARY = 64


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; skips the test where LABUTILS_DATA is not set."""
    folder = paths.real_data()
    if folder is None:
        pytest.skip("needs real data: set LABUTILS_DATA to its folder")
    return folder


@pytest.fixture
def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def tiny_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=3, n_head=2, n_positions=64, initializer_range=0.3,
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def tiny_opt() -> OPTForCausalLM:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=16, ffn_dim=32, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, word_embed_proj_dim=16, init_std=0.3,
    )  # fmt: skip
    return OPTForCausalLM(config).eval()


@pytest.fixture
def tiny_bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return BertModel(config).eval()


@pytest.fixture(scope="session")
def lab_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer that all lab models share."""
    return AutoTokenizer.from_pretrained(paths.MODELS / "lab-llama")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, within the vocabulary of the tiny models."""
    return word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def pairs() -> pd.DataFrame:
    """Nine sentence pairs of different lengths."""
    generator = np.random.default_rng(1)
    rows = [
        {"item": i, "sentence1": words(generator, 1 + i), "sentence2": words(generator, 9 - i), "score": float(i % 4)}
        for i in range(9)
    ]
    return pd.DataFrame(rows)
