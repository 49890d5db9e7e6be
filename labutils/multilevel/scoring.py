"""First steps of a fit: Fisher scoring in the covariances, which goes a long way at once.

In Ψ = ΛΛ' the deviance has the slope G = A − S, with A = Σ_j Z_j'PZ_j and S = Σ_j (Z_j'Py)(Z_j'Py)'/σ², and about the
expected second derivative J tr(Ā dΨ Ā dΨ), Ā = A/J (see `curvature`). Its Newton step is dΨ = −Ā⁻¹(G/J)Ā⁻¹; where the
levels are alike and hold many rows it ends at the minimum, wherever it starts from. In the entries of Λ the same step
is that of Newton's method for a square root, which takes several. Where the step would leave the cone of covariances,
or does not lead down, the descent takes over.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Factors = list[Float[np.ndarray, "_ _"]]
SlopesAndTraces = tuple[float, Sequence[Float[np.ndarray, "_ _"]], Sequence[Float[np.ndarray, "_ _"]]]

MOST_STEPS = 4
NEAR = 0.1  # largest relative change of a covariance matrix after which the descent knows the way better
LEAST = 0.05  # share of a covariance matrix that a step leaves in every direction


def scored(
    evaluate: Callable[[Factors], SlopesAndTraces],
    factors: Factors,
    blocks: Sequence[Sequence[slice]],
    levels: Sequence[int],
) -> Factors:
    """Relative factors with a lower deviance, near to where scoring in their covariances ends.

    Args:
        evaluate: the deviance (infinite where there is none), G and A of every grouping factor.
        factors: where to begin; of full rank.
        blocks: of every grouping factor, its random terms; levels: its J.
    """
    value, slopes, traces = evaluate(factors)
    for _ in range(MOST_STEPS):
        stepped = [_step(*part) for part in zip(factors, slopes, traces, blocks, levels, strict=True)]
        found = [factor for factor, _ in stepped]
        there, slopes, traces = evaluate(found)
        if not there < value:
            return factors
        factors, value = found, there
        if max(change for _, change in stepped) < NEAR:
            break
    return factors


def _step(
    factor: Float[np.ndarray, "terms terms"],
    slope: Float[np.ndarray, "terms terms"],
    trace: Float[np.ndarray, "terms terms"],
    blocks: Sequence[slice],
    levels: int,
) -> tuple[Float[np.ndarray, "terms terms"], float]:
    """The factor after one step, and by how much its covariance changed, relative to itself."""
    found, largest = np.zeros_like(factor), 0.0
    for block in blocks:
        own = factor[block, block]
        if len(own) == 1:  # the same in one number
            change = -levels * slope[block, block].item() / (own.item() * trace[block, block].item()) ** 2
            kept = max(1 + change, LEAST)
            largest = max(largest, abs(kept - 1))
            found[block, block] = own * kept**0.5
            continue
        # In the metric of Ψ itself, Λ⁻¹ dΨ Λ⁻', the identity stands for what is there.
        metric = own.T @ trace[block, block] @ own / levels
        inverse = np.linalg.inv(metric)
        change = -inverse @ (own.T @ slope[block, block] @ own / levels) @ inverse
        values, vectors = np.linalg.eigh((change + change.T) / 2)
        kept = np.maximum(1 + values, LEAST)
        largest = max(largest, float(np.abs(kept - 1).max()))
        root = (own @ vectors) * np.sqrt(kept)
        found[block, block] = np.linalg.qr(root.T, mode="r").T
    return found, largest
