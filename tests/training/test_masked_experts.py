"""LoRA on mixtures of experts: every expert gets an adapter, the mask is kept, routers are left alone."""

import copy

import pytest
import torch
from architectures import ARCHITECTURES, MIXTURES
from checkpoint_models import untied_llama
from torch import nn
from transformers import PreTrainedModel

from labutils.models.experts import expert_matrices, holds_fused_experts
from labutils.pruning import prune
from labutils.training.masked_lora import add_lora, merge_lora, tune_lora
from labutils.training.steps import trainable

pytest.importorskip("peft")
TOKENS = torch.randint(3, 64, (6, 12), generator=torch.Generator().manual_seed(0))


def pruned(name: str) -> tuple[PreTrainedModel, list[str]]:
    model = ARCHITECTURES[name].build()
    return model, prune(model, TOKENS, method="wanda", sparsity=0.5).layers["name"].tolist()


def train(adapted: nn.Module, steps: int = 4) -> list[float]:
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(parameters, lr=0.02), []
    for _ in range(steps):
        loss = adapted(input_ids=TOKENS, labels=TOKENS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def matrices(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter, fused ones expert by expert, under the names of a pruning report."""
    found = {}
    for name, parameter in model.state_dict().items():
        if parameter.dim() == 3:
            found |= {f"{name}[{index}]": parameter[index] for index in range(len(parameter))}
        else:
            found[name.removesuffix(".weight")] = parameter
    return {name: value.clone() for name, value in found.items()}


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in matrices(model).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("name", MIXTURES)
def test_all_pruned_matrices_are_adapted_and_stay_sparse(name: str) -> None:
    model, reported = pruned(name)
    before, dense = matrices(model), copy.deepcopy(model)
    adapted = add_lora(model, rank=2)
    losses = train(adapted)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        trained = adapted.eval()(TOKENS).logits
        with adapted.disable_adapter():
            assert torch.equal(adapted(TOKENS).logits, dense(TOKENS).logits)
    merged = merge_lora(adapted)
    assert merged.state_dict().keys() == dense.state_dict().keys()
    assert changed(merged, before) == set(reported)  # and so no router
    after = matrices(merged)
    assert all((after[matrix][before[matrix] == 0] == 0).all() for matrix in reported)
    with torch.no_grad():
        torch.testing.assert_close(merged(TOKENS).logits, trained, rtol=1e-4, atol=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in merged.modules())


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss"])
def test_the_update_of_an_expert_against_its_definition(name: str) -> None:
    """W + M ⊙ (alpha / rank · B A), expert by expert in float64; gpt-oss keeps its matrices transposed."""
    model, _ = pruned(name)
    experts = next(module for module in model.modules() if holds_fused_experts(module))
    before = {matrix.name: matrix.weight.double().clone() for matrix in expert_matrices(experts)}
    adapted = add_lora(model, rank=3, alpha=12.0, layers=["down_proj"])
    train(adapted)
    layer = next(module for module in adapted.modules() if hasattr(module, "parameter_name"))
    down, up = (getattr(layer, part)["default"].weight.detach().double() for part in ("lora_A", "lora_B"))
    merge_lora(adapted)
    for matrix in expert_matrices(experts):
        dense = before[matrix.name]
        if matrix.parameter != "down_proj":
            assert torch.equal(matrix.weight.double(), dense)
            continue
        update = 4.0 * up[:, matrix.index :: experts.num_experts] @ down[3 * matrix.index : 3 * matrix.index + 3]
        update = update.T if experts.is_transposed else update
        torch.testing.assert_close(
            matrix.weight.double(), torch.where(dense != 0, dense + update, 0.0), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["down_proj"], ["mlp.experts.down_proj"]),
        (["experts.down_proj[3]"], ["mlp.experts.down_proj[3]"]),
        (["model.layers.1.mlp.experts.gate_up_proj[2]"], ["model.layers.1.mlp.experts.gate_up_proj[2]"]),
        (["q_proj", "gate_up_proj[0]"], ["q_proj", "gate_up_proj[0]"]),
    ],
)
def test_names_of_the_report_choose_matrices(layers: list[str], expected: list[str]) -> None:
    model, reported = pruned("qwen3-moe")
    before = matrices(model)
    tuned, _ = tune_lora(model, TOKENS, rank=2, layers=layers, steps=3, learning_rate=0.02)
    wanted = {
        name for name in reported if any(name.partition("[")[0].endswith(e) or name.endswith(e) for e in expected)
    }
    assert changed(tuned, before) == wanted


def test_every_name_of_a_report_is_taken() -> None:
    model, reported = pruned("mixtral")
    before = matrices(model)
    assert changed(tune_lora(model, TOKENS, rank=2, layers=reported, steps=2, learning_rate=0.02)[0], before) == set(
        reported
    )


@pytest.mark.parametrize("name", ["qwen3-moe", "qwen2-moe"])
def test_adaptation_by_lora_takes_the_experts_and_no_router(name: str) -> None:
    model, reported = pruned(name)
    before, keys = matrices(model), model.state_dict().keys()
    with trainable(model, "lora", rank=2, seed=0) as parameters:
        optimizer = torch.optim.AdamW(parameters, lr=0.02)
        for _ in range(3):
            optimizer.zero_grad()
            model(input_ids=TOKENS, labels=TOKENS).loss.backward()
            optimizer.step()
    assert changed(model, before) == set(reported) and model.state_dict().keys() == keys


def test_bad_names() -> None:
    for layers, unknown in (
        (["q_proj", "vproj"], r"\['vproj'\]"),
        (["down_proj[9]"], r"\['down_proj\[9\]'\]"),
        ([], r"\[\]"),
    ):
        with pytest.raises(LookupError, match=f"ends in {unknown}; there are down_proj, gate_up_proj, k_proj"):
            add_lora(pruned("mixtral")[0], layers=layers)
    with pytest.raises(ValueError, match="must be a list of names"):
        add_lora(untied_llama(), layers=[""])


def test_sequences_beyond_the_positions(tiny_gpt2: PreTrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    long = torch.zeros(2, 70, dtype=torch.int64)
    with pytest.raises(ValueError, match="tune_lora: the sequences have 70 tokens, GPT2LMHeadModel has 64 positions"):
        tune_lora(tiny_gpt2, long)
    model = untied_llama()
    limit = model.config.max_position_embeddings
    for _ in range(2):
        model, _ = tune_lora(model, torch.zeros(2, limit + 7, dtype=torch.int64), steps=1)
    told = [record.message for record in caplog.records if f"have {limit + 7} tokens" in record.message]
    assert len(told) == 1 and f"{limit} positions" in told[0]
    with pytest.raises(ValueError, match="do not fit a vocabulary"):
        tune_lora(model, TOKENS + 10**6)
