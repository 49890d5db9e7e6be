"""Bits per original weight, so that fewer weights and fewer bits can be compared at equal size.

Only the matrices that are pruned or rounded count: embeddings, norms and head are the same in both.
"""

from math import log2

from scipy.optimize import brentq

MASKS = ("bitmap", "entropy")
SCALE_BITS = 16


def bits_per_weight(sparsity: float | int, weight_bits: float | int, *, mask: str = "bitmap") -> float:
    """Bits that a sparse matrix takes per weight of the dense one: its survivors, and where they stand.

    >>> bits_per_weight(0.5, 16)
    9.0

    Args:
        sparsity: share of zeros.
        weight_bits: of a survivor, scales included.
        mask: "bitmap", one bit per weight, as files keep it; or "entropy", H(sparsity) = −s log₂ s − (1−s) log₂(1−s),
            which no code for unstructured zeros can undercut. A dense matrix needs none.

    Raises:
        ValueError: a sparsity outside [0, 1), no bits, or another mask.
    """
    if not 0 <= sparsity < 1 or not weight_bits > 0 or mask not in MASKS:
        raise ValueError(
            f"sparsity={sparsity}, weight_bits={weight_bits}, mask={mask!r}: needed are a share in [0, 1), a positive "
            f"number of bits and one of {', '.join(MASKS)}"
        )
    if sparsity == 0:
        return float(weight_bits)
    entropy = -sparsity * log2(sparsity) - (1 - sparsity) * log2(1 - sparsity)
    return (1 - sparsity) * weight_bits + (1.0 if mask == "bitmap" else entropy)


def sparsity_at_bits(bits: float | int, weight_bits: float | int = 16, *, mask: str = "bitmap") -> float:
    """The share of zeros by which a matrix of `weight_bits` comes down to `bits` per weight.

    >>> round(sparsity_at_bits(4.5), 3)
    0.781

    Raises:
        ValueError: `bits` that pruning cannot reach: at most the mask alone, or as much as the dense matrix.
    """
    least = bits_per_weight(1 - 1e-12, weight_bits, mask=mask)
    if not least < bits < weight_bits:
        raise ValueError(
            f"{bits:g} bits per weight cannot be reached by pruning weights of {weight_bits:g} bits: between "
            f"{least:.3g} and {weight_bits:g} can"
        )
    # Concave in the sparsity, and above `bits` at its beginning: one root.
    return float(brentq(lambda share: bits_per_weight(share, weight_bits, mask=mask) - bits, 1e-12, 1 - 1e-12))


def rounding_bits(bits: int, group_size: int, *, symmetric: bool = False) -> float:
    """Bits per weight of `round_to_nearest`: the level, and each group's scale and, unless symmetric, zero point.

    >>> rounding_bits(4, 32)
    4.625
    """
    return bits + (SCALE_BITS + (0 if symmetric else bits)) / group_size
