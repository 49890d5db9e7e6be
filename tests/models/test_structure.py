"""What is told of a model by its structure: whether it reads token ids, and which of its stacks they run through."""

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, MusicgenDecoderConfig, MusicgenForCausalLM, ResNetConfig, ResNetModel
from transformers.models.git import GitConfig, GitForCausalLM

import labutils as lab
from labutils.models.structure import check_reads_tokens, find_blocks

IDS = torch.arange(24).reshape(2, 12)
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGES = {**SIZES, "image_size": 8, "patch_size": 4}


def clip() -> CLIPModel:
    return CLIPModel(CLIPConfig(text_config={**SIZES, "vocab_size": 64}, vision_config=IMAGES))


def resnet() -> ResNetModel:
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]))


def musicgen() -> MusicgenForCausalLM:
    return MusicgenForCausalLM(MusicgenDecoderConfig(vocab_size=64, hidden_size=16, ffn_dim=24, num_hidden_layers=2,
                                                     num_attention_heads=2, num_codebooks=2))  # fmt: skip


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (clip, "CLIPModel has no single embedding of token ids.*prune the part that reads text"),
        (resnet, "ResNetModel reads no token ids: its forward pass takes pixel_values"),
        (musicgen, "MusicgenForCausalLM has no single embedding"),
    ],
)
def test_models_that_read_no_token_ids_are_refused_for_that(build, message: str) -> None:
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        lab.prune(model, IDS, method="magnitude", sparsity=0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_models_of_text_and_wrappers_of_them_read_token_ids(tiny_llama: nn.Module, tiny_bert: nn.Module) -> None:
    check_reads_tokens(tiny_llama)
    check_reads_tokens(tiny_bert)
    forward = tiny_llama.forward
    tiny_llama.forward = lambda *args, **kwargs: forward(*args, **kwargs)
    check_reads_tokens(tiny_llama)


def test_of_equally_near_stacks_the_one_fewer_modules_away_is_taken() -> None:
    """GIT keeps its image encoder beside its text blocks, as long as these and with more weights."""
    wide = {**IMAGES, "hidden_size": 32}
    model = GitForCausalLM(GitConfig(**SIZES, vocab_size=64, vision_config=wide))
    assert find_blocks(model)[0] == "git.encoder.layer"
