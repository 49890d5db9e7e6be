"""Bit mask and kept values: every bit comes back."""

import math

import pytest
import torch

from labutils.checkpoints.compact import pack, saves_room, unpack

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (8, 8), (3, 5, 11), (0,), (13, 1)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_round_trip(shape: tuple[int, ...], share: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(shape, generator=generator).masked_fill(torch.rand(shape, generator=generator) < share, 0.0)
    dense = dense.to(dtype)
    back = unpack(*pack(dense), dense.shape)
    assert back.dtype == dtype and torch.equal(back, dense)


def test_the_mask_by_hand() -> None:
    mask, values = pack(torch.tensor([[0.0, 2.0, 0.0], [4.0, 0.0, 6.0], [0.0, 0.0, 9.0]]))
    assert mask.tolist() == [0b01010100, 0b10000000] and values.tolist() == [2.0, 4.0, 6.0, 9.0]


def test_negative_zeros_and_infinities_keep_their_bits() -> None:
    dense = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-45, 0.0, 0.0, 0.0])
    back = unpack(*pack(dense), dense.shape)
    assert torch.equal(back.view(torch.int32), dense.view(torch.int32))


@pytest.mark.parametrize(("zeros", "dtype", "smaller"), [
    (0, torch.float32, False), (4, torch.float32, False), (5, torch.float32, True), (8, torch.bfloat16, False),
    (9, torch.bfloat16, True), (128, torch.float32, True),
])  # fmt: skip
def test_when_it_saves_room(zeros: int, dtype: torch.dtype, smaller: bool) -> None:
    """Of 128 numbers the mask takes 16 bytes: what 4 float32 or 8 bfloat16 zeros take."""
    dense = torch.ones(128, dtype=dtype)
    dense[:zeros] = 0
    assert saves_room(dense) == smaller


def test_a_mask_that_does_not_fit_its_values() -> None:
    mask, values = pack(torch.tensor([1.0, 0.0, 3.0]))
    with pytest.raises(ValueError, match="damaged"):
        unpack(mask, values[:1], torch.Size([3]))
