"""The block walk: its statistics equal plain hooks on a plain forward pass, for any architecture and batch size."""

import pytest
import torch
from torch import nn

from labutils.models.structure import find_blocks, prunable_layers
from labutils.pruning.calibration import BlockWalk

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


def padded(n: int = 5, length: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 64, (n, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[3, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def reference_statistics(model: nn.Module, inputs: dict) -> dict[str, torch.Tensor]:
    """XᵀX of every block linear layer in float64, from hooks on a whole forward pass in float64, padding left out."""
    model = model.double()
    prefix, blocks = find_blocks(model)
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(name):
        def hook(layer, args):
            tokens = args[0].reshape(-1, args[0].shape[-1])
            seen.setdefault(name, []).append(tokens[inputs["attention_mask"].bool().reshape(-1)])

        return hook

    handles = [
        layer.register_forward_pre_hook(keep(f"{index}.{name}"))
        for index, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    ]
    with torch.no_grad():
        model(**inputs)
    for handle in handles:
        handle.remove()
    model.float()
    return {name: sum(x.T @ x for x in tensors) for name, tensors in seen.items()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_statistics_equal_plain_hooks(name: str, batch_size: int, request: pytest.FixtureRequest) -> None:
    model, inputs = request.getfixturevalue(name), padded()
    expected = reference_statistics(model, inputs)
    walk = BlockWalk(model, inputs, batch_size=batch_size)
    found = {}
    for index in range(len(walk.blocks)):
        for layer, own in walk.collect(index, hessian=True).items():
            found[f"{index}.{layer}"] = own
            assert own.n_tokens == int(inputs["attention_mask"].sum())
            assert torch.equal(own.norms, walk.collect(index, hessian=True)[layer].norms)
        walk.advance(index)
    assert found.keys() == expected.keys() and len(found) == len(expected)
    for layer, product in expected.items():
        torch.testing.assert_close(found[layer].hessian.double(), product * 2 / 5, rtol=2e-4, atol=1e-4)
        torch.testing.assert_close(found[layer].norms.double(), product.diagonal().sqrt(), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_norms_alone_equal_the_hessians_diagonal(name: str, request: pytest.FixtureRequest) -> None:
    walk = BlockWalk(request.getfixturevalue(name), padded(), batch_size=2)
    with_hessian, without = walk.collect(1, hessian=True), walk.collect(1, hessian=False)
    for layer, own in without.items():
        assert own.hessian is None
        torch.testing.assert_close(own.norms, with_hessian[layer].norms)


def test_layers_that_read_the_same_tensor_share_one_object(tiny_llama: nn.Module) -> None:
    found = BlockWalk(tiny_llama, padded()["input_ids"]).collect(0, hessian=True)
    assert found["self_attn.q_proj"] is found["self_attn.k_proj"] is found["self_attn.v_proj"]
    assert found["mlp.gate_proj"] is found["mlp.up_proj"]
    assert len({id(own) for own in found.values()}) == 4


@pytest.mark.parametrize("name", MODELS)
def test_walking_to_the_end_equals_a_forward_pass(name: str, request: pytest.FixtureRequest) -> None:
    model, inputs = request.getfixturevalue(name), padded()
    outputs = []
    _, blocks = find_blocks(model)
    handle = blocks[-1].register_forward_hook(
        lambda m, a, out: outputs.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    walk = BlockWalk(model, inputs, batch_size=2)
    for index in range(len(walk.blocks)):
        walk.collect_and_advance(index, hessian=False)
    mask = inputs["attention_mask"].bool()
    torch.testing.assert_close(torch.cat(walk.hidden)[mask], outputs[0][mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_walk_leaves_no_trace(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name).train()
    walk = BlockWalk(model, padded())
    walk.collect(0, hessian=False)
    walk.advance(0)
    assert model.training
    for module in model.modules():
        assert not module._forward_pre_hooks and "forward" not in module.__dict__


def test_rewind_returns_to_the_first_block(tiny_llama: nn.Module) -> None:
    walk = BlockWalk(tiny_llama, padded()["input_ids"], batch_size=2)
    before = walk.collect(0, hessian=False)["mlp.up_proj"].norms
    walk.advance(0)
    walk.rewind()
    assert torch.equal(walk.collect(0, hessian=False)["mlp.up_proj"].norms, before)


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        (torch.zeros((0, 8), dtype=torch.int64), "empty"),
        (torch.zeros((2, 0), dtype=torch.int64), "empty"),
        (torch.full((2, 8), 64), "vocabulary"),
        (torch.full((2, 8), -1), "vocabulary"),
        (torch.zeros((2, 8)), "int64"),
        (torch.zeros(8, dtype=torch.int64), "int64"),
        ({"attention_mask": torch.ones((2, 8))}, "int64"),
    ],
)
def test_bad_calibration_is_refused(tiny_llama: nn.Module, calibration: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BlockWalk(tiny_llama, calibration)


def test_activations_that_are_not_finite_name_the_layer(tiny_llama: nn.Module) -> None:
    with torch.no_grad():
        tiny_llama.model.layers[1].mlp.up_proj.weight[0, 0] = float("inf")
    walk = BlockWalk(tiny_llama, padded()["input_ids"])
    walk.advance(0)
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.down_proj"):
        walk.collect(1, hessian=True)


def test_a_block_that_returns_its_own_input_leaves_the_way_back(tiny_llama: nn.Module) -> None:
    """Outputs take the place of inputs; those of the first block must not be among them."""
    for block in tiny_llama.model.layers[:2]:
        block.forward = lambda hidden_states, *given, **named: hidden_states
    walk = BlockWalk(tiny_llama, padded(), prove=False)
    first = [hidden.clone() for hidden in walk.hidden]
    for index in range(3):
        walk.advance(index)
    assert not torch.equal(walk.hidden[0], first[0])
    walk.rewind()
    assert all(torch.equal(hidden, own) for hidden, own in zip(walk.hidden, first, strict=True))


def test_a_block_that_calls_its_matrices_once_for_each_row_loses_none(tiny_llama: nn.Module) -> None:
    """One sequence alone calls each of them once: what it shows says nothing of batches."""
    for block in tiny_llama.model.layers:
        forward = block.mlp.forward
        block.mlp.forward = lambda states, forward=forward: torch.cat([forward(row) for row in states.split(1)])
    tokens = torch.arange(48).reshape(6, 8)
    by_rows, alone = (BlockWalk(tiny_llama, tokens, batch_size=size).collect(0, hessian=True) for size in (3, 1))
    for name, own in by_rows.items():
        assert own.n_tokens == tokens.numel()
        torch.testing.assert_close(own.hessian, alone[name].hessian)
