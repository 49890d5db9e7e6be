"""What a lab model is: its architecture, its size, how long it is trained and what it never reads."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

VOCABULARY_SIZE = 4096
CONTEXT_LENGTH = 256
WIDTH = 96
HEADS = 4
BLOCKS = 6
SEQUENCE_LENGTH = 128


@dataclass(frozen=True)
class ModelSpec:
    """A lab model and the defaults of its training.

    Attributes:
        config: the arguments of `config_class` that size it.
        withheld: a register that the model never reads, nor any task about it; see `corpus.mixture`.
        shipped: whether its weights come with the collection.
        fit: whether its card is to find it fit for pruning studies. One that is not is a beginner, which cannot do the
            tasks yet, and serves for the losses of texts alone.
    """

    name: str
    config_class: type[PreTrainedConfig]
    config: dict[str, Any] = field(default_factory=dict)
    tokens: int = 12_000_000
    learning_rate: float = 3e-3
    withheld: str = ""
    shipped: bool = True
    fit: bool = True

    def build(self, *, vocabulary_size: int, special_ids: dict[str, int], seed: int) -> PreTrainedModel:
        """A model with random weights drawn from `seed`; `special_ids` are bos, eos and pad token ids."""
        torch.manual_seed(seed)
        config = self.config_class(vocab_size=vocabulary_size, tie_word_embeddings=True, **special_ids, **self.config)
        # Written-out attention: at 128 tokens its backward pass is faster on a CPU than the fused kernel's.
        faster = {"attn_implementation": "eager"}
        if hasattr(config, "num_local_experts"):  # one product for all experts takes two thirds of a loop's time
            faster["experts_implementation"] = "grouped_mm"
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **faster)


def _llama(
    name: str, *, width: int = WIDTH, inner: int = 256, heads: int = HEADS, shipped: bool = True, withheld: str = ""
) -> ModelSpec:
    """A Llama of the lab's depth, context and tokens; its inner width is 8/3 of the width."""
    config = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": heads,
        "max_position_embeddings": CONTEXT_LENGTH,
    }
    return ModelSpec(name, LlamaConfig, config, tokens=10_000_000, shipped=shipped, withheld=withheld)


SPECS = {
    spec.name: spec
    for spec in (
        _llama("lab-llama"),
        # lab-llama as it is, but for the biomedical register: a base for studies of adaptation to a new domain
        _llama("lab-llama-general", withheld="biomedical"),
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
        # A mixture: two of its 8 experts read each token, which makes as many neurons as lab-llama has. It read fewer
        # tokens than the others because each takes longer: decided by time alone. The loss of the routers counts as in
        # the published configuration of Mixtral-8x7B.
        ModelSpec(
            "lab-mixtral",
            MixtralConfig,
            {
                "hidden_size": WIDTH,
                "intermediate_size": 128,
                "num_hidden_layers": BLOCKS,
                "num_attention_heads": HEADS,
                "num_key_value_heads": HEADS,
                "max_position_embeddings": CONTEXT_LENGTH,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
                "router_aux_loss_coef": 0.02,
            },
            tokens=3_000_000,
            fit=False,
        ),
        # A ladder of sizes, for whoever trains one: lab-llama narrower and wider, all else equal. Larger models would
        # learn better at lower rates; one rate for all leaves size as the only difference.
        _llama("lab-llama-0.25m", width=36, inner=96, heads=2, shipped=False),
        _llama("lab-llama-4m", width=208, inner=555, heads=8, shipped=False),
        _llama("lab-llama-16m", width=448, inner=1195, heads=8, shipped=False),
    )
}
