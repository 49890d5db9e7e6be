"""Biases and norms come back without gradients where nothing else was changed."""

import copy

import pytest
import torch
from torch import nn

from labutils.pruning import prune
from labutils.recovery import reestimate
from labutils.recovery.places import is_norm
from labutils.recovery.recovering import logit_divergence
from labutils.recovery.reestimating import Sums

TOKENS = torch.randint(3, 64, (12, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_spoilt_norms_and_biases_come_back(name: str, request: pytest.FixtureRequest) -> None:
    """A norm's gain and a bias that alone were changed are found again exactly, whatever was changed before them."""
    dense = request.getfixturevalue(name)
    spoilt = copy.deepcopy(dense)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in spoilt.modules():
            if is_norm(module):
                module.weight *= 0.5 + torch.rand(module.weight.shape, generator=generator)
            elif isinstance(getattr(module, "bias", None), torch.Tensor):
                module.bias += torch.randn(module.bias.shape, generator=generator)
    done = reestimate(spoilt, dense, TOKENS)
    for (label, one), other in zip(spoilt.named_parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3, msg=label)
    assert done.losses == [] and done.tokens == TOKENS.numel() and done.trained_parameters > 0


def test_a_gain_that_is_added_to_one_comes_back() -> None:
    from transformers import GemmaConfig, GemmaForCausalLM

    torch.manual_seed(0)
    dense = GemmaForCausalLM(GemmaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64, initializer_range=0.3,
    )).eval()  # fmt: skip
    spoilt = copy.deepcopy(dense)
    with torch.no_grad():
        for module in spoilt.modules():
            if is_norm(module):
                module.weight += 0.3
    reestimate(spoilt, dense, TOKENS)
    assert all(module.weight.abs().max() < 1e-3 for module in spoilt.modules() if is_norm(module))


def test_a_pruned_model_comes_nearer(tiny_gpt2: nn.Module) -> None:
    pruned = copy.deepcopy(tiny_gpt2)
    prune(pruned, TOKENS, method="magnitude", sparsity=0.5)
    healed = copy.deepcopy(pruned)
    reestimate(healed, tiny_gpt2, TOKENS)
    with torch.no_grad():
        wanted, before, after = (model(TOKENS).logits for model in (tiny_gpt2, pruned, healed))
    assert logit_divergence(wanted, after) < logit_divergence(wanted, before)


def sums_of(x: torch.Tensor, y: torch.Tensor, parts: int = 3) -> Sums:
    sums = Sums()
    for one, other in zip(x.chunk(parts), y.chunk(parts), strict=True):
        sums.add(one, other)
    return sums


def test_lines_are_those_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = 30 + torch.randn(50, 3, generator=generator), torch.randn(50, 3, generator=generator) - 7
    slope, shift = sums_of(x, y).line()
    for channel in range(3):
        one, target = x[:, channel, None].double(), y[:, channel, None].double()
        design = torch.cat([one, torch.ones_like(one)], 1)
        solved = torch.linalg.lstsq(design, target).solution[:, 0]
        torch.testing.assert_close(torch.stack([slope[channel], shift[channel]]), solved)
        torch.testing.assert_close(sums_of(x, y).scale()[channel], torch.linalg.lstsq(one, target).solution[0, 0])
    torch.testing.assert_close(sums_of(x, y).means()[1], y.double().mean(0))
    slope, shift = sums_of(torch.full((4, 1), 2.0), torch.full((4, 1), 5.0), 2).line()
    assert slope.item() == 1 and shift.item() == 3
    assert sums_of(torch.zeros(4, 1), torch.ones(4, 1), 2).scale().item() == 1


def test_no_more_than_a_batch_is_held(tiny_opt: nn.Module, monkeypatch) -> None:
    seen, plain = [], Sums.add

    def noted(self, pruned, dense):
        seen.append(len(pruned))
        plain(self, pruned, dense)

    monkeypatch.setattr(Sums, "add", noted)
    whole = copy.deepcopy(tiny_opt)
    prune(whole, TOKENS, method="magnitude", sparsity=0.5)
    parts = copy.deepcopy(whole)
    reestimate(whole, tiny_opt, TOKENS, batch_size=12)
    assert set(seen) == {12 * 16}
    seen.clear()
    reestimate(parts, tiny_opt, TOKENS, batch_size=4)
    assert set(seen) == {4 * 16}
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_changes_nothing(tiny_llama: nn.Module) -> None:
    spoilt = copy.deepcopy(tiny_llama)
    before = copy.deepcopy(spoilt.state_dict())
    with pytest.raises(ValueError, match="vocabulary"):
        reestimate(spoilt, tiny_llama, torch.full((2, 8), 1000))
    assert all(torch.equal(one, before[name]) for name, one in spoilt.state_dict().items())
