"""Provenance: fingerprints that change with the weights and with nothing else."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from labutils.core.provenance import hash_tokenizer, hash_weights, provenance


def values(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["item"], table["value"], strict=True))


def tokenizer_of(*words: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(words)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token=words[0])))


def test_versions_stand_without_a_model() -> None:
    table = values(provenance(seed=7))
    assert table["torch"] == torch.__version__
    assert table["seed"] == "7"
    assert {"labutils", "git commit", "python", "transformers", "numpy", "device", "threads"} <= set(table)
    assert "model" not in table


def test_weights_hash_follows_the_weights(tiny_llama: LlamaForCausalLM, tmp_path: Path) -> None:
    before = hash_weights(tiny_llama)
    tiny_llama.save_pretrained(tmp_path)
    assert hash_weights(LlamaForCausalLM.from_pretrained(tmp_path)) == before
    with torch.no_grad():
        tiny_llama.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-6
    assert hash_weights(tiny_llama) != before


def test_weights_hash_tells_types_apart(tiny_llama: LlamaForCausalLM) -> None:
    assert hash_weights(tiny_llama) != hash_weights(tiny_llama.to(torch.bfloat16))


def test_model_and_tokenizer_are_described(tiny_llama: LlamaForCausalLM) -> None:
    table = values(provenance(tiny_llama, tokenizer_of("?", "a", "b")))
    assert table["parameters"] == f"{sum(p.numel() for p in tiny_llama.parameters()):,}"
    assert table["weights sha256"] == hash_weights(tiny_llama)
    assert table["tokenizer"].endswith("3 tokens")
    assert table["device"] == "cpu"


def test_tokenizer_hash_follows_the_vocabulary() -> None:
    assert hash_tokenizer(tokenizer_of("?", "a")) == hash_tokenizer(tokenizer_of("?", "a"))
    assert hash_tokenizer(tokenizer_of("?", "a")) != hash_tokenizer(tokenizer_of("?", "b"))


def test_files_are_fingerprinted_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("one\n")
    first = values(provenance(sources=["file:text.txt"]))["source file:text.txt"]
    (tmp_path / "text.txt").write_text("two\n")
    assert first.startswith("sha256 ")
    assert values(provenance(sources=["file:text.txt"]))["source file:text.txt"] != first


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(LookupError, match="nowhere.txt"):
        provenance(sources=["file:nowhere.txt"])
