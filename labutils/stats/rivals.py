"""Gains over the best of several rivals."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from labutils.stats.bootstrap import Statistic


@dataclass(frozen=True)
class _MeanOverLeast:
    n_sparsities: int

    def __call__(self, cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        by_rival = cell_means.reshape(len(cell_means), -1, self.n_sparsities)
        return by_rival.min(axis=1).mean(axis=1)


def mean_over_least(n_sparsities: int) -> Statistic:
    """Statistic of contrasts with several rivals: at each sparsity the least gain over any of them, then the mean.

    >>> lab.sweeps.effects_over_models(gains, lab.stats.mean_over_least(3))

    The least of several noisy gains lies below the least true one: the statistic errs against the arm that is tried.
    The frame has one stratum (a model on a text), and the cells (`contrast`, `sparsity`).
    """
    return _MeanOverLeast(n_sparsities)
