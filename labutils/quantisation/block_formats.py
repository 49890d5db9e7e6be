"""The block formats of GGUF files: which values a matrix has once it is stored in one of them.

Only values are computed, no bytes: they are those that the package `gguf` reads back, bit for bit (a test compares).
Formats: ggml-org/llama.cpp, `gguf-py/gguf/quants.py`. Scales are float16.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32

from labutils.core.options import suggest
from labutils.quantisation.superblocks import K_FORMATS, decode, encode

Blocks = Float32[np.ndarray, "blocks size"]


class BlockFormat(NamedTuple):
    """A format: how many weights share a block, how many bytes the block has, and the values it holds of them."""

    size: int
    bytes: int
    values: Callable[[Blocks], Blocks]

    @property
    def bits(self) -> float:
        """Bits per weight, scales included."""
        return 8 * self.bytes / self.size


def round_blocks(weights: Float32[np.ndarray, "rows columns"], kind: str) -> Float32[np.ndarray, "rows columns"]:
    """The values that a matrix has in a GGUF file of this type.

    >>> round_blocks(np.zeros((1, 32), np.float32), "Q4_0")  # zeros

    Of Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 they are those of llama.cpp's own rounding. The K formats leave open how scales
    are found: llama.cpp searches them with weights of its own, here they span each block.

    Raises:
        LookupError: an unknown format.
        ValueError: rows that blocks do not divide, or weights that are not finite or too large for float16 scales.
    """
    if kind not in FORMATS:
        raise LookupError(f"unknown block format {kind!r}; known are {', '.join(FORMATS)}.{suggest(kind, FORMATS)}")
    form = FORMATS[kind]
    check_width(weights.shape[-1], kind)
    with np.errstate(over="ignore", invalid="ignore"):
        found = form.values(weights.reshape(-1, form.size)).reshape(weights.shape)
    if not np.isfinite(found).all():
        raise ValueError(f"weights up to {np.abs(weights).max():.3g} are not finite, or too large for {kind}")
    return found


def check_width(width: int, kind: str) -> None:
    """ValueError unless rows of this width are whole blocks.

    >>> check_width(576, "Q4_K")  # "rows of 576 are no multiple of 256 …"
    """
    if width % FORMATS[kind].size:
        fitting = [name for name, form in FORMATS.items() if width % form.size == 0]
        raise ValueError(
            f"rows of {width} are no multiple of {FORMATS[kind].size}, as {kind} needs; fitting are "
            f"{', '.join(fitting) or 'none of the block formats'}"
        )


def zero_table(
    weights: Float32[np.ndarray, "rows columns"] | None = None, *, sparsity: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """Which formats keep a zero a zero, found by running them: a row per format.

    >>> zero_table().set_index("format")["zeros kept"]

    Args:
        weights: a matrix whose rows are whole blocks of 256; None takes normal random numbers of `seed`.
        sparsity: share of its smallest weights that are made zero first; of equal ones the first.

    Returns:
        ``format, bits``, ``zeros kept`` (share of the zeros that are still zero), ``error`` (root of the mean square
        relative to that of the weights) and ``largest moved zero`` (relative to the root mean square of the weights).

    Raises:
        ValueError: weights that are all zero or not finite, or a sparsity that makes none or all of them zero.
    """
    if weights is None:
        weights = np.random.default_rng(seed).normal(size=(64, 256)).astype(np.float32)
    pruned = _without_smallest(weights, sparsity)
    rows, size = [], np.sqrt(np.square(pruned).mean())
    for name in FORMATS:
        found = round_blocks(pruned, name)
        moved = np.abs(found[pruned == 0])
        rows.append(
            {
                "format": name, "bits": FORMATS[name].bits, "zeros kept": float((moved == 0).mean()),
                "error": float(np.sqrt(np.square(found - pruned).mean()) / size),
                "largest moved zero": float(moved.max() / size),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _without_smallest(
    weights: Float32[np.ndarray, "rows columns"], sparsity: float
) -> Float32[np.ndarray, "rows columns"]:
    count = round(sparsity * weights.size)
    if not 0 < count < weights.size or not np.isfinite(weights).all() or not weights.any():
        raise ValueError(
            f"sparsity={sparsity} of {weights.size} weights up to {np.abs(weights).max():.3g}: give finite weights "
            "that are not all zero, and a share that makes some of them zero, not all"
        )
    pruned = weights.copy()
    pruned.flat[np.abs(weights).argsort(axis=None, kind="stable")[:count]] = 0
    return pruned


def _half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def _inverse(scale: np.ndarray) -> np.ndarray:
    return np.where(scale == 0, np.float32(0), np.float32(1) / np.where(scale == 0, np.float32(1), scale))


def _nearest(blocks: Blocks) -> Blocks:
    """Q8_0: x = d q, d = max |x| / 127, halves away from zero."""
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    scaled = blocks * _inverse(scale)
    size = np.abs(scaled)
    floor = np.floor(size)
    return np.sign(scaled) * (floor + np.floor(2 * (size - floor))) * _half(scale)


def _signed(levels: int) -> Callable[[Blocks], Blocks]:
    """Q4_0 and Q5_0: x = d (q − levels), where the weight of largest magnitude takes the last level, q = 0."""

    def values(blocks: Blocks) -> Blocks:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
        scale = largest / -levels
        q = np.trunc(blocks * _inverse(scale) + np.float32(levels + 0.5)).clip(0, 2 * levels - 1)
        return _half(scale) * (q - levels)

    return values


def _with_minimum(steps: int) -> Callable[[Blocks], Blocks]:
    """Q4_1 and Q5_1: x = d q + m, from the smallest weight to the largest."""

    def values(blocks: Blocks) -> Blocks:
        low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
        scale = (high - low) / steps
        q = np.trunc((blocks - low) * _inverse(scale) + np.float32(0.5)).clip(0, steps)
        return _half(scale) * q + _half(low)

    return values


def _superblock(kind: str) -> BlockFormat:
    return BlockFormat(256, K_FORMATS[kind].bytes, lambda blocks: decode(encode(blocks, kind), kind))


FORMATS = {
    "Q8_0": BlockFormat(32, 34, _nearest),
    "Q6_K": _superblock("Q6_K"),
    "Q5_1": BlockFormat(32, 24, _with_minimum(31)),
    "Q5_0": BlockFormat(32, 22, _signed(16)),
    "Q5_K": _superblock("Q5_K"),
    "Q4_1": BlockFormat(32, 20, _with_minimum(15)),
    "Q4_0": BlockFormat(32, 18, _signed(8)),
    "Q4_K": _superblock("Q4_K"),
    "Q3_K": _superblock("Q3_K"),
    "Q2_K": _superblock("Q2_K"),
}
