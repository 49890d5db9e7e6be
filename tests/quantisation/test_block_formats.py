"""The values of GGUF's block formats, against what the package `gguf` reads back, bit for bit."""

import gguf
import numpy as np
import pytest
from gguf_files import random_blocks

from labutils.quantisation.block_formats import FORMATS, round_blocks, zero_table
from labutils.quantisation.superblocks import K_FORMATS, Codes, decode, encode

Types = gguf.GGMLQuantizationType
SIMPLE = [name for name in FORMATS if name not in K_FORMATS]
KEEPING = {"Q8_0", "Q5_0", "Q4_0", "Q6_K", "Q3_K"}


def matrices(columns: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(24, columns)).astype(np.float32)
    ramp = np.linspace(-1, 1, 2 * columns, dtype=np.float32).reshape(2, columns)
    return {
        "normal": normal,
        "heavy tails": (normal**3 * 0.02).astype(np.float32),
        "sparse": np.where(np.abs(normal) > 0.7, normal, np.float32(0)),
        "positive": np.abs(normal) + np.float32(0.5),
        "negative": -np.abs(normal) - np.float32(0.5),
        "zeros": np.zeros((2, columns), np.float32),
        "constant": np.full((2, columns), -0.25, np.float32),
        "ramp": ramp,
        "tiny": normal * np.float32(1e-7),
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_sizes_are_those_of_the_format(kind: str) -> None:
    assert (FORMATS[kind].size, FORMATS[kind].bytes) == gguf.GGML_QUANT_SIZES[Types[kind]]


@pytest.mark.parametrize("kind", SIMPLE)
@pytest.mark.parametrize("case", matrices(96))
def test_rounding_gives_what_the_package_reads_back(kind: str, case: str) -> None:
    weights = matrices(96)[case]
    theirs = gguf.dequantize(gguf.quantize(weights, Types[kind]), Types[kind])
    ours = round_blocks(weights, kind)
    assert ours.dtype == np.float32 and np.array_equal(ours, theirs)


def interleave(values: np.ndarray, parts: int, shifts: range) -> np.ndarray:
    """256 small integers as bytes: runs of 32 weights share 32 bytes, one after the other in higher bits."""
    runs = values.reshape(len(values), parts, len(shifts), 32).astype(np.uint8)
    return (
        sum(runs[:, :, place] << shift for place, shift in enumerate(shifts)).reshape(len(values), -1).astype(np.uint8)
    )


def pack(codes: Codes, kind: str) -> np.ndarray:
    """The bytes of super-blocks, laid out as in ggml's struct of that name."""
    q = codes.q.reshape(len(codes.q), 256)
    d, dmin = codes.d.view(np.uint8).reshape(-1, 2), codes.dmin.view(np.uint8).reshape(-1, 2)
    scales, mins = codes.scales, codes.mins
    if kind == "Q2_K":
        return np.hstack([(scales | mins << 4).astype(np.uint8), interleave(q, 2, range(0, 8, 2)), d, dmin])
    if kind == "Q3_K":
        shifted = q + 4
        high = interleave(shifted >> 2, 1, range(8))
        six = (scales + 32).astype(np.uint8)
        low = (six[:, :8] & 15) | (six[:, 8:] & 15) << 4
        top = six >> 4
        upper = top[:, :4] | top[:, 4:8] << 2 | top[:, 8:12] << 4 | top[:, 12:] << 6
        return np.hstack([high, interleave(shifted & 3, 2, range(0, 8, 2)), low, upper, d]).astype(np.uint8)
    if kind in ("Q4_K", "Q5_K"):
        first = [scales[:, s] & 63 | (scales[:, s + 4] >> 4) << 6 for s in range(4)]
        second = [mins[:, s] & 63 | (mins[:, s + 4] >> 4) << 6 for s in range(4)]
        third = [scales[:, s + 4] & 15 | (mins[:, s + 4] & 15) << 4 for s in range(4)]
        six = np.stack([*first, *second, *third], axis=1).astype(np.uint8)
        high = [interleave(q >> 4, 1, range(8))] if kind == "Q5_K" else []
        return np.hstack([d, dmin, six, *high, interleave(q & 15, 4, range(0, 8, 4))])
    shifted = (q + 32).reshape(-1, 2, 4, 32)  # Q6_K: two halves of 128
    low = shifted & 15
    nibbles = np.concatenate([low[:, :, :2] | low[:, :, 2:] << 4], axis=2).reshape(len(q), -1)
    high = sum((shifted >> 4)[:, :, place] << 2 * place for place in range(4)).reshape(len(q), -1)
    return np.hstack([nibbles.astype(np.uint8), high.astype(np.uint8), scales.astype(np.int8).view(np.uint8), d])


@pytest.mark.parametrize("kind", K_FORMATS)
@pytest.mark.parametrize("case", matrices(256))
def test_super_blocks_are_read_back_by_the_package_bit_for_bit(kind: str, case: str) -> None:
    weights = matrices(256)[case]
    codes = encode(weights, kind)
    packed = pack(codes, kind)
    assert packed.shape[1] == K_FORMATS[kind].bytes
    assert np.array_equal(gguf.dequantize(packed, Types[kind]), round_blocks(weights, kind))


@pytest.mark.parametrize("kind", K_FORMATS)
def test_any_codes_of_a_super_block_have_the_values_that_the_package_reads(kind: str) -> None:
    form, generator = K_FORMATS[kind], np.random.default_rng(3)
    shape = (9, form.subblocks)
    scales, mins = (generator.integers(form.scales[0], form.scales[1] + 1, shape) for _ in range(2))
    q = generator.integers(form.levels[0], form.levels[1] + 1, (*shape, 256 // form.subblocks))
    halves = [generator.normal(size=(9, 1)).astype(np.float16) for _ in range(2)]
    if not form.has_minimum:
        mins, halves[1] = np.zeros_like(mins), np.zeros_like(halves[1])
    codes = Codes(halves[0], halves[1], scales, mins, q)
    assert np.array_equal(gguf.dequantize(pack(codes, kind), Types[kind]), decode(codes, kind))


@pytest.mark.parametrize("kind", K_FORMATS)
def test_values_of_the_format_stay_what_they_are_but_for_their_scales(kind: str) -> None:
    """What a file of the format holds is coarse already: rounding it once more changes little."""
    stored = gguf.dequantize(random_blocks(8, 256, kind), Types[kind])
    again = round_blocks(stored, kind)
    assert np.abs(again - stored).mean() < 0.15 * np.abs(stored).mean()


@pytest.mark.parametrize("kind", FORMATS)
def test_errors_shrink_with_the_bits(kind: str) -> None:
    weights = matrices(256)["normal"]
    error = np.sqrt(np.square(round_blocks(weights, kind) - weights).mean())
    assert error < {8: 0.01, 6: 0.03, 5: 0.06, 4: 0.12, 3: 0.25, 2: 0.45}[int(kind[1])]


def test_formats_without_a_minimum_keep_every_zero_and_others_do_not() -> None:
    table = zero_table(matrices(256)["normal"]).set_index("format")
    kept = table["zeros kept"]
    assert set(kept[kept == 1].index) == KEEPING
    assert (kept.drop(sorted(KEEPING)) < 0.9).all()
    assert (table.loc[sorted(KEEPING), "largest moved zero"] == 0).all()
    assert (table.drop(sorted(KEEPING))["largest moved zero"] > 0.001).all()


def test_of_equal_weights_some_are_made_zero_and_a_matrix_without_weights_is_refused() -> None:
    table = zero_table(matrices(256)["constant"]).set_index("format")
    assert np.isfinite(table.to_numpy()).all()
    assert table.loc["Q8_0", "zeros kept"] == 1 and table.loc["Q8_0", "error"] < 0.01
    for weights, sparsity in (("zeros", 0.5), ("normal", 0.0), ("normal", 1.0)):
        with pytest.raises(ValueError, match="not all zero, and a share that makes some of them zero"):
            zero_table(matrices(256)[weights], sparsity=sparsity)


def test_rows_that_are_no_whole_blocks_and_huge_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 96 are no multiple of 256, as Q4_K needs; fitting are Q8_0"):
        round_blocks(np.zeros((2, 96), np.float32), "Q4_K")
    with pytest.raises(LookupError, match="'Q4K'.*Did you mean 'Q4_K'"):
        round_blocks(np.zeros((2, 96), np.float32), "Q4K")
    for kind in FORMATS:
        with pytest.raises(ValueError, match="too large"):
            round_blocks(np.full((1, 256), 1e9, np.float32), kind)
