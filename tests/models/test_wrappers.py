"""What stands around a model or its layers, and the stack of blocks that token ids run through."""

import peft
import pytest
import torch
import transformers
from torch import nn

from labutils.models.structure import find_blocks, prunable_layers
from labutils.models.wrappers import bare_model, base_modules

TEXT = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64,
}  # fmt: skip


def qwen2_vl(n_vision: int) -> nn.Module:
    """A vision tower and two text blocks."""
    text = TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
    vision = {"depth": n_vision, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 14}
    config = transformers.Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=63, video_token_id=62, vision_start_token_id=61,
        vision_end_token_id=60,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.Qwen2VLForConditionalGeneration(config).eval()


@pytest.mark.parametrize("n_vision", [1, 2, 5])
def test_of_a_vision_language_model_the_blocks_are_those_that_token_ids_reach(n_vision: int) -> None:
    name, blocks = find_blocks(qwen2_vl(n_vision))
    assert name == "model.language_model.layers" and len(blocks) == 2


def test_blocks_of_several_kinds_that_take_turns() -> None:
    config = transformers.JambaConfig(
        **TEXT, num_experts=2, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False,
        mamba_d_state=4, mamba_dt_rank=4,
    )  # fmt: skip
    name, blocks = find_blocks(transformers.JambaForCausalLM(config))
    assert name == "model.layers" and len({type(block) for block in blocks}) == 2


def test_the_model_inside(tiny_llama: nn.Module) -> None:
    assert bare_model(tiny_llama) is tiny_llama
    assert bare_model(torch.compile(tiny_llama)) is tiny_llama
    with pytest.raises(ValueError, match=r"DataParallel is a wrapper.*`model\.module`"):
        bare_model(nn.DataParallel(tiny_llama))
    with pytest.raises(ValueError, match="Linear is no model of transformers"):
        bare_model(nn.Linear(2, 2))
    adapted = peft.get_peft_model(tiny_llama, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert bare_model(adapted) is tiny_llama
    assert bare_model(torch.compile(adapted)) is tiny_llama


def test_adapted_layers_are_their_base_by_its_own_name(tiny_llama: nn.Module) -> None:
    block = tiny_llama.model.layers[0]
    modules, layers = dict(base_modules(block)), prunable_layers(block)
    assert modules == dict(block.named_modules())
    # two adapters of one layer are two linear layers in a ModuleDict, which are no experts
    adapted = peft.get_peft_model(tiny_llama, peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
    adapted.add_adapter("second", peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    assert dict(base_modules(block)) == modules
    assert prunable_layers(block) == layers and list(prunable_layers(block)) == list(layers)
    assert find_blocks(tiny_llama)[0] == "model.layers"
