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
