"""GGUF's K formats: blocks of 256 weights in sub-blocks, whose scales are small integers times one float16.

Q2_K, Q4_K and Q5_K hold x = d·sc·q − dmin·mn, with a minimum per sub-block; Q3_K and Q6_K hold x = d·sc·q, with q on
both sides of zero. Layouts: ggml-org/llama.cpp, `gguf-py/gguf/quants.py`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float16, Float32, Int

SIZE = 256


class KFormat(NamedTuple):
    """Sub-blocks of a super-block, the ranges of their integers, and its bytes.

    Attributes:
        scales: largest integer of a scale (and of a minimum); of a signed one also the smallest.
        levels: of q, the smallest and the largest.
    """

    subblocks: int
    scales: tuple[int, int]
    levels: tuple[int, int]
    bytes: int

    @property
    def has_minimum(self) -> bool:
        return self.levels[0] == 0


class Codes(NamedTuple):
    """What a file holds of super-blocks; `dmin` and `mins` are zeros where a format has none."""

    d: Float16[np.ndarray, "blocks 1"]
    dmin: Float16[np.ndarray, "blocks 1"]
    scales: Int[np.ndarray, "blocks subblocks"]
    mins: Int[np.ndarray, "blocks subblocks"]
    q: Int[np.ndarray, "blocks subblocks size"]


K_FORMATS = {
    "Q2_K": KFormat(16, (0, 15), (0, 3), 84),
    "Q3_K": KFormat(16, (-32, 31), (-4, 3), 110),
    "Q4_K": KFormat(8, (0, 63), (0, 15), 144),
    "Q5_K": KFormat(8, (0, 63), (0, 31), 176),
    "Q6_K": KFormat(16, (-128, 127), (-32, 31), 210),
}


def decode(codes: Codes, kind: str) -> Float32[np.ndarray, "blocks size"]:
    """The values of super-blocks, computed in the order in which `gguf` does, so that they agree bit for bit.

    >>> decode(encode(np.zeros((1, 256), np.float32), "Q4_K"), "Q4_K")  # zeros
    """
    scale = (codes.d.astype(np.float32) * codes.scales.astype(np.float32))[..., None]
    values = scale * codes.q.astype(np.float32)
    if K_FORMATS[kind].has_minimum:
        values = values - (codes.dmin.astype(np.float32) * codes.mins.astype(np.float32))[..., None]
    return values.reshape(len(values), SIZE)


def encode(blocks: Float32[np.ndarray, "blocks size"], kind: str) -> Codes:
    """The integers of super-blocks whose scales span each sub-block, and zero.

    >>> encode(np.ones((1, 256), np.float32), "Q6_K").q.shape
    (1, 16, 16)
    """
    form = K_FORMATS[kind]
    parts = blocks.reshape(len(blocks), form.subblocks, -1)
    return _encode_with_minimum(parts, form) if form.has_minimum else _encode_signed(parts, form)


def _encode_with_minimum(parts: np.ndarray, form: KFormat) -> Codes:
    top, last = form.scales[1], form.levels[1]
    low = np.minimum(parts.min(axis=2), 0)
    span = np.maximum(parts.max(axis=2), 0) - low
    d, scales = _integers(span / last, top)
    dmin, mins = _integers(-low, top)
    scale = (d.astype(np.float32) * scales)[..., None]
    offset = (dmin.astype(np.float32) * mins)[..., None]
    q = _divide(parts + offset, scale).round().clip(*form.levels)
    return Codes(d, dmin, scales, mins, q.astype(np.int64))


def _encode_signed(parts: np.ndarray, form: KFormat) -> Codes:
    """The weight of largest magnitude takes the outermost level, which only one side has: the scale has a sign."""
    largest = np.take_along_axis(parts, np.abs(parts).argmax(axis=2, keepdims=True), axis=2)[..., 0]
    wanted = largest / form.levels[0]
    most = np.take_along_axis(wanted, np.abs(wanted).argmax(axis=1, keepdims=True), axis=1)
    d = (most / form.scales[0]).astype(np.float16)
    scales = _divide(wanted, d.astype(np.float32)).round().clip(*form.scales).astype(np.int64)
    scale = (d.astype(np.float32) * scales)[..., None]
    q = _divide(parts, scale).round().clip(*form.levels).astype(np.int64)
    return Codes(d, np.zeros_like(d), scales, np.zeros_like(scales), q)


def _integers(values: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """One float16 for all sub-blocks, and each one's integer from 0 to `top`."""
    unit = (values.max(axis=1, keepdims=True) / top).astype(np.float16)
    return unit, _divide(values, unit.astype(np.float32)).round().clip(0, top).astype(np.int64)


def _divide(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Zero where the divisor is."""
    return np.where(by == 0, np.float32(0), values / np.where(by == 0, np.float32(1), by))
