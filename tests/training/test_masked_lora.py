"""LoRA on a pruned model: the update never fills a pruned weight, and merging changes no output."""

import copy
from pathlib import Path

import pytest
import torch
from checkpoint_models import TOKENS, assert_same_state, untied_llama
from torch import nn

from labutils.checkpoints import load_pruned, save_pruned
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning import prune
from labutils.training.masked_lora import add_lora, merge_lora, tune_lora

pytest.importorskip("peft")


def masks(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": weight_matrix(layer) != 0
        for index, block in enumerate(find_blocks(model)[1])
        for name, layer in prunable_layers(block).items()
    }


def train(adapted: nn.Module, steps: int = 3) -> list[float]:
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(parameters, lr=0.02), []
    for _ in range(steps):
        loss = adapted(input_ids=TOKENS, labels=TOKENS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_the_merge_keeps_mask_and_outputs(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    prune(model, TOKENS, method="wanda", sparsity=0.5)
    before, before_masks = copy.deepcopy(model), masks(model)
    trainable = {n: p.requires_grad for n, p in model.named_parameters()}
    adapted = add_lora(model, rank=2)
    losses = train(adapted)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        trained = adapted.eval()(TOKENS).logits
    merged = merge_lora(adapted)
    assert type(merged) is type(before) and merged.state_dict().keys() == before.state_dict().keys()
    assert {n: p.requires_grad for n, p in merged.named_parameters()} == trainable
    for layer, mask in masks(merged).items():
        assert not (mask & ~before_masks[layer]).any(), layer
    with torch.no_grad():
        torch.testing.assert_close(merged(TOKENS).logits, trained, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(trained, before(TOKENS).logits, atol=1e-2)
    changed = {n for n, t in merged.state_dict().items() if not torch.equal(t, before.state_dict()[n])}
    assert changed <= {f"{find_blocks(merged)[0]}.{layer}.weight" for layer in before_masks}


def test_the_update_against_its_definition() -> None:
    """W + M ⊙ (alpha / rank · B A), element by element in float64."""
    model = untied_llama()
    prune(model, TOKENS, method="magnitude", sparsity=0.5)
    dense = model.model.layers[1].mlp.up_proj.weight.detach().double().clone()
    adapted = add_lora(model, rank=3, alpha=12.0, layers=["up_proj"])
    train(adapted)
    layer = adapted.get_submodule("base_model.model.model.layers.1.mlp.up_proj")
    down, up = (getattr(layer, part)["default"].weight.detach().double() for part in ("lora_A", "lora_B"))
    weight = merge_lora(adapted).model.layers[1].mlp.up_proj.weight
    for row in range(dense.shape[0]):
        for column in range(dense.shape[1]):
            update = 4.0 * sum(up[row, k] * down[k, column] for k in range(3)) if dense[row, column] != 0 else 0.0
            assert weight[row, column].item() == pytest.approx((dense[row, column] + update).item(), abs=1e-5)


def test_without_the_adapter_the_model_is_the_pruned_one() -> None:
    model = untied_llama()
    prune(model, TOKENS, method="wanda", sparsity=0.5)
    with torch.no_grad():
        expected = model(TOKENS).logits
    adapted = add_lora(model)
    train(adapted)
    with torch.no_grad(), adapted.disable_adapter():
        assert torch.equal(adapted(TOKENS).logits, expected)


def test_a_merged_model_is_saved_sparse(tmp_path: Path) -> None:
    model = untied_llama()
    report = prune(model, TOKENS, method="wanda", sparsity=0.5)
    adapted = add_lora(model, rank=2)
    train(adapted)
    merged = merge_lora(adapted)
    assert_same_state(load_pruned(save_pruned(merged, tmp_path / "tuned", report, compact=True)).model, merged)


def test_tuning_learns_and_keeps_the_mask(tiny_bert: nn.Module) -> None:
    models = [untied_llama() for _ in range(3)]
    for model in models:
        prune(model, TOKENS, method="wanda", sparsity=0.5)
    before = masks(models[0])
    state = torch.random.get_rng_state()
    (tuned, losses), (again, _), (other, _) = (
        tune_lora(model, TOKENS, rank=2, steps=30, learning_rate=0.01, batch_size=3, seed=seed)
        for model, seed in zip(models, (0, 0, 1), strict=True)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(losses) == 30 and sum(losses[-5:]) < sum(losses[:5])
    assert all(not (mask & ~before[name]).any() for name, mask in masks(tuned).items())
    assert_same_state(again, tuned)
    assert not torch.equal(other.model.layers[0].mlp.up_proj.weight, tuned.model.layers[0].mlp.up_proj.weight)
    with pytest.raises(ValueError, match="not a causal language model"):
        tune_lora(tiny_bert, TOKENS)


def test_bad_requests() -> None:
    from peft import LoraConfig, get_peft_model

    with pytest.raises(LookupError, match="gate_proj"):
        add_lora(untied_llama(), layers=["qkv"])
    with pytest.raises(ValueError, match="at least 1"):
        add_lora(untied_llama(), rank=0)
    with pytest.raises(ValueError, match="alpha=0"):
        add_lora(untied_llama(), alpha=0.0)
    with pytest.raises(ValueError, match="batch_size=0"):
        tune_lora(untied_llama(), TOKENS, batch_size=0)
    with pytest.raises(ValueError, match=r"tokens \(0\)"):
        tune_lora(untied_llama(), TOKENS[:0])
    with pytest.raises(ValueError, match="add_lora"):
        merge_lora(get_peft_model(untied_llama(), LoraConfig(target_modules=["q_proj"])))
