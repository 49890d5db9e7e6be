"""What a lab model is: its architecture, its size and how long it is trained."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig, PreTrainedConfig, PreTrainedModel

VOCABULARY_SIZE = 4096
CONTEXT_LENGTH = 256
WIDTH = 96
HEADS = 4
BLOCKS = 6
SEQUENCE_LENGTH = 128


@dataclass(frozen=True)
class ModelSpec:
    """A lab model and the defaults of its training. `config` holds the arguments of `config_class` that size it."""

    name: str
    config_class: type[PreTrainedConfig]
    config: dict[str, Any] = field(default_factory=dict)
    tokens: int = 12_000_000
    learning_rate: float = 3e-3

    def build(self, *, vocabulary_size: int, special_ids: dict[str, int], seed: int) -> PreTrainedModel:
        """A model with random weights drawn from `seed`; `special_ids` are bos, eos and pad token ids."""
        torch.manual_seed(seed)
        config = self.config_class(vocab_size=vocabulary_size, tie_word_embeddings=True, **special_ids, **self.config)
        # Written-out attention: at 128 tokens its backward pass is faster on a CPU than the fused kernel's.
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")


SPECS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "lab-llama",
            LlamaConfig,
            {
                "hidden_size": WIDTH,
                "intermediate_size": 256,  # 8/3 of the width
                "num_hidden_layers": BLOCKS,
                "num_attention_heads": HEADS,
                "max_position_embeddings": CONTEXT_LENGTH,
            },
            tokens=10_000_000,
        ),
        ModelSpec(
            "lab-gpt2",
            GPT2Config,
            {
                "n_embd": WIDTH,
                "n_layer": BLOCKS,
                "n_head": HEADS,
                "n_positions": CONTEXT_LENGTH,
                "resid_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "attn_pdrop": 0.0,
            },
        ),
        ModelSpec(
            "lab-opt",
            OPTConfig,
            {
                "hidden_size": WIDTH,
                "word_embed_proj_dim": WIDTH,
                "ffn_dim": 4 * WIDTH,
                "num_hidden_layers": BLOCKS,
                "num_attention_heads": HEADS,
                "max_position_embeddings": CONTEXT_LENGTH,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            },
        ),
    )
}
