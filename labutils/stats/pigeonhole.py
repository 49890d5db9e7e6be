"""The pigeonhole bootstrap of Owen (2007): random weights of items, draws and seeds, and the cell means they give."""

import numpy as np
from jaxtyping import Float

from labutils.stats.pairing import Stratum

# Texts stay the same whatever model reads them, so strata that differ only in these columns share their items.
NOT_NAMING_ITEMS = ("model", "architecture", "calibration")


def resampling_weights(
    n_units: int, n_resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resamples units"]:
    """Bootstrap weights of n units, each row summing to one, widened so that few units give honest intervals.

    Plain multinomial weights understate the variance of a mean by (n-1)/n and give normal tails where few units call
    for Student's. Deviations from 1/n are therefore multiplied by sqrt(n/(n-1)) (Rao & Wu 1988, JASA 83) and by
    sqrt((n-1)/chi²) with an independent chi² of n-1 degrees of freedom per resample, which turns the normal into
    Student's t with n-1 degrees of freedom; sums over factors then follow Behrens and Fisher. One unit has weight one.
    """
    if n_units == 1:
        return np.ones((n_resamples, 1))
    # Multinomial counts: n draws with replacement per resample, counted by one bincount over all resamples.
    chosen = generator.integers(n_units, size=(n_resamples, n_units)) + n_units * np.arange(n_resamples)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=n_resamples * n_units).reshape(n_resamples, n_units)
    # sqrt(n/(n−1)) · sqrt((n−1)/χ²) = sqrt(n/χ²)
    widening = np.sqrt(n_units / generator.chisquare(n_units - 1, size=(n_resamples, 1)))
    return (1 + widening * (counts - 1)) / n_units


def cell_means(tables: list[Stratum]) -> Float[np.ndarray, " columns"]:
    """Means over all units of the resampled factors: strata × cells, cells fastest."""
    return np.concatenate([table.values.mean(axis=tuple(range(table.values.ndim - 1))) for table in tables])


def resampled_cell_means(
    tables: list[Stratum], n_resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resamples columns"]:
    """Cell means under random weights; strata that share units (draws, seeds, items) share their weights."""
    weights, columns = {}, []
    for table in tables:
        # Σ w_i v_d y_id (Owen 2007): each factor has weights of its own, and a cell gets their product. The weights sum
        # to one, so centring changes nothing but rounding; the means come back at the end.
        means = table.values - table.values.mean(axis=tuple(range(table.values.ndim - 1)))
        for position, (factor, units) in enumerate(reversed(table.levels.items())):  # items, the longest axis, go first
            key = shared_units(table, factor)
            if key not in weights:
                weights[key] = resampling_weights(len(units), n_resamples, generator)
            # The first product brings in the axis of resamples; from then on every resample has means of its own.
            if position == 0:
                means = np.tensordot(weights[key], means, axes=(1, means.ndim - 2))
            else:
                means = np.einsum("ru,r...uc->r...c", weights[key], means)
        columns.append(means)
    return np.concatenate(columns, axis=1) + cell_means(tables)


def shared_units(table: Stratum, factor: str) -> tuple:
    """What two strata must agree on to share units: for items the texts, for draws and seeds the calibration corpus."""
    is_item = factor == list(table.levels)[-1]
    naming = [name for name in table.names if (name not in NOT_NAMING_ITEMS if is_item else name == "calibration")]
    return (factor, tuple((name, table.names[name]) for name in naming), table.levels[factor])
