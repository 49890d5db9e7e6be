"""What the tests of sweeps of recoveries ask for."""

import pytest
import torch
from helpers import write_jsonl
from small_recoveries import ARMS, RECIPES, SIZES
from transformers import LlamaConfig, LlamaForCausalLM

import labutils as lab
from labutils.recovery import load_readings, own_reading


@pytest.fixture(scope="module")
def loaded():
    """A tiny random model that reads what the lab models read."""
    _, tokenizer = lab.load_model("lab-llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
        max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), tokenizer


@pytest.fixture(scope="module")
def asked(loaded, tmp_path_factory) -> dict:
    model, tokenizer = loaded
    texts = lab.load_texts("lab:review", n=80)
    review = write_jsonl(tmp_path_factory.mktemp("texts") / "review.jsonl", [{"text": text} for text in texts])
    sizes = {"n_items": 3, "n_task_items": 4, "seq_len": 16}
    readings = load_readings([review], ["lab:qa/birthplaces"], tokenizer, **sizes)
    readings.append(own_reading(model, readings[0].tokens, prompt_len=4))
    other = [lab.load_tokens(review, tokenizer, n_sequences=4, seq_len=16, seed=7 + draw) for draw in (0, 1)]
    return {
        "arms": ARMS, "sparsities": [0.5], "draws": [0, 1], "text": review, "readings": readings, "recipes": RECIPES,
        "sizes": SIZES, "pools": {"other": other}, "loaded": loaded,
    }  # fmt: skip
