"""prune() end to end: budgets, invariances, reports."""

import copy

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM
from whole_models import METHODS, assert_unchanged, weights_of

from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning import prune, register_score, temporary_registrations
from labutils.pruning.patterns import unstructured_mask
from labutils.pruning.reconstruction import factor_hessian, sparsegpt

ALLOCATIONS = ["uniform", "owl", "alpha", "dlp", "arithmetic", "global", "global-raw", "optiprune"]
SPARSITIES = [0.05, 0.33, 0.5, 0.77, 0.9]
MODELS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


def block_layers(model: nn.Module) -> dict[str, nn.Module]:
    prefix, blocks = find_blocks(model)
    return {
        f"{prefix}.{index}.{name}": layer
        for index, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    }


def block_matrices(model: nn.Module) -> list[torch.Tensor]:
    return [weight_matrix(layer) for layer in block_layers(model).values()]


# Every method, every allocation and every sparsity at least once.
@pytest.mark.parametrize(
    ("method", "allocation", "sparsity"),
    [
        *[(method, "owl", 0.77) for method in METHODS[:-1]],
        *[("wanda", allocation, 0.33) for allocation in ALLOCATIONS],
        *[("optiprune", "optiprune", sparsity) for sparsity in SPARSITIES],
    ],
)
def test_budgets_are_exact(
    tiny_llama: nn.Module, tokens: torch.Tensor, method: str, allocation: str, sparsity: float
) -> None:
    report = prune(tiny_llama, tokens, method=method, sparsity=sparsity, allocation=allocation)
    matrices = block_matrices(tiny_llama)
    zeros, total = sum(int((m == 0).sum()) for m in matrices), sum(m.numel() for m in matrices)
    assert abs(zeros - sparsity * total) <= 1
    assert report.sparsity == pytest.approx(zeros / total, abs=1e-12)
    for row, matrix in zip(report.layers.itertuples(), matrices, strict=True):
        assert abs(int((matrix == 0).sum()) - row.target * matrix.numel()) <= 1


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("name", MODELS)
def test_measured_choice_keeps_the_budget(
    name: str, sparsity: float, tokens: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    prune(model, tokens, method="optiprune-auto", sparsity=sparsity)
    matrices = block_matrices(model)
    assert abs(sum(int((m == 0).sum()) for m in matrices) - sparsity * sum(m.numel() for m in matrices)) <= 1


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_only_block_matrices_change(
    name: str, method: str, tokens: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    before = weights_of(model)
    prune(model, tokens, method=method, sparsity=0.5)
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {f"{name}.weight" for name in block_layers(model)}


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_model(tiny_llama: nn.Module, tokens: torch.Tensor, method: str) -> None:
    twin = copy.deepcopy(tiny_llama)
    first, second = (prune(model, tokens, method=method, sparsity=0.6) for model in (tiny_llama, twin))
    assert_unchanged(twin, weights_of(tiny_llama))
    pd.testing.assert_frame_equal(first.layers.drop(columns="seconds"), second.layers.drop(columns="seconds"))


@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria", "sparsegpt", "ria+obs"])
@pytest.mark.parametrize("name", MODELS)
def test_batch_size_is_a_matter_of_speed(
    name: str, method: str, tokens: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    twin = copy.deepcopy(model)
    prune(model, tokens, method=method, sparsity=0.5, batch_size=1)
    prune(twin, tokens, method=method, sparsity=0.5, batch_size=8)
    for mine, other in zip(block_matrices(model), block_matrices(twin), strict=True):
        agree = (mine == 0) == (other == 0)
        assert agree.float().mean() > 0.98  # a near tie may fall the other way at the last digit
        torch.testing.assert_close(mine[agree], other[agree], rtol=1e-2, atol=2e-2)


def test_attention_implementation_and_reloading_do_not_matter(
    tiny_llama: nn.Module, tokens: torch.Tensor, tmp_path
) -> None:
    tiny_llama.save_pretrained(tmp_path)
    variants = [
        LlamaForCausalLM.from_pretrained(tmp_path, attn_implementation=kind).eval() for kind in ("sdpa", "eager")
    ]
    for model in (tiny_llama, *variants):
        prune(model, tokens, method="sparsegpt", sparsity=0.5)
    with torch.no_grad():
        logits = [model(tokens).logits for model in (tiny_llama, *variants)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(logits[0], logits[2], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("permute", [False, True])
@pytest.mark.parametrize("method", ["magnitude", "ria", "sparsegpt", "ria+obs", "optiprune", "optiprune-auto"])
def test_n_of_m_patterns(tiny_llama: nn.Module, tokens: torch.Tensor, method: str, permute: bool) -> None:
    report = prune(tiny_llama, tokens, method=method, sparsity=0.5, pattern="2:4", permute=permute)
    assert report.sparsity == pytest.approx(0.5)
    for name, matrix in zip(report.layers["name"], block_matrices(tiny_llama), strict=True):
        order = report.permutations.get(name, torch.arange(matrix.shape[1]))
        groups = (matrix[:, order] == 0).reshape(matrix.shape[0], -1, 4).sum(dim=2)
        assert (groups == 2).all()
    assert bool(report.permutations) == permute


def test_update_and_error_columns(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    twin = copy.deepcopy(tiny_llama)
    plain = prune(tiny_llama, tokens, method="ria", sparsity=0.5)
    updated = prune(twin, tokens, method="ria+obs", sparsity=0.5)
    first = [row["block"] == 0 for row in plain.layers.to_dict("records")]
    assert (updated.layers["relative_error"][first] < plain.layers["relative_error"][first]).all()
    assert plain.layers["damping"].isna().all() and (updated.layers["damping"] == 0.01).all()
    assert updated.block_sparsity.to_numpy() == pytest.approx([0.5] * 3, abs=1e-2)


def test_the_relative_error_is_the_layers_own(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    """On the first block's first layer, whose inputs no pruning has touched, against the layer's real outputs."""
    layer = tiny_llama.model.layers[0].self_attn.q_proj
    inputs: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    with torch.no_grad():
        tiny_llama(tokens)
    handle.remove()
    dense = inputs[0] @ layer.weight.detach().T
    report = prune(tiny_llama, tokens, method="sparsegpt", sparsity=0.5)
    pruned = inputs[0] @ layer.weight.detach().T
    expected = ((pruned - dense) ** 2).sum() / (dense**2).sum()
    assert report.layers["relative_error"][0] == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_without_sequence_every_block_reads_the_dense_model(
    name: str, method: str, tokens: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    """Every matrix, against its pruning by what plain hooks see in one forward pass of the dense model."""
    model = request.getfixturevalue(name)
    layers = block_layers(model)
    inputs: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda module, args: inputs.update({name: args[0].detach().double().flatten(0, -2)})

    handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    dense = {name: weight_matrix(layer).detach().double().clone() for name, layer in layers.items()}
    prune(model, tokens, method=method, sparsity=0.5, sequential=False)
    for name, layer in layers.items():
        if method == "wanda":
            mask = unstructured_mask(
                dense[name].abs() * inputs[name].norm(dim=0), dense[name].numel() // 2, group="row"
            )
            expected = dense[name] * mask
        else:
            hessian = inputs[name].T @ inputs[name] * 2 / len(tokens)
            expected, _ = sparsegpt(dense[name], factor_hessian(hessian), n_drop=dense[name].numel() // 2)
        found = weight_matrix(layer).double()
        near = (found - expected).abs() < 1e-4 * dense[name].abs().max()
        assert near.double().mean() > 0.99, name  # scores that differ in the last digit may change places


def test_the_first_block_is_pruned_alike_with_sequence_and_without(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    twin = copy.deepcopy(tiny_llama)
    prune(tiny_llama, tokens, method="sparsegpt", sparsity=0.7)
    prune(twin, tokens, method="sparsegpt", sparsity=0.7, sequential=False)
    (first, second, _), (own_first, own_second, _) = find_blocks(tiny_llama)[1], find_blocks(twin)[1]
    torch.testing.assert_close(first.mlp.up_proj.weight, own_first.mlp.up_proj.weight)
    assert not torch.allclose(second.mlp.up_proj.weight, own_second.mlp.up_proj.weight, atol=1e-4)


def test_optiprune_changes_strategy_at_its_threshold(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    low = prune(copy.deepcopy(tiny_llama), tokens, method="optiprune", sparsity=0.3)
    high = prune(copy.deepcopy(tiny_llama), tokens, method="optiprune", sparsity=0.7)
    assert set(low.strategy["method"]) == {"ria"} and set(high.strategy["method"]) == {"sparsegpt"}
    assert low.block_sparsity.std() < 1e-2 < high.block_sparsity.std()
    mixed = prune(
        tiny_llama, tokens, method="optiprune", sparsity=0.5, threshold_on="layer", allocation=[0.4, 0.5, 0.6]
    )
    assert list(mixed.strategy["method"]) == ["ria", "sparsegpt", "sparsegpt"]


def test_numbers_per_block(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    report = prune(tiny_llama, tokens, method="wanda", sparsity=0.5, allocation=(0.25, 0.5, 0.75))
    assert report.options["allocation"] == [0.25, 0.5, 0.75]
    assert report.block_sparsity.to_numpy() == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)


def test_a_registered_score_is_a_method(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with temporary_registrations():
        register_score("smallest-last", "row")(lambda weight, norms: -weight.abs())
        for method in ("smallest-last", "smallest-last+obs"):
            assert prune(copy.deepcopy(tiny_llama), tokens, method=method, sparsity=0.5).sparsity == pytest.approx(0.5)
        with pytest.raises(ValueError, match="already"):
            register_score("ria", "row")
    with pytest.raises(LookupError, match="smallest-last"):
        prune(tiny_llama, tokens, method="smallest-last", sparsity=0.5)


def test_dead_inputs_are_counted_and_dropped(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        tiny_llama.model.layers[0].post_attention_layernorm.weight[3] = 0.0
    report = prune(tiny_llama, tokens, method="sparsegpt", sparsity=0.5)
    row = report.layers.set_index("name").loc["model.layers.0.mlp.up_proj"]
    assert row["dead_columns"] == 1
    assert (tiny_llama.model.layers[0].mlp.up_proj.weight[:, 3] == 0).all()
