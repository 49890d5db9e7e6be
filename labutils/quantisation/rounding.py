"""Rounding to nearest: every group of weights has evenly spaced levels, and each weight takes the nearest."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

LARGEST_SCALE = torch.finfo(torch.float16).max


def round_to_nearest(
    weight: Float[Tensor, "out in"], bits: int, *, group_size: int, symmetric: bool = False
) -> Float32[Tensor, "out in"]:
    """The values that a matrix has when each group of consecutive inputs is rounded to 2^bits levels.

    >>> round_to_nearest(torch.tensor([[0.0, 0.1, 0.25, 0.75]]), bits=2, group_size=4)
    tensor([[0.0000, 0.0000, 0.2500, 0.7500]])

    The levels are (q − z) · s. By default they span the group and zero: s = (max − min) / (2^bits − 1), z the integer
    nearest to −min / s, and q from 0 to 2^bits − 1. With `symmetric` z is 0, s = max |w| / (2^(bits−1) − 1), and q runs
    to both sides as far: one level less. Scales are float16, as files keep them. A zero stays a zero in both. No search
    for better scales, no calibration: this is what other quantisers are compared with.

    Raises:
        ValueError: bits outside 2 to 8, a width that groups do not divide, or weights whose scale float16 cannot hold.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits={bits}: give 2 to 8")
    if group_size < 1 or weight.shape[1] % group_size:
        raise ValueError(
            f"groups of {group_size} do not divide {weight.shape[1]} inputs; give a group_size that does, such as 32"
        )
    groups = weight.float().unflatten(1, (-1, group_size))
    if symmetric:
        top = 2 ** (bits - 1) - 1
        scale = _half(groups.abs().amax(-1, keepdim=True) / top)
        levels = _divide(groups, scale).round().clamp(-top, top)
        return (levels * scale).flatten(1)
    top = 2**bits - 1
    low, high = (end(groups, -1, keepdim=True).values for end in (torch.min, torch.max))
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = _half((high - low) / top)
    zero = _divide(-low, scale).round().clamp(0, top)
    levels = (_divide(groups, scale).round() + zero).clamp(0, top)
    return ((levels - zero) * scale).flatten(1)


def _half(scale: Float32[Tensor, "*groups"]) -> Float32[Tensor, "*groups"]:
    if not bool((scale <= LARGEST_SCALE).all()):
        raise ValueError(f"a scale of {scale.max():.3g} does not fit float16 (up to {LARGEST_SCALE:.0f})")
    return scale.half().float()


def _divide(values: Float32[Tensor, "*shape"], scale: Float32[Tensor, "*groups"]) -> Float32[Tensor, "*shape"]:
    """Zero where the scale is: such a group has no other level."""
    return torch.where(scale > 0, values / scale.where(scale > 0, 1.0), 0.0)
