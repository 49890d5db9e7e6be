"""Tiny GGUF files, written with the package `gguf` as llama.cpp's converter lays tensors out."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

Types = gguf.GGMLQuantizationType
LETTERS = list(bytes_to_unicode().values())
MERGES = ["t h", "th e", "i n", "Ġ 1", "1 2", "Ġ th"]
TOKENS = [*LETTERS, *(merge.replace(" ", "") for merge in MERGES), "<s>", "<|endoftext|>"]
VOCABULARY, WIDTH, HEADS = len(TOKENS), 64, 4

LLAMA_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
GPT2_NAMES = {
    "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
    "attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
    "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip


def tiny(architecture: str, *, width: int = WIDTH, tied: bool = True) -> PreTrainedModel:
    """A random model with 40 positions and grouped queries; GPT-2 with an MLP that is not four times as wide."""
    torch.manual_seed(3)
    if architecture == "gpt2":
        sizes = {"n_embd": width, "n_inner": 2 * width, "n_layer": 2, "n_head": HEADS, "n_positions": 40}
        return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, initializer_range=0.2, **sizes)).eval()
    kind, config = (Qwen2ForCausalLM, Qwen2Config) if architecture == "qwen2" else (LlamaForCausalLM, LlamaConfig)
    model = kind(config(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=40, rms_norm_eps=1e-5,
        tie_word_embeddings=tied, initializer_range=0.2,
    ))  # fmt: skip
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.3)
    return model.eval()


def tensors_of(model: PreTrainedModel, architecture: str) -> dict[str, np.ndarray]:
    """The tensors of a model under their names in a GGUF file, in float32."""
    names, blocks = (GPT2_NAMES, "transformer.h.") if architecture == "gpt2" else (LLAMA_NAMES, "model.layers.")
    known = {theirs: ours for ours, theirs in names.items()}
    found = {}
    for name, tensor in model.state_dict().items():
        stem, _, ending = name.rpartition(".")
        block = ""
        if stem.startswith(blocks):
            number, _, stem = stem.removeprefix(blocks).partition(".")
            block = f"blk.{number}."
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if architecture == "gpt2" and stem in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            values = values.T if values.ndim == 2 else values  # Conv1D is (in × out)
        if architecture == "llama" and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            values = interleaved(values, HEADS if stem.endswith("q_proj") else 2)
        found[f"{block}{known[stem]}.{ending}"] = np.ascontiguousarray(values)
    return found


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of llama.cpp, which rotates neighbours where transformers rotates halves."""
    return values.reshape(heads, 2, len(values) // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def write_gguf(
    path: Path,
    architecture: str,
    tensors: Mapping[str, np.ndarray],
    *,
    kind: str = "F32",
    packed: Mapping[str, tuple[np.ndarray, str]] | None = None,
    pre: str = "gpt-2",
    more: Mapping[str, object] | None = None,
    width: int = WIDTH,
) -> Path:
    """Write a file; matrices as `kind`, `packed` ones as they are given: bytes and their type."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    writer.add_context_length(40)
    writer.add_block_count(2)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(width // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * (VOCABULARY - 2) + [3, 3])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(VOCABULARY - 2)
    writer.add_eos_token_id(VOCABULARY - 1)
    for key, value in (more or {}).items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)]
        add(key, value)
    for name, values in tensors.items():
        own = Types[kind] if values.ndim == 2 else Types.F32
        writer.add_tensor(name, gguf.quantize(values, own), raw_dtype=own)
    for name, (values, own) in (packed or {}).items():
        writer.add_tensor(name, values, raw_dtype=Types[own])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_blocks(rows: int, columns: int, kind: str, seed: int = 0) -> np.ndarray:
    """Blocks of random bits, whose scales are made small numbers: a matrix of any type that ggml has."""
    weights, size = gguf.GGML_QUANT_SIZES[Types[kind]]
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (rows * columns // weights, size), dtype=np.uint8)
    places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
    for place in places.get(kind, (0, 2) if kind in ("Q4_1", "Q5_1") else (0,)):
        scale = (generator.random(len(blocks)) * 1e-2).astype(np.float16)
        blocks[:, place : place + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)
