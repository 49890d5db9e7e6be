"""Gradients and curvatures whose way back takes too much memory are gathered a few sequences at a time."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from labutils.models.structure import find_blocks
from labutils.structured.curvature import layer_factors
from labutils.structured.gradients import matrix_gradients
from labutils.training import parts_of_batches

TOKENS = torch.randint(3, 60, (5, 12), generator=torch.Generator().manual_seed(0))
PADDED = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS).index_fill(1, torch.tensor([10, 11]), 0)}


def all_factors(model: nn.Module, calibration) -> list[torch.Tensor]:
    layers = [{"mlp.down_proj": block.mlp.down_proj} for block in find_blocks(model)[1]]
    return [part for own in layer_factors(model, calibration, layers) for each in own.values()
            for part in (each.inputs, each.gradients)]  # fmt: skip


def all_gradients(model: nn.Module, calibration) -> list[torch.Tensor]:
    return [each for own in matrix_gradients(model, calibration) for each in own.values()]


@pytest.mark.parametrize("calibration", [TOKENS, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize("gather", [all_factors, all_gradients])
def test_parts_add_up_to_the_same(
    tiny_llama: nn.Module, monkeypatch: pytest.MonkeyPatch, gather: Callable, calibration
) -> None:
    sizes: list[int] = []
    tiny_llama.register_forward_pre_hook(
        lambda model, args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    whole = gather(tiny_llama, calibration)
    assert sizes[-1] == 5
    monkeypatch.setattr(parts_of_batches, "KEPT_AT_ONCE", 1)
    sizes.clear()
    parts = gather(tiny_llama, calibration)
    assert sizes[-5:] == [1] * 5
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("gather", [all_factors, all_gradients])
def test_what_is_measured_gets_all_that_the_model_reads(tiny_llama: nn.Module, gather: Callable) -> None:
    forward = tiny_llama.forward
    tiny_llama.forward = lambda input_ids, *, attention_mask, **given: forward(
        input_ids=input_ids, attention_mask=attention_mask, **given
    )
    assert gather(tiny_llama, PADDED)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_no_sequence_at_a_time_is_refused(tiny_llama: nn.Module, batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        matrix_gradients(tiny_llama, TOKENS, batch_size=batch_size)
