"""Rounding to nearest, and the bits it takes, against values written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labutils.quantisation import bits_per_weight, round_to_nearest, rounding_bits, sparsity_at_bits


def test_levels_are_those_of_a_hand_computation() -> None:
    found = round_to_nearest(torch.tensor([[0.0, 0.1, 0.25, 0.75]]), 2, group_size=4)
    assert found.tolist() == [[0.0, 0.0, 0.25, 0.75]]
    around = round_to_nearest(torch.tensor([[-0.25, 0.1, 0.2, 0.5]]), 2, group_size=4)  # levels −0.25, 0, 0.25, 0.5
    assert around.tolist() == [[-0.25, 0.0, 0.25, 0.5]]
    signed = round_to_nearest(torch.tensor([[-1.0, -0.26, 0.24, 0.5]]), 2, group_size=4, symmetric=True)
    assert signed.tolist() == [[-1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_weight_takes_the_nearest_of_few_levels(bits: int, symmetric: bool) -> None:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(bits))
    weight[:, ::7] = 0
    found = round_to_nearest(weight, bits, group_size=16, symmetric=symmetric)
    assert (found[weight == 0] == 0).all()
    groups = weight.unflatten(1, (-1, 16)).flatten(0, 1)
    for group, rounded in zip(groups, found.unflatten(1, (-1, 16)).flatten(0, 1), strict=True):
        ends = (group.min().clamp(max=0), group.max().clamp(min=0))
        step = group.abs().max() / (2 ** (bits - 1) - 1) if symmetric else (ends[1] - ends[0]) / (2**bits - 1)
        assert len(rounded.unique()) <= 2**bits - symmetric
        # Half a step; at the ends the rounded zero point costs up to another half.
        assert (rounded - group).abs().max() <= step * (0.51 if symmetric else 1.01) + 1e-3 * step * 2**bits


def test_a_constant_group_and_a_group_of_zeros_are_kept() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert round_to_nearest(weight, 3, group_size=2)[0, :2].tolist() == [0, 0]
    assert round_to_nearest(weight, 3, group_size=2)[0, 2:].tolist() == pytest.approx([0.5, 0.5], rel=1e-3)


def test_weights_in_bfloat16_and_negative_groups_are_rounded_too() -> None:
    weight = -torch.rand(2, 32).bfloat16()
    error = (round_to_nearest(weight, 8, group_size=32) - weight.float()).abs().max()
    assert error < 0.006


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1, "group_size": 4}, "bits=1"),
        ({"bits": 9, "group_size": 4}, "bits=9"),
        ({"bits": 4, "group_size": 3}, "groups of 3 do not divide 4 inputs"),
        ({"bits": 4, "group_size": 0}, "groups of 0"),
    ],
)
def test_impossible_roundings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        round_to_nearest(torch.ones(1, 4), **options)


def test_a_scale_that_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit float16"):
        round_to_nearest(torch.tensor([[1e6, 0.0]]), 2, group_size=2)


def test_bits_are_counted_with_scales_and_masks() -> None:
    assert rounding_bits(4, 32, symmetric=True) == 4.5
    assert rounding_bits(4, 32) == 4 + 20 / 32
    assert bits_per_weight(0.5, 16) == 9
    assert bits_per_weight(0.5, 16, mask="entropy") == 9
    assert bits_per_weight(0.75, 16, mask="entropy") == pytest.approx(4 + 0.25 * 2 + 0.75 * np.log2(4 / 3))
    assert bits_per_weight(0.0, 16) == 16


@given(st.floats(1.1, 15.9), st.sampled_from(["bitmap", "entropy"]))
def test_the_sparsity_of_a_size_gives_that_size(bits: float, mask: str) -> None:
    assert bits_per_weight(sparsity_at_bits(bits, mask=mask), 16, mask=mask) == pytest.approx(bits)


def test_sizes_that_pruning_cannot_reach_are_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 16 can"):
        sparsity_at_bits(0.9)
    with pytest.raises(ValueError, match="cannot be reached"):
        sparsity_at_bits(16)
    with pytest.raises(ValueError, match="sparsity=1"):
        bits_per_weight(1, 16)
