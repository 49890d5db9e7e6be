"""What the tests of training share: small models of both kinds, saved as a reader would have them, and small texts."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from helpers import TINY_WORDS, word_tokenizer, words
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

from labutils.adaptation.training import Base

VOCABULARY = 64


def causal_base() -> Base:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.2,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.model_max_length = 64
    return Base(LlamaForCausalLM(config).eval(), tokenizer)


def masked_base(*, fresh_head: bool = False) -> Base:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    tokenizer = word_tokenizer(TINY_WORDS, **special)
    tokenizer.model_max_length = 64
    return Base(BertForMaskedLM(config).eval(), tokenizer, fresh_head)


def save(base: Base, folder: Path) -> str:
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return str(folder)


def texts(n: int, *, seed: int = 0) -> list[str]:
    """Texts in which every word is followed by its neighbour in the vocabulary."""
    starts = np.random.default_rng(seed).integers(0, 20, size=n)
    return [" ".join(TINY_WORDS[start : start + 12]) for start in starts]


def pairs(n: int, *, seed: int = 0) -> pd.DataFrame:
    """Sentence pairs whose score is the number of words they share, from 0 to 4."""
    generator = np.random.default_rng(seed)
    rows = []
    for item in range(n):
        first = words(generator, 6).split()
        shared = int(generator.integers(0, 5))
        second = first[:shared] + words(generator, int(generator.integers(4, 8)) - shared).split()
        rows.append({"item": 100 + item, "sentence1": " ".join(first), "sentence2": " ".join(second), "score": shared})
    return pd.DataFrame(rows).astype({"score": float})


def state_of(base: Base) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in base.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
