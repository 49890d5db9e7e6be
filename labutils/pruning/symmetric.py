"""Sums over pairs of inputs: a Hessian and what is read off it are symmetric, so that half of the work is enough.

Half means on and below the diagonal, in strips of columns: wide enough for a matrix product to be fast, narrow enough
for little above the diagonal to be computed along with it.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

NARROWEST_STRIP = 128
STRIPS = 8  # of a wide matrix


def strip_width(width: int) -> int:
    """Columns of a strip of a symmetric matrix."""
    return max(NARROWEST_STRIP, width // STRIPS)


def add_gram(sums: Float[Tensor, "in in"], inputs: Float[Tensor, "tokens in"]) -> None:
    """Add XᵀX to what lies on and below the diagonal of `sums`, in place; what lies above is not to be read."""
    for strip in _strips(len(sums)):
        sums[strip.start :, strip].addmm_(inputs[:, strip.start :].T, inputs[:, strip])


def mirror_lower(sums: Float[Tensor, "in in"]) -> Float[Tensor, "in in"]:
    """The symmetric matrix with this lower triangle."""
    lower = sums.tril()
    return lower + lower.tril(-1).T


def quadratic_form(rows: Float[Tensor, "out in"], matrix: Float[Tensor, "in in"]) -> float:
    """Σ r H rᵀ over the rows r, of a symmetric H: ‖X Rᵀ‖² where H = XᵀX."""
    total = 0.0
    for strip in _strips(len(matrix)):
        own, later = rows[:, strip], slice(strip.stop, None)
        # With r = (r₁, r₂) split at the strip: r₁ H₁₁ r₁ᵀ + 2 r₁ H₁₂ r₂ᵀ, and H₁₂ = H₂₁ᵀ lies below the diagonal.
        products = own @ matrix[strip, strip]
        products.addmm_(rows[:, later], matrix[later, strip], alpha=2)
        total += torch.mul(products, own, out=products).sum().item()
    return total


def _strips(width: int) -> Iterator[slice]:
    step = strip_width(width)
    return (slice(start, min(start + step, width)) for start in range(0, width, step))
