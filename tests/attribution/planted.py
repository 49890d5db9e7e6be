"""Models whose MLP units were written by hand: each planted unit fires on one word and on nothing else."""

import torch
from helpers import TINY_WORDS, word_tokenizer
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from labutils.models.structure import weight_matrix

HIDDEN, WIDTH, BLOCKS = 48, 24, 3
# (block, neuron) → word; the words' embeddings are the unit vectors of the hidden states.
PLANTED = {(0, 3): "w5", (0, 7): "w11", (1, 0): "w5", (1, 20): "w30", (2, 23): "w17"}


def planted_tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>")


def planted_llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=HIDDEN, hidden_size=HIDDEN, intermediate_size=WIDTH, num_hidden_layers=BLOCKS,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    layers = [(block.mlp.gate_proj, block.mlp.up_proj) for block in model.model.layers]
    return _write(model, tokenizer, layers)


def planted_gpt2(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=HIDDEN, n_embd=HIDDEN, n_inner=WIDTH, n_layer=BLOCKS, n_head=2, n_positions=64,
        bos_token_id=0, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    nn.init.zeros_(model.transformer.wpe.weight)
    return _write(model, tokenizer, [(block.mlp.c_fc,) for block in model.transformer.h])


def planted_opt(tokenizer: PreTrainedTokenizerFast) -> OPTForCausalLM:
    config = OPTConfig(
        vocab_size=HIDDEN, hidden_size=HIDDEN, ffn_dim=WIDTH, num_hidden_layers=BLOCKS, num_attention_heads=2,
        max_position_embeddings=64, word_embed_proj_dim=HIDDEN, tie_word_embeddings=False,
    )  # fmt: skip
    model = OPTForCausalLM(config).eval()
    nn.init.zeros_(model.model.decoder.embed_positions.weight)
    return _write(model, tokenizer, [(layer.fc1,) for layer in model.model.decoder.layers])


@torch.no_grad()
def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, layers: list[tuple]) -> PreTrainedModel:
    """One-hot embeddings that nothing changes on the way, and incoming weights that read one of them."""
    for name, parameter in model.named_parameters():
        if "norm" not in name and "ln_" not in name and "embed_positions" not in name and "lm_head" not in name:
            parameter.zero_()
    model.get_input_embeddings().weight.copy_(torch.eye(HIDDEN))
    for (block, neuron), word in PLANTED.items():
        token = tokenizer.convert_tokens_to_ids(word)
        for layer in layers[block]:
            weight_matrix(layer)[neuron, token] = 1.0
            if layer.bias is not None:
                layer.bias[neuron] = -3.0  # a norm makes 6.9 of the word's unit vector, and 0 or less of any other's
    return model


PLANTERS = {"llama": planted_llama, "gpt2": planted_gpt2, "opt": planted_opt}
