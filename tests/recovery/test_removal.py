"""Silenced neurons and blocks: as if they were not there, chosen as one would by trying."""

import copy

import pytest
import torch
from torch import nn

from labutils.evaluation import sequence_losses
from labutils.models import find_blocks
from labutils.recovery import choose_blocks, choose_neurons, silence_blocks, silence_neurons
from labutils.recovery.removal import find_feed_forward

TOKENS = torch.randint(3, 64, (12, 16), generator=torch.Generator().manual_seed(1))
NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_silenced_block_passes_on_what_it_reads(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    cut = copy.deepcopy(model)
    silence_blocks(model, [1])
    del find_blocks(cut)[1][1]
    with torch.no_grad():
        shorter = cut(TOKENS, use_cache=False).logits
        torch.testing.assert_close(model(TOKENS, use_cache=False).logits, shorter, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_silenced_neuron_adds_nothing(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    silent = copy.deepcopy(model)
    silence_neurons(silent, {0: [2, 3]})
    down = find_feed_forward(find_blocks(model)[1][0]).down
    mask = torch.ones(find_feed_forward(find_blocks(model)[1][0]).width)
    mask[[2, 3]] = 0.0
    down.register_forward_pre_hook(lambda _, args: (args[0] * mask,))
    with torch.no_grad():
        torch.testing.assert_close(silent(TOKENS).logits, model(TOKENS).logits, rtol=1e-4, atol=1e-5)


def test_the_quietest_neurons_are_chosen(tiny_opt: nn.Module) -> None:
    block = find_blocks(tiny_opt)[1][1]
    layers = find_feed_forward(block)
    with torch.no_grad():
        layers.down.weight[:, [5, 9]] = 1e-4
    assert set(choose_neurons(tiny_opt, TOKENS, 2 / 32)[1]) == {5, 9}
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_neurons(tiny_opt, TOKENS, 1.0)


def test_blocks_are_chosen_by_trying_all(tiny_llama: nn.Module) -> None:
    before = copy.deepcopy(tiny_llama.state_dict())

    def loss(gone: list[int]) -> float:
        model = copy.deepcopy(tiny_llama)
        silence_blocks(model, gone)
        return sequence_losses(model, TOKENS).mean().item()

    first = min(range(3), key=lambda i: loss([i]))
    second = min(set(range(3)) - {first}, key=lambda i: loss([first, i]))
    assert choose_blocks(tiny_llama, TOKENS, 2) == [first, second]
    assert all(torch.equal(one, before[name]) for name, one in tiny_llama.state_dict().items())
    with pytest.raises(ValueError, match="from 1 to 2 of 3"):
        choose_blocks(tiny_llama, TOKENS, 3)


def test_blocks_without_one_feed_forward_part_are_refused(tiny_llama: nn.Module) -> None:
    with pytest.raises(LookupError, match="widest"):
        find_feed_forward(tiny_llama.model.layers[0].self_attn)
