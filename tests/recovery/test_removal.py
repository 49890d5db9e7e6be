"""Silenced neurons and blocks: as if they were not there, chosen as one would by trying."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from labutils.evaluation import sequence_losses
from labutils.models import find_blocks
from labutils.recovery import choose_blocks, choose_neurons, silence_neurons
from labutils.recovery.removal import count_blocks, find_feed_forward
from labutils.structured import silence_blocks
from labutils.structured.paths import Paths

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


def deep_llama(n_blocks: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=n_blocks, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )).eval()  # fmt: skip


def test_blocks_are_chosen_by_trying_all_but_the_ends() -> None:
    model = deep_llama()
    before = copy.deepcopy(model.state_dict())

    def loss(gone: list[int]) -> float:
        cut = copy.deepcopy(model)
        silence_blocks(cut, gone)
        return sequence_losses(cut, TOKENS).mean().item()

    first = min(range(1, 5), key=lambda i: loss([i]))
    second = min(set(range(1, 5)) - {first}, key=lambda i: loss([first, i]))
    assert choose_blocks(model, TOKENS, 2) == sorted([first, second])
    assert choose_blocks(model, TOKENS, 4) == [1, 2, 3, 4]
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert count_blocks(model, 0.33) == 2
    for count in (0, 5):
        with pytest.raises(ValueError, match="from 1 to 4 of 6"):
            choose_blocks(model, TOKENS, count)


def test_a_block_without_which_the_loss_is_no_number_is_the_worst(monkeypatch) -> None:
    model = deep_llama()
    best = choose_blocks(model, TOKENS, 1)[0]
    plain = Paths.losses

    def spoilt(self, start, batch, hidden, off):
        found = plain(self, start, batch, hidden, off)
        return found * float("nan") if (best, "block") in off else found

    monkeypatch.setattr(Paths, "losses", spoilt)
    assert best not in choose_blocks(model, TOKENS, 3)


def test_fused_experts_are_silenced_too() -> None:
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, moe_intermediate_size=24, num_experts=4, head_dim=8,
        num_experts_per_tok=2, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, initializer_range=0.3,
    )).eval()  # fmt: skip
    cut = copy.deepcopy(model)
    silence_blocks(model, [1])
    del find_blocks(cut)[1][1]
    with torch.no_grad():
        shorter = cut(TOKENS, use_cache=False).logits
        torch.testing.assert_close(model(TOKENS, use_cache=False).logits, shorter, rtol=1e-4, atol=1e-5)


def test_a_block_that_changes_the_stream_without_weights_is_refused(tiny_llama: nn.Module) -> None:
    before = copy.deepcopy(tiny_llama.state_dict())
    find_blocks(tiny_llama)[1][1].register_forward_hook(lambda _, __, output: output + 1)
    with pytest.raises(ValueError, match="even without weights"):
        silence_blocks(tiny_llama, [1])
    with pytest.raises(ValueError, match="no block 7"):
        silence_blocks(tiny_llama, [7])
    assert all(torch.equal(one, before[name]) for name, one in tiny_llama.state_dict().items())


def test_of_equal_neurons_the_first_go(tiny_llama: nn.Module) -> None:
    with torch.no_grad():
        find_feed_forward(find_blocks(tiny_llama)[1][0]).down.weight.zero_()
    assert choose_neurons(tiny_llama, TOKENS, 0.25)[0] == [0, 1, 2, 3, 4, 5]


def test_blocks_without_one_feed_forward_part_are_refused(tiny_llama: nn.Module) -> None:
    with pytest.raises(LookupError, match="widest"):
        find_feed_forward(tiny_llama.model.layers[0].self_attn)
