"""Models with adapters: the base is pruned as the adapted model reads it, and adapters stay as they are."""

import copy

import peft
import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn

import labutils as lab
from labutils.pruning.calibration import BlockWalk

IDS = torch.randint(3, 64, (4, 8), generator=torch.Generator().manual_seed(1))
KINDS = {
    "lora": peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False),
    "dora": peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, use_dora=True),
    "ia3": peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], init_ia3_weights=False
    ),
    "causal lm": peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
}  # fmt: skip


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_the_base_is_pruned_and_adapters_are_left(tiny_llama: nn.Module, kind: str, method: str) -> None:
    names = lab.prune(copy.deepcopy(tiny_llama), IDS, method=method, sparsity=0.5).layers["name"].tolist()
    torch.manual_seed(1)
    adapted = peft.get_peft_model(tiny_llama, KINDS[kind])
    before = weights_of(adapted)
    report = lab.prune(adapted, IDS, method=method, sparsity=0.5)
    assert report.layers["name"].tolist() == names and report.sparsity == pytest.approx(0.5, abs=0.02)
    changed = {name for name, tensor in adapted.state_dict().items() if not tensor.equal(before[name])}
    assert len(changed) == len(names) and not any("lora" in name or "ia3" in name for name in changed)
    assert all(name.endswith("proj.weight") or name.endswith("base_layer.weight") for name in changed)


def test_statistics_are_those_of_the_adapted_model(tiny_llama: nn.Module) -> None:
    """With adapters merged into the weights, the same matrices read the same."""
    torch.manual_seed(1)
    adapted = peft.get_peft_model(tiny_llama, KINDS["lora"])
    merged = copy.deepcopy(adapted).merge_and_unload()
    own, expected = BlockWalk(adapted, IDS), BlockWalk(merged, IDS)
    for index in range(3):
        found, other = own.collect_and_advance(index, hessian=True), expected.collect_and_advance(index, hessian=True)
        assert found.keys() == other.keys()
        for name in found:
            torch.testing.assert_close(found[name].hessian, other[name].hessian, rtol=1e-4, atol=1e-4)


def test_adapters_on_fused_experts() -> None:
    model = ARCHITECTURES["qwen3-moe"].build()
    names = lab.prune(copy.deepcopy(model), IDS, method="wanda", sparsity=0.5).layers["name"].tolist()
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], target_parameters=parameters))
    report = lab.prune(adapted, IDS, method="wanda", sparsity=0.5)
    assert report.layers["name"].tolist() == names and report.sparsity == pytest.approx(0.5, abs=0.03)


def test_merged_adapters_are_refused(tiny_llama: nn.Module) -> None:
    """Taking them out again would fill the zeros up."""
    adapted = peft.get_peft_model(tiny_llama, KINDS["lora"])
    adapted.merge_adapter()
    before = weights_of(adapted)
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.q_proj has its adapters merged.*unmerge_adapter"):
        lab.prune(adapted, IDS, method="wanda", sparsity=0.5)
    assert all(tensor.equal(before[name]) for name, tensor in adapted.state_dict().items())
    adapted.unmerge_adapter()
    assert lab.prune(adapted, IDS, method="wanda", sparsity=0.5).sparsity == pytest.approx(0.5, abs=0.02)


def test_a_grid_evaluates_the_model_that_was_given(tiny_llama: nn.Module) -> None:
    adapted, seen = peft.get_peft_model(tiny_llama, KINDS["lora"]), []
    before = weights_of(adapted)
    rows = lab.prune_grid(
        adapted, IDS, methods=["wanda"], sparsities=[0.5], evaluate=lambda model: seen.append(model) or {"x": 1}
    )
    assert [row["x"] for row in rows] == [1] and seen == [adapted]
    assert all(tensor.equal(before[name]) for name, tensor in adapted.state_dict().items())


def test_a_model_spread_over_devices_is_refused(tiny_llama: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"DataParallel.*`model\.module`"):
        lab.prune(nn.DataParallel(tiny_llama), IDS, method="wanda", sparsity=0.5)
