"""Adapters: found by structure, neutral at first, recorded as they are computed, merged without a change."""

import copy

import pytest
import torch
from transformers import PreTrainedModel

from labutils.distillation import adapters

EXPECTED = {
    "tiny_llama": ["q_proj", "k_proj", "v_proj"],
    "tiny_opt": ["q_proj", "k_proj", "v_proj"],
    "tiny_gpt2": ["c_attn"],
    "tiny_bert": ["query", "key", "value"],
}
IDS = torch.randint(0, 64, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=list(EXPECTED))
def backbone(request: pytest.FixtureRequest) -> PreTrainedModel:
    return request.getfixturevalue(request.param).base_model


def states(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).last_hidden_state


def filled(backbone: PreTrainedModel, rank: int) -> torch.nn.Module:
    """Adapters with B matrices that are not zero."""
    torch.manual_seed(0)
    model = adapters.add_adapters(copy.deepcopy(backbone), rank=rank).eval()
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("name", EXPECTED)
def test_attention_inputs_are_found_in_every_block(name: str, request: pytest.FixtureRequest) -> None:
    found = adapters.find_attention_inputs(request.getfixturevalue(name).base_model)
    assert len(found) == 3
    assert all(sorted(layer.rpartition(".")[2] for layer in block) == sorted(EXPECTED[name]) for block in found)


def test_fresh_adapters_change_nothing_and_freeze_the_rest(backbone: PreTrainedModel) -> None:
    before = states(backbone)
    model = adapters.add_adapters(copy.deepcopy(backbone), rank=4).eval()
    assert torch.allclose(states(model), before, atol=1e-6) and adapters.has_adapters(model)
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


@pytest.mark.parametrize("rank", [1, 8, 32])
def test_merging_keeps_what_is_computed(backbone: PreTrainedModel, rank: int) -> None:
    model = filled(backbone, rank)
    expected = states(model)
    assert (expected - states(backbone)).abs().max() > 0.01
    merged = adapters.merge_adapters(model)
    assert not adapters.has_adapters(merged)
    assert torch.allclose(states(merged), expected, atol=1e-4)
    assert [n for n, _ in merged.named_parameters()] == [n for n, _ in backbone.named_parameters()]


@pytest.mark.parametrize("rank", [2, 8])
def test_recorded_states_are_the_products_with_the_a_matrices(backbone: PreTrainedModel, rank: int) -> None:
    """The input of each layer, caught by a hook of its own, times its A matrix."""
    model = filled(backbone, rank)
    given: dict[torch.nn.Module, torch.Tensor] = {}
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    for layer in layers:
        layer.register_forward_pre_hook(lambda module, inputs: given.__setitem__(module, inputs[0]))
    with adapters.recorded_adapters(adapters.adapter_matrices(model)) as recorded:
        states(model)
    per_block = len(layers) // 3
    assert len(recorded) == 3
    for number, found in enumerate(recorded):
        products = [
            given[layer] @ layer.lora_A["default"].weight.T
            for layer in layers[number * per_block : (number + 1) * per_block]
        ]
        assert found.shape == (2, 7, per_block * rank)
        assert torch.allclose(found, torch.cat(products, dim=-1), atol=1e-5)


def test_hooks_are_gone_after_a_failure(tiny_llama: PreTrainedModel) -> None:
    model = filled(tiny_llama.base_model, 2)
    with pytest.raises(RuntimeError, match="stop"), adapters.recorded_adapters(adapters.adapter_matrices(model)):
        raise RuntimeError("stop")
    assert not any(matrix._forward_hooks for block in adapters.adapter_matrices(model) for matrix in block)


def test_a_missing_peft_is_told(tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(LookupError, match="labutils\\[lora"):
        adapters.add_adapters(tiny_llama.base_model, rank=2)
