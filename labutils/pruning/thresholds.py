"""One threshold over many matrices, found without joining them."""

from collections.abc import Callable, Collection, Iterable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from labutils.pruning.patterns import kth_lowest

BINS = 2**16  # of the upper halves of float32 numbers


def kth_lowest_of_parts(
    parts: Callable[[], Iterable[Float32[Tensor, "..."]]], counts: Collection[int]
) -> dict[int, float]:
    """By count (≥ 1), the value that is the `count`-th lowest of all tensors' values together.

    Two rounds: values are counted by sign, exponent and the first seven bits of the mantissa, which are the upper half
    of a float32 number; then those that share the upper half of a wanted value are looked at. So a model's worth of
    scores need not be held twice, nor held at all where they can be computed again.

    >>> kth_lowest_of_parts(lambda: [torch.tensor([3.0, 1.0]), torch.tensor([2.0])], {2})
    {2: 2.0}

    Args:
        parts: gives the same tensors each time that it is called; none of their values is NaN.
    """
    if not counts:
        return {}
    histogram: Int64[Tensor, " bins"] = torch.zeros(BINS, dtype=torch.int64)
    for part in parts():
        histogram += torch.bincount(_upper_half(part), minlength=BINS).cpu()
    up_to = histogram.cumsum(0)
    bin_of = {count: int(torch.searchsorted(up_to, count)) for count in counts}
    inside: dict[int, list[Tensor]] = {number: [] for number in bin_of.values()}
    for part in parts():
        upper, flat = _upper_half(part), part.reshape(-1)
        for number, found in inside.items():
            found.append(flat[upper == number])
    values = {number: torch.cat(found) for number, found in inside.items()}
    return {
        count: kth_lowest(values[number], count - int(up_to[number] - histogram[number]))
        for count, number in bin_of.items()
    }


def _upper_half(part: Float32[Tensor, "..."]) -> Tensor:
    """The upper 16 bits of each value as a number from 0 on, in the order of the values."""
    bits = part.reshape(-1).view(torch.int32)
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16) + BINS // 2  # negative numbers count backwards
