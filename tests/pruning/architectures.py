"""Tiny random models of every architecture that labutils is tested on, and experts unfused into linear layers."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

VOCABULARY = 64
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 1}
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
ROUTER = "mlp.gate.weight"


@dataclass(frozen=True)
class Architecture:
    """A model class, its configuration, and the block parameters of two and more dimensions that stay dense."""

    model: str
    config: str
    options: dict
    dense: tuple[str, ...] = ()

    def build(self) -> PreTrainedModel:
        """The same random model at every call; no parameter is left at a constant."""
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.options)
        model = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(0.3 * torch.randn(parameter.shape))
                else:
                    parameter.add_(0.2 * torch.randn(parameter.shape))
        return model


def _causal(name: str, options: dict, dense: tuple[str, ...] = ()) -> Architecture:
    return Architecture(f"{name}ForCausalLM", f"{name}Config", options, dense)


ARCHITECTURES = {
    "llama": _causal("Llama", SIZES),
    "mistral": _causal("Mistral", {**GROUPED, "sliding_window": 6}),
    "qwen2": _causal("Qwen2", GROUPED),
    "qwen3": _causal("Qwen3", {**GROUPED, "head_dim": 8}),
    "gemma2": _causal("Gemma2", {**GROUPED, "head_dim": 8, "sliding_window": 6}),
    "phi3": _causal("Phi3", GROUPED),
    "olmo2": _causal("Olmo2", SIZES),
    "stablelm": _causal("StableLm", {**GROUPED, "qk_layernorm": True, "use_qkv_bias": True}),
    "opt": _causal(
        "OPT",
        {key: value for key, value in SIZES.items() if key != "intermediate_size"}
        | {"ffn_dim": 24, "word_embed_proj_dim": 16},
    ),
    "gpt2": Architecture("GPT2LMHeadModel", "GPT2Config", {
        "vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64,
        "bos_token_id": 1, "eos_token_id": 2,
    }),
    "gpt-neox": _causal("GPTNeoX", SIZES),
    "bloom": _causal("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "falcon": _causal("Falcon", {**SIZES, "ffn_hidden_size": 24, "multi_query": True}),
    "falcon-new": _causal("Falcon", {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 1, "bias": True}),
    "mixtral": _causal("Mixtral", {**GROUPED, "num_local_experts": 5}, (ROUTER,)),
    "qwen2-moe": _causal(
        "Qwen2Moe", {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 8},
        (ROUTER, "mlp.shared_expert_gate.weight"),
    ),
    "qwen3-moe": _causal("Qwen3Moe", {**GROUPED, **EXPERTS, "head_dim": 8}, (ROUTER,)),
    "gpt-oss": _causal(
        "GptOss",
        {**GROUPED, "head_dim": 8, "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 6,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        ("mlp.router.weight", "mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj_bias"),
    ),
    "bert": Architecture("BertModel", "BertConfig", SIZES),
    "roberta": Architecture("RobertaModel", "RobertaConfig", {**SIZES, "max_position_embeddings": 66}),
    "distilbert": Architecture("DistilBertModel", "DistilBertConfig", {
        "vocab_size": VOCABULARY, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2,
        "max_position_embeddings": 64,
    }),
    "t5": Architecture(
        "T5EncoderModel", "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2},
        ("layer.0.SelfAttention.relative_attention_bias.weight",),
    ),
}  # fmt: skip
MIXTURES = ("mixtral", "qwen2-moe", "qwen3-moe", "gpt-oss")


class PlainExpert(nn.Module):
    """One of several fused experts, as two linear layers."""

    def __init__(self, fused: nn.Module, index: int):
        super().__init__()
        self.gate_up_proj = _linear_layer(fused, "gate_up_proj", index)
        self.down_proj = _linear_layer(fused, "down_proj", index)
        self.activate: Callable[[Tensor], Tensor] = _interleaved if fused.is_transposed else _halves

    def forward(self, token: Tensor) -> Tensor:
        return self.down_proj(self.activate(self.gate_up_proj(token)))


class PlainExperts(nn.ModuleList):
    """Fused experts taken apart, and run one token and one expert at a time."""

    def forward(self, hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        rows = []
        for token in range(len(hidden)):
            choices = zip(chosen[token].tolist(), shares[token], strict=True)
            rows.append(sum(share * self[expert](hidden[token]) for expert, share in choices))
        return torch.stack(rows)


def unfused(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the model whose fused experts are linear layers of their own."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("Experts"):
                setattr(parent, name, PlainExperts(PlainExpert(child, index) for index in range(child.num_experts)))
    return model


def fused_name(name: str) -> str:
    """The name that an unfused expert's matrix has when fused: `experts.3.down_proj` → `experts.down_proj[3]`."""
    return re.sub(r"\bexperts\.(\d+)\.(\w+)$", r"experts.\2[\1]", name)


def _linear_layer(fused: nn.Module, name: str, index: int) -> nn.Linear:
    weight = getattr(fused, name).detach()[index]
    weight = weight.T if fused.is_transposed else weight
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=fused.has_bias)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if fused.has_bias:
            layer.bias.copy_(getattr(fused, f"{name}_bias")[index])
    return layer


def _halves(both: Tensor) -> Tensor:
    """SwiGLU of Mixtral and Qwen: the gates come first."""
    gate, up = both[: len(both) // 2], both[len(both) // 2 :]
    return gate / (1 + torch.exp(-gate)) * up


def _interleaved(both: Tensor) -> Tensor:
    """GPT-OSS: gates at the even places, clamped at 7, with a steeper sigmoid."""
    gate, up = both[::2].clamp(max=7), both[1::2].clamp(-7, 7)
    return gate / (1 + torch.exp(-1.702 * gate)) * (up + 1)
