"""The choice by measurement: its measure against slow loops, and that the least damaged candidate is what is left."""

import copy

import pytest
import torch
from slow_divergences import slow_divergence, slow_outputs
from torch import nn

from labutils.models.structure import find_blocks
from labutils.pruning import prune
from labutils.pruning.calibration import BlockWalk
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
def test_the_least_damaged_candidate_stays(
    name: str, sparsity: float, inputs: dict, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    before, by_owl = slow_outputs(model, inputs), copy.deepcopy(model)
    report = prune(model, inputs, method="optiprune-auto", sparsity=sparsity)
    table = report.candidates
    assert table[["method", "allocation"]].values.tolist() == [["sparsegpt", "measured"], ["sparsegpt", "owl"]]
    winner = table[table["chosen"]].squeeze()
    assert table["chosen"].sum() == 1 and winner["damage"] == table["damage"].min()
    assert set(report.strategy["method"]) == {winner["method"]}
    left = slow_divergence(before, slow_outputs(model, inputs))
    assert winner["damage"] == pytest.approx(left, rel=1e-3)
    damping = report.layers["damping"].iloc[0]
    prune(by_owl, inputs, method="sparsegpt", allocation="owl", sparsity=sparsity, damping=damping)
    second = table[table["allocation"] == "owl"]["damage"].item()
    assert second == pytest.approx(slow_divergence(before, slow_outputs(by_owl, inputs)), rel=1e-3)


def test_a_given_allocation_is_kept(tiny_llama: nn.Module, inputs: dict) -> None:
    report = prune(tiny_llama, inputs, method="optiprune-auto", sparsity=0.5, allocation=[0.4, 0.5, 0.6])
    assert report.block_sparsity.tolist() == pytest.approx([0.4, 0.5, 0.6], abs=2e-3)
    assert report.candidates["allocation"].tolist() == ["given"] and report.candidates["chosen"].all()
    with pytest.raises(ValueError, match="global"):
        prune(tiny_llama, inputs, method="optiprune-auto", sparsity=0.5, allocation="global")


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
