"""Tiny models stored in several ways, and what tests of checkpoints compare."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    MixtralModel,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from labutils.pruning import PruneReport

VOCABULARY = 64
TOKENS = torch.randint(0, VOCABULARY, (6, 20), generator=torch.Generator().manual_seed(0))
PADDED = {
    "input_ids": TOKENS,
    "attention_mask": (torch.arange(20) < torch.tensor([[20], [11], [20], [5], [17], [20]])).long(),
}


def untied_llama() -> LlamaForCausalLM:
    """Grouped queries, a head of its own."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def masked_bert() -> BertForMaskedLM:
    """Its names carry a prefix that the encoder alone lacks, and it has a head that the encoder has not."""
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


def mixture(architecture: str) -> PreTrainedModel:
    """A tiny mixture of experts; without its head, its names lack a prefix."""
    torch.manual_seed(3)
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts_per_tok": 2, "initializer_range": 0.3,
    }  # fmt: skip
    if architecture == "qwen3_moe":
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(num_experts=4, moe_intermediate_size=24, **sizes)).eval()
    kind = MixtralModel if architecture == "mixtral without head" else MixtralForCausalLM
    return kind(MixtralConfig(num_local_experts=4, **sizes)).eval()


def store(model: PreTrainedModel, folder: Path, *, in_shards: bool = False) -> Path:
    model.save_pretrained(folder, max_shard_size="5KB" if in_shards else "1GB")
    return folder


def load_plainly(folder: Path) -> PreTrainedModel:
    """As anybody would with transformers alone."""
    head = json.loads((folder / "config.json").read_text())["architectures"][0]
    kind = AutoModelForCausalLM if head.endswith(("ForCausalLM", "LMHeadModel")) else AutoModel
    return kind.from_pretrained(folder, dtype="auto").eval()


def assert_same_state(model: PreTrainedModel, other: PreTrainedModel) -> None:
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        if name.startswith("pooler."):  # `masked_bert` has none: transformers makes a random one on every loading
            continue
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


def assert_same_report(report: PruneReport, other: PruneReport) -> None:
    """Equal but for the time that was taken."""
    pd.testing.assert_frame_equal(report.layers.drop(columns="seconds"), other.layers.drop(columns="seconds"))
    pd.testing.assert_frame_equal(report.strategy, other.strategy)
    assert report.sparsity == other.sparsity and report.options == other.options
    assert report.permutations.keys() == other.permutations.keys()
    assert all(torch.equal(order, other.permutations[name]) for name, order in report.permutations.items())


def run_in_child(work: Callable[[], object]) -> int | None:
    """Call `work` in a process of its own and return the exit code: the negative signal where it was killed."""

    def child() -> None:
        torch.set_num_threads(1)  # a forked process has none of its parent's threads
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(timeout=100)
    return process.exitcode
