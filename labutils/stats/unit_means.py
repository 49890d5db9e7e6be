"""The mean of paired differences of which each has a weight, when whole units of items are resampled."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from labutils.stats.bootstrap import Interval
from labutils.stats.pigeonhole import resampling_weights


def weighted_mean_interval(
    values: Float[np.ndarray, " items"],
    weights: Float[np.ndarray, " items"],
    units: Sequence[object],
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
    unit: str = "item",
) -> Interval:
    """Σ weight · value / Σ weight, with a bootstrap interval that resamples whole units.

    >>> weighted_mean_interval(np.array([0.0, 1.0, 1.0]), np.ones(3), ["a", "b", "b"]).estimate
    0.6666666666666666

    Items of one unit (of one document, passage, subject) are drawn together. Weights of units are those of
    `labutils.stats.pigeonhole`, widened for few, so that the interval is about as wide as Student's.

    Args:
        values: one number per item.
        weights: what each counts, such as the words of a document; positive.
        units: to which unit each item belongs.
        unit: their name, for the interval's sentence.

    Raises:
        ValueError: values that are not finite, weights that are not positive, or fewer than two units.
    """
    if not np.isfinite(values).all() or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError("every item needs a finite value and a positive weight")
    names = {name: place for place, name in enumerate(dict.fromkeys(units))}
    if len(names) < 2:
        raise ValueError(f"an interval needs at least two units to resample, got {len(names)}")
    of_unit = np.array([names[name] for name in units])
    totals, sizes = (np.bincount(of_unit, each, minlength=len(names)) for each in (values * weights, weights))
    estimate = float(totals.sum() / sizes.sum())
    drawn = resampling_weights(len(names), n_resamples, np.random.default_rng(seed))
    # A ratio's deviation to first order: the widened weights may be negative, by which nothing should be divided.
    samples = estimate + drawn @ (totals - estimate * sizes) / sizes.mean()
    return Interval.from_samples(estimate, samples, level=level, n_items=len(names), units=(unit, "repetition"))
