"""Blocks that are applied several times, that return lists, and layers that are called twice in a block."""

import pytest
import torch
import transformers
from torch import Tensor, nn

import labutils as lab
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk

SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2,
    "max_position_embeddings": 32, "initializer_range": 0.3,
}  # fmt: skip
ALBERT = {**SIZES, "embedding_size": 8}
MODELS = {
    "albert": ("AlbertModel", "AlbertConfig", ALBERT),
    "albert, masked words": ("AlbertForMaskedLM", "AlbertConfig", ALBERT),
    "albert, two groups of two": (
        "AlbertModel", "AlbertConfig", {**ALBERT, "num_hidden_groups": 2, "inner_group_num": 2}
    ),
    "openai-gpt": ("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", {
        "vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32, "initializer_range": 0.3,
    }),
    "deberta, keys of distances too": ("DebertaV2Model", "DebertaV2Config", {
        **SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
        "position_biased_input": False,
    }),
}  # fmt: skip
IDS = torch.randint(3, 64, (5, 8), generator=torch.Generator().manual_seed(1))


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model, config, options = MODELS[name]
    return getattr(transformers, model)(getattr(transformers, config)(**options)).eval()


def hooked_products(model: nn.Module, ids: Tensor) -> dict[tuple[int, str], Tensor]:
    """XᵀX of everything that the layers of all blocks read in the model's own forward pass, in float64."""
    sums: dict[tuple[int, str], Tensor] = {}

    def add(key: tuple[int, str], inputs: Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).double()
        sums[key] = sums.get(key, 0) + rows.T @ rows

    hooks = [
        layer.register_forward_pre_hook(lambda layer, args, key=(index, name): add(key, args[0]))
        for index, block in enumerate(find_blocks(model)[1])
        for name, layer in prunable_layers(block).items()
    ]
    with torch.no_grad():
        for row in ids:
            model(input_ids=row[None])
    for hook in hooks:
        hook.remove()
    return sums


@pytest.mark.parametrize("name", MODELS)
def test_statistics_are_over_all_that_a_layer_reads(name: str) -> None:
    model = build(name)
    ids = IDS[:1] if name.startswith("deberta") else IDS  # distances are read once a batch, whatever its size
    expected = hooked_products(model, ids)
    walk = BlockWalk(model, ids, batch_size=2)
    seen = {}
    for index in range(len(walk.blocks)):
        found = walk.collect(index, hessian=True)
        norms = walk.collect(index, hessian=False)
        for layer, own in found.items():
            seen[index, layer] = own
            product = expected[index, layer]
            torch.testing.assert_close(own.hessian.double(), product * 2 / len(ids), rtol=2e-4, atol=1e-3)
            torch.testing.assert_close(norms[layer].norms.double(), product.diagonal().sqrt(), rtol=2e-4, atol=1e-3)
        walk.advance(index)
    assert seen.keys() == expected.keys()


@pytest.mark.parametrize("name", ["albert, masked words", "albert, two groups of two", "openai-gpt"])
@pytest.mark.parametrize("method", ["wanda", "optiprune-auto"])
def test_pruned_to_the_budget_with_outputs_of_its_own(name: str, method: str) -> None:
    model = build(name)
    report = lab.prune(model, IDS, method=method, sparsity=0.5)
    weights = [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert report.sparsity == pytest.approx(zeros / sum(map(torch.numel, weights))) == pytest.approx(0.5, abs=0.02)
    assert len(report.layers) == len(weights)


def test_after_a_repeated_block_comes_what_the_pruned_model_makes() -> None:
    """Two groups, each applied twice: the second's inputs are behind both applications of the pruned first."""
    model = build("albert, two groups of two")
    walk = BlockWalk(model, IDS, batch_size=3)
    assert [len(calls) for calls in walk.calls[0]] == [2, 2]
    walk.collect(0, hessian=False)
    for layer in prunable_layers(walk.block(0)).values():
        weight_matrix(layer)[::2] = 0
    walk.advance(0)
    seen: list[Tensor] = []
    second = find_blocks(model)[1][1]
    with second.register_forward_pre_hook(lambda block, args: seen.append(args[0])), torch.no_grad():
        model(input_ids=IDS[:3])
    torch.testing.assert_close(walk.hidden[0], seen[0])


@pytest.mark.parametrize("method", ["sparsegpt", "wanda"])
def test_a_grid_of_a_repeated_block_equals_single_prunings(method: str) -> None:
    model, rows = build("albert"), []
    for sparsity in (0.3, 0.6):
        alone = build("albert")
        lab.prune(alone, IDS, method=method, sparsity=sparsity, allocation="owl")
        rows.append(alone(input_ids=IDS).last_hidden_state)
    grid = lab.prune_grid(
        model, IDS, methods=[method], sparsities=[0.3, 0.6], allocations=["owl"],
        evaluate=lambda pruned: {"output": pruned(input_ids=IDS).last_hidden_state},
    )  # fmt: skip
    for row, expected in zip(grid, rows, strict=True):
        assert torch.equal(row["output"], expected)
