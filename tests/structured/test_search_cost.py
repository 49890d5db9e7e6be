"""How much less than a naive search a greedy one runs, and that it chooses the same."""

import copy

import pytest
import torch
from architectures import ARCHITECTURES, Architecture
from torch import Tensor
from transformers import PreTrainedModel

import labutils as lab
from labutils.pruning.calibration import BlockWalk
from labutils.structured import Removal, masked
from labutils.structured.anatomy import read_anatomies
from labutils.structured.paths import Paths
from labutils.structured.remembered import losses_remembered
from labutils.structured.search import Search, greedy_search

BLOCKS, GONE = 12, 2


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """Twelve random blocks of which each does the less the deeper it stands: losses that can be told apart."""
    base = ARCHITECTURES["llama"]
    built = Architecture(base.model, base.config, {**base.options, "num_hidden_layers": BLOCKS}).build()
    with torch.no_grad():
        for number, block in enumerate(built.model.layers):
            for layer in (block.self_attn.o_proj, block.mlp.down_proj):
                layer.weight.mul_(1.3 - 0.1 * number)
    return built


@pytest.fixture(scope="module")
def tokens(model) -> Tensor:
    """Sixty-four sequences that the dense model itself expects."""
    first = torch.randint(3, 60, (64, 1), generator=torch.Generator().manual_seed(2))
    written = model.generate(first, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
    return written[:, :9]


def search(model: PreTrainedModel, tokens: Tensor, race: float) -> Search:
    paths = Paths(BlockWalk(model, tokens, batch_size=16), read_anatomies(model))
    units = [(block, "block") for block in range(BLOCKS)]
    return greedy_search(paths, units, lambda removed, unit: len(removed) < GONE, spare_ends=True, race=race)


def naive(model: PreTrainedModel, tokens: Tensor) -> list[int]:
    """SLEB as it is written: the whole model for every candidate."""
    gone: list[int] = []
    for _ in range(GONE):
        alive = [block for block in range(BLOCKS) if block not in gone]
        losses = {}
        for block in alive[1:-1]:
            with masked(model, Removal(blocks=(*gone, block))):
                losses[block] = lab.sequence_losses(model, tokens).double().mean().item()
        gone.append(min(losses, key=losses.__getitem__))
    return gone


def test_a_greedy_search_runs_less_than_half_of_a_naive_one_and_chooses_the_same(model, tokens) -> None:
    expected = naive(model, tokens)
    whole, raced = search(model, tokens, 0.0), search(model, tokens, 5.0)
    assert [block for block, _ in whole.removed] == expected == [block for block, _ in raced.removed]
    # candidate j of the L that are left runs the blocks behind it, the prefix goes on to the last candidate
    steps = range(BLOCKS, BLOCKS - GONE, -1)
    assert whole.naive_block_runs == sum((left - 2) * (left - 1) for left in steps)
    assert whole.head_runs == whole.naive_head_runs == sum(left - 2 for left in steps)
    assert whole.block_runs / whole.naive_block_runs < 0.6
    assert raced.block_runs / raced.naive_block_runs < 0.45
    assert raced.head_runs < 0.8 * raced.naive_head_runs
    sequences = raced.history.groupby("step")["sequences"]
    assert sequences.min().eq(16).all() and sequences.max().le(64).all()


def test_the_last_candidate_that_is_left_is_not_read_to_the_end(model, tokens) -> None:
    built = copy.deepcopy(model)
    with torch.no_grad():
        for layer in (built.model.layers[7].self_attn.o_proj, built.model.layers[7].mlp.down_proj):
            layer.weight.mul_(1e-3)
    paths = Paths(BlockWalk(built, tokens, batch_size=8), read_anatomies(built))
    units = [(block, "block") for block in (1, 7)]
    found = greedy_search(paths, units, lambda removed, unit: len(removed) < 1, race=2.0)
    assert found.removed == ((7, "block"),) and found.history["sequences"].nunique() == 1
    assert 16 <= found.history["sequences"].max() < 64


@pytest.fixture(scope="module")
def few(tokens) -> Tensor:
    return tokens[:16]


def test_a_search_that_follows_another_runs_what_is_new_and_finds_the_same(model, few) -> None:
    asked = [{"n_blocks": 1}, {"n_blocks": 3}, {"n_blocks": 3, "spare_ends": False}]
    alone = [lab.drop_blocks(model, few, method="greedy", **each).report for each in asked]
    with losses_remembered(model, few):
        together = [lab.drop_blocks(model, few, method="greedy", **each).report for each in asked]
        again = lab.drop_blocks(model, few, method="greedy", n_blocks=2).report.search
    for own, other in zip(alone, together, strict=True):
        assert own.table.equals(other.table) and own.removal == other.removal
    first, *later = [report.search for report in together]
    assert first.block_runs == alone[0].search.block_runs
    assert all(each.head_runs < own.search.head_runs for each, own in zip(later, alone[1:], strict=True))
    assert again.block_runs == again.head_runs == 0
    assert lab.drop_blocks(model, few, method="greedy", n_blocks=1).report.search.head_runs == first.head_runs


@pytest.mark.parametrize("other", ["model", "tokens", "batch size"])
def test_what_is_remembered_is_of_one_model_one_calibration_and_one_size_of_batches(model, few, other) -> None:
    with losses_remembered(model, few):
        first = lab.drop_blocks(model, few, method="greedy", n_blocks=1).report.search
        asked = copy.deepcopy(model) if other == "model" else model, few.flip(0) if other == "tokens" else few
        size = 4 if other == "batch size" else 8
        found = lab.drop_blocks(*asked, method="greedy", n_blocks=1, batch_size=size).report.search
    assert found.removed == first.removed and found.head_runs > 0
