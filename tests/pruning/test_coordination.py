"""ROSE's order of columns, and the matrices of an MLP pruned in concert."""

import copy

import pytest
import torch
from architectures import ARCHITECTURES
from layers import hessian_of, random_inputs, random_weight
from torch import nn

import labutils as lab
from labutils.models.structure import prunable_layers
from labutils.pruning.block_matching import PrunedBlock
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.coordination import (
    ACTIVATIONS,
    _descend,
    _fit,
    _inner_states,
    _outer_states,
    _statistics,
    _value,
    find_mlp,
)
from labutils.pruning.matrices import SparseGPT, prune_matrix
from labutils.pruning.reconstruction import factor_hessian
from labutils.pruning.rose import Rose, column_order
from labutils.pruning.statistics import Statistics


def literal_order(weight: torch.Tensor, norms: torch.Tensor, share: float, size: int) -> list[int]:
    losses, order = {}, []
    for start in range(0, weight.shape[1], size):
        columns = range(start, min(start + size, weight.shape[1]))
        scores = {(i, j): float(weight[i, j].abs() * norms[j]) for i in range(len(weight)) for j in columns}
        dropped = sorted(scores, key=scores.get)[: round(share * len(scores))]
        for j in columns:
            losses[j] = sum(scores[place] for place in dropped if place[1] == j)
    blocks = [range(s, min(s + size, weight.shape[1])) for s in range(0, weight.shape[1], size)]
    for block in sorted(blocks, key=lambda block: -sum(losses[j] for j in block)):
        order += sorted(block, key=lambda j: -losses[j])
    return order


def test_columns_that_lose_most_come_first() -> None:
    for seed in range(4):
        weight, norms = random_weight(6, 10, seed), torch.rand(10, generator=torch.Generator().manual_seed(seed))
        norms[4:8] *= 10  # a block that loses far more than the others; the last block is a partial one
        found = column_order(weight, norms.double(), 0.5, block_size=4)
        assert found.tolist() == literal_order(weight, norms, 0.5, 4)
        assert column_order(weight, norms.double(), 0.5, block_size=10) is None  # one block differs from no other
        assert column_order(torch.zeros(6, 10), norms, 0.5, block_size=4, columnar=0.0) is None
    alike = torch.ones(4, 8)
    assert column_order(alike, torch.ones(8), 0.5, block_size=4) is None


def test_rose_is_sparsegpt_on_reordered_inputs() -> None:
    inputs, weight = random_inputs(60, 12), random_weight(8, 12)
    inputs[:, 4:8] *= 8
    own = Statistics(hessian_of(inputs), inputs.norm(dim=0), inputs[:8], 60, inputs.sum(dim=0), 4)
    factor = factor_hessian(own.hessian)
    found = prune_matrix(weight, own, Rose(), n_drop=48, factor=factor, block_size=4)
    order = column_order(weight, own.norms, 0.5, block_size=4)
    moved = own.permuted(order)
    expected = prune_matrix(
        weight[:, order], moved, SparseGPT(), n_drop=48, factor=factor_hessian(moved.hessian), block_size=4
    )
    torch.testing.assert_close(found.weight[:, order], expected.weight)
    assert int((found.weight == 0).sum()) == 48
    plain = prune_matrix(weight, own, SparseGPT(), n_drop=48, factor=factor, block_size=4)
    assert not torch.equal(plain.mask, found.mask)
    for same in (Rose(columnar=1.0), SparseGPT()):
        assert torch.equal(prune_matrix(weight, own, same, n_drop=48, factor=factor, block_size=4).weight, plain.weight)
    grouped = prune_matrix(weight, own, Rose(0.0), n_drop=0, pattern=(2, 4), factor=factor)
    assert (grouped.mask.reshape(8, -1, 4).sum(dim=2) == 2).all()


def test_rose_takes_its_option(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    report = lab.prune(tiny_llama, tokens, method="rose", sparsity=0.5, columnar=0.0, block_size=8)
    assert report.options["columnar"] == 0.0 and report.sparsity == pytest.approx(0.5, abs=2e-3)
    with pytest.raises(ValueError, match="columnar"):
        lab.prune(tiny_llama, tokens, method="rose", sparsity=0.5, columnar=2.0)


@pytest.mark.parametrize(
    ("name", "first", "activation"),
    [
        ("tiny_llama", ("mlp.gate_proj", "mlp.up_proj"), "silu"),
        ("tiny_gpt2", ("mlp.c_fc",), "gelu_tanh"),
        ("tiny_opt", ("fc1",), "relu"),
    ],
)
def test_mlps_are_found_by_what_they_compute(
    name: str, first: tuple[str, ...], activation: str, tokens: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    walk = BlockWalk(request.getfixturevalue(name), tokens, batch_size=4)
    found = find_mlp(PrunedBlock(walk, 0, [], dict, lambda: None))
    assert (found.first, found.activation) == (first, activation)


def test_a_block_without_such_an_mlp_is_refused_and_stays(tokens: torch.Tensor) -> None:
    model = ARCHITECTURES["mixtral"].build()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LookupError, match="no MLP of two matrices"):
        lab.prune(model, tokens % 32, method="sparsellm", sparsity=0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_states_are_where_their_terms_are_least() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, activated, inner, near, other = (torch.randn(20, n, generator=generator) for n in (6, 9, 9, 9, 9))
    last = torch.randn(6, 9, generator=generator)
    p = _inner_states(outputs, activated, last)
    torch.testing.assert_close((p @ last.T - outputs) @ last + (p - activated), torch.zeros(20, 9), atol=1e-4, rtol=0)
    system = torch.eye(9, dtype=torch.float64) + (last.T @ last).double()  # the system of the inner width
    direct = torch.linalg.solve(system, (outputs @ last + activated).double().T).T
    torch.testing.assert_close(p.double(), direct, atol=1e-5, rtol=1e-4)
    for name, act in ACTIVATIONS.items():
        state = 5 * torch.randn(20, 9, generator=generator)  # so large that steps of a fixed length diverge
        found = _descend(state, near, inner, other, act)
        before, after = (_value(each, near, inner, other, act) for each in (state, found))
        assert (after <= before).all() and after.sum() < 0.5 * before.sum(), name
        states = _outer_states({"gate": near, "up": other}, {"gate": near, "up": inner}, p, ("gate", "up"), act)
        gate, up = act(near), states["up"]
        torch.testing.assert_close((up - inner) - gate * (p - gate * up), torch.zeros(20, 9), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_the_mlp_alone_is_pruned_in_concert(tiny_llama: nn.Module, tokens: torch.Tensor, pattern: str) -> None:
    one, other = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    lab.prune(one, tokens, method="sparsegpt", sparsity=0.5, pattern=pattern)
    report = lab.prune(other, tokens, method="sparsellm", sparsity=0.5, pattern=pattern)
    first = [prunable_layers(model.model.layers[0]) for model in (one, other)]
    for name, layer in first[0].items():
        own = first[1][name].weight
        assert torch.equal(own, layer.weight) == name.startswith("self_attn"), name
        assert int((own == 0).sum()) == own.numel() // 2
    assert report.layers["relative_error"].notna().all() and report.sparsity == pytest.approx(0.5, abs=2e-3)


def test_attention_is_not_looked_at_and_the_teacher_is_the_dense_block(
    tiny_llama: nn.Module, tokens: torch.Tensor
) -> None:
    """At a sparsity of nothing the fits give back the dense matrices, so the block stays what it was."""
    before = copy.deepcopy(tiny_llama)
    lab.prune(tiny_llama, tokens, method="sparsellm", sparsity=0.0)
    for name, layer in prunable_layers(before.model.layers[0]).items():
        own = prunable_layers(tiny_llama.model.layers[0])[name].weight
        assert (own - layer.weight).norm() < 1e-3 * layer.weight.norm(), name


def test_the_damping_asked_for_counts_and_tokens_in_parts_are_all_tokens(
    tiny_llama: nn.Module, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruned(chunk: int, damping: float) -> torch.Tensor:
        monkeypatch.setattr("labutils.pruning.coordination.CHUNK", chunk)
        model = copy.deepcopy(tiny_llama)
        lab.prune(model, tokens, method="sparsellm", sparsity=0.5, damping=damping)
        return prunable_layers(model.model.layers[0])["mlp.down_proj"].weight.detach()

    whole = pruned(4096, 0.01)
    parted, damped = pruned(50, 0.01), pruned(4096, 1.0)  # 192 tokens in four parts
    assert (parted != whole).float().mean() < 0.02 or (parted - whole).norm() < 0.02 * whole.norm()
    assert (damped - whole).norm() > 0.02 * whole.norm()


def test_the_fit_is_the_ridge_regression_towards_the_dense_matrix() -> None:
    inputs, dense, targets = random_inputs(40, 6).float(), random_weight(5, 6).float(), torch.randn(40, 5)
    for damping in (0.01, 0.5):
        found = _fit(_statistics(inputs, 4), inputs, targets, dense, damping).double()
        ridge = damping * (inputs.T @ inputs).double().diagonal().mean()
        slope = (inputs.double() @ found.T - targets.double()).T @ inputs.double() + ridge * (found - dense.double())
        assert slope.abs().max() < 1e-3


def test_a_forecast_counts_the_states_of_all_tokens(tiny_llama: nn.Module) -> None:
    """X and Y, and of the inner width p, two states and what is fitted to; four times the tokens, four times that."""
    few, many = (torch.zeros(n, 24, dtype=torch.long) for n in (8, 32))
    memory = [
        [lab.forecast(tiny_llama, tokens, method=name, sparsity=0.5).memory
         for tokens in (few, many)] for name in ("sparsegpt", "sparsellm")
    ]  # fmt: skip
    states = 4 * 24 * 24 * (2 * 16 + 4 * 24)
    assert (memory[1][1] - memory[1][0]) - (memory[0][1] - memory[0][0]) >= states
