"""The spread by measurement: its measure and its probes against slow loops, and what `optiprune-auto` makes of it."""

import copy

import pytest
import torch
from slow_divergences import slow_divergence, slow_outputs
from torch import nn

from labutils.models.structure import find_blocks, prunable_layers
from labutils.pruning import prune, prune_grid, spread_sparsity
from labutils.pruning.allocation_rules import equal_marginal_damage
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.output_divergence import DenseOutput

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids, mask = torch.randint(3, 64, (7, 20), generator=generator), torch.ones(7, 20, dtype=torch.int64)
    mask[2, 11:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_from_any_block_are_the_models_own(name: str, inputs: dict, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    slow = slow_outputs(model, inputs)
    walk = BlockWalk(model, inputs, batch_size=3)
    for index in range(len(find_blocks(model)[1])):
        for batch in range(3):
            for row, expected in zip(walk.outputs_from(index, batch), slow[3 * batch :], strict=False):
                torch.testing.assert_close(row[: len(expected)], expected.float(), rtol=1e-4, atol=1e-4)
        walk.advance(index)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_divergence_equals_a_slow_loop(name: str, inputs: dict, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    before, output = slow_outputs(model, inputs), BlockWalk(model, inputs).outputs_from(0, 0)
    dense = DenseOutput(output, inputs)
    assert dense.divergence(output) == pytest.approx(0, abs=1e-6)
    prune(model, inputs, method="magnitude", sparsity=0.5)
    pruned = BlockWalk(model, inputs).outputs_from(0, 0)
    assert dense.divergence(pruned) == pytest.approx(slow_divergence(before, slow_outputs(model, inputs)), rel=1e-3)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_probes_equal_a_slow_loop(name: str, sparsity: float, inputs: dict, request: pytest.FixtureRequest) -> None:
    """One block at a time by relative importance of the dense model, 0.1 below the target and above, one sequence."""
    model = request.getfixturevalue(name)
    report = prune(copy.deepcopy(model), inputs, method="wanda", allocation="measured", sparsity=sparsity)
    probe = torch.randperm(7, generator=torch.Generator().manual_seed(0))[:1]
    chosen = {key: value[probe] for key, value in inputs.items()}
    before, norms = slow_outputs(model, chosen), DenseStatistics(BlockWalk(model, inputs)).norms
    found = report.candidates.set_index(["block", "sparsity"])["damage"]
    assert len(found) == 2 * len(norms)
    for block, own in enumerate(norms):
        for level in (sparsity - 0.1, sparsity + 0.1):
            probed = copy.deepcopy(model)
            for layer_name, layer in prunable_layers(find_blocks(probed)[1][block]).items():
                weight = layer.weight.data
                score = weight.abs() * (1 / weight.abs().sum(1, keepdim=True) + 1 / weight.abs().sum(0, keepdim=True))
                score = (score * own[layer_name].sqrt()).flatten()
                weight.view(-1)[score.argsort()[: round(level * weight.numel())]] = 0
            assert found[block, level] == pytest.approx(slow_divergence(before, slow_outputs(probed, chosen)), rel=2e-3)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_the_spread_is_half_way_to_equal_damage(name: str, inputs: dict, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    report = prune(copy.deepcopy(model), inputs, method="magnitude", allocation="measured", sparsity=0.5)
    damages = report.candidates.pivot(index="sparsity", columns="block", values="damage")
    sizes = DenseStatistics(BlockWalk(model, inputs)).sizes
    equal = equal_marginal_damage((0.4, 0.6), torch.tensor(damages.to_numpy()), 0.5, sizes)
    assert report.block_sparsity.tolist() == pytest.approx(((equal + 0.5) / 2).tolist(), abs=2e-3)
    assert report.block_sparsity.nunique() > 1
    spread = spread_sparsity(model, inputs, allocations=["measured"], sparsity=0.5)["measured"]
    assert spread.tolist() == pytest.approx(report.block_sparsity.tolist(), abs=1e-9)
    nothing = prune(copy.deepcopy(model), inputs, method="optiprune-auto", sparsity=0.0)
    assert nothing.sparsity == 0 and nothing.candidates is None


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_auto_is_admm_spread_by_measurement(name: str, inputs: dict, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    by_hand = copy.deepcopy(model)
    report = prune(model, inputs, method="optiprune-auto", sparsity=0.6)
    assert set(report.strategy["method"]) == {"admm"}
    damping = report.layers["damping"].iloc[0]
    prune(by_hand, inputs, method="admm", allocation="measured", sparsity=0.6, damping=damping)
    assert all(tensor.equal(by_hand.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_a_given_allocation_is_kept(tiny_llama: nn.Module, inputs: dict) -> None:
    report = prune(tiny_llama, inputs, method="optiprune-auto", sparsity=0.5, allocation=[0.4, 0.5, 0.6])
    assert report.block_sparsity.tolist() == pytest.approx([0.4, 0.5, 0.6], abs=2e-3)
    assert report.candidates is None


def test_the_seed_says_which_sequences_probe(tiny_llama: nn.Module, inputs: dict) -> None:
    damages = [
        prune(copy.deepcopy(tiny_llama), inputs, method="magnitude", allocation="measured", sparsity=0.5, seed=seed)
        .candidates["damage"]
        .tolist()
        for seed in (0, 0, 1)
    ]
    assert damages[0] == damages[1] != damages[2]


def test_in_a_grid_auto_is_not_admm_with_less_damping(tiny_llama: nn.Module, inputs: dict) -> None:
    """Both ask for the same matrices and budgets there, and differ by what few tokens do to the damping."""
    found = {}

    def keep(pruned: nn.Module) -> dict:
        found[len(found)] = copy.deepcopy(pruned.state_dict())
        return {}

    asked = {"sparsities": [0.5], "allocations": ["uniform"]}
    list(prune_grid(tiny_llama, inputs, methods=["admm", "optiprune-auto"], evaluate=keep, **asked))
    assert len(found) == 2 and any(not tensor.equal(found[1][key]) for key, tensor in found[0].items())
    alone = copy.deepcopy(tiny_llama)
    prune(alone, inputs, method="optiprune-auto", allocation="uniform", sparsity=0.5)
    assert all(torch.allclose(tensor, found[1][key], atol=1e-5) for key, tensor in alone.state_dict().items())


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_damping_grows_as_tokens_get_scarce(name: str, inputs: dict, request: pytest.FixtureRequest) -> None:
    """A tenth of the widest input per token that is not padding; never below what was asked for."""
    model = request.getfixturevalue(name)
    widest = max(max(layer.weight.shape) for layer in find_blocks(model)[1].modules() if isinstance(layer, nn.Linear))
    few = prune(copy.deepcopy(model), inputs, method="optiprune-auto", sparsity=0.5)
    assert few.layers["damping"].tolist() == pytest.approx(
        [0.1 * widest / inputs["attention_mask"].sum().item()] * len(few.layers)
    )
    asked = prune(model, inputs, method="optiprune-auto", sparsity=0.5, damping=0.5)
    assert set(asked.layers["damping"]) == {0.5}
