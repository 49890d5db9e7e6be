"""Groups of heads go in numbers that a configuration can express, which is told before anything runs."""

import dataclasses

import pytest
import torch
from architectures import ARCHITECTURES, SIZES, Architecture
from torch import Tensor
from transformers import PreTrainedModel

import labutils as lab
from labutils.structured import Removal, carve, expressible_groups, masked, shrinking
from labutils.structured.anatomy import read_anatomies


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(3, 60, (4, 9), generator=torch.Generator().manual_seed(3))


def eight_groups() -> PreTrainedModel:
    """Eight groups of two heads, as many models of eight billion parameters; heads of four channels."""
    own = {"hidden_size": 64, "num_attention_heads": 16, "num_key_value_heads": 8}
    return Architecture("LlamaForCausalLM", "LlamaConfig", {**SIZES, **own}).build()


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something ran")


def test_a_configuration_tells_which_numbers_it_can_express() -> None:
    model = eight_groups()
    found = expressible_groups(model)
    assert found == [1, 2, 4, 8]  # 64 channels must be a multiple of the number of heads
    for left in found[:-1]:
        removed = {block: tuple(range(left, 8)) for block in range(2)}
        assert carve(model, Removal(groups=removed)).config.num_key_value_heads == left
    with pytest.raises(LookupError, match="numbers that it accepts: labutils.structured.expressible_groups"):
        carve(model, Removal(groups={block: (0,) for block in range(2)}))
    assert expressible_groups(ARCHITECTURES["gpt2"].build()) == [2]
    first, second = read_anatomies(model)
    with pytest.raises(LookupError, match="no equal numbers"):
        expressible_groups(model, [first, dataclasses.replace(second, attention=None)])


def test_groups_go_in_the_nearest_number_and_unequal_blocks_are_padded_to_the_next(tokens) -> None:
    model = eight_groups()
    # attention is 64 · (64 + 32 + 32 + 64) = 12,288 of a block's 17,024: a third of all is near half of the groups
    smaller, report = lab.shrink(model, tokens, share=0.3, units=["groups"], method="wanda-sp")
    assert smaller.config.num_key_value_heads == report.widths["groups"] == 4
    assert report.saved_share == report.removed_share == pytest.approx(0.361, abs=0.001)
    smaller, report = lab.shrink(model, tokens, share=0.5, units=["groups"], method="wanda-sp", allocation="global")
    left = [8 - len(report.removal.groups[block]) for block in range(2)]
    assert smaller.config.num_key_value_heads == min(n for n in (1, 2, 4, 8) if n >= max(left))
    with masked(model, report.removal):
        torch.testing.assert_close(lab.sequence_losses(smaller, tokens), lab.sequence_losses(model, tokens))


def test_what_no_number_can_express_and_what_takes_nothing_is_refused(tokens, monkeypatch) -> None:
    with pytest.raises(
        ValueError, match=r"too little for any of the groups to go. The configuration can express 1, 2, 4"
    ):
        lab.shrink(eight_groups(), tokens, share=0.03, units=["groups"], method="wanda-sp")
    monkeypatch.setattr(shrinking, "BlockWalk", refuse)
    monkeypatch.setattr(shrinking, "matrix_gradients", refuse)
    with pytest.raises(LookupError, match="no other number of key-value groups than the 2"):
        lab.shrink(ARCHITECTURES["gpt2"].build(), tokens, share=0.1, units=["groups"], method="taylor")
