"""Two models right or wrong on the same items: the test, the interval and the power of their difference.

Of n items the first alone is right on `lost`, the second alone on `won`; only these flips tell the two apart. Equal
accuracies with many flips are a finding, so flips are always told beside the difference.
"""

from math import ceil, log2, nan, sqrt
from typing import NamedTuple

from scipy.optimize import brentq
from scipy.stats import binom, norm

NUDGE = 1e-9


class McNemar(NamedTuple):
    """Two-sided p-values of "flips go either way alike": exact, and mid-p, which is less conservative."""

    exact: float
    mid: float


def mcnemar(lost: int, won: int) -> McNemar:
    """McNemar's test (1947) by the binomial distribution of the flips; without any flip both p are 1.

    >>> mcnemar(lost=8, won=1).exact
    0.0390625

    The mid-p counts half of the probability of what was seen (Fagerland, Lydersen & Laake 2013, BMC Med. Res. Methodol.
    13:91).

    Raises:
        ValueError: a count below zero.
    """
    _check_counts(lost + won, lost, won)
    few, flips = min(lost, won), lost + won
    tail, seen = binom.cdf(few, flips, 0.5), binom.pmf(few, flips, 0.5)
    return McNemar(float(min(1.0, 2 * tail)), float(min(1.0, 2 * tail - seen)))


def score_interval(n: int, lost: int, won: int, *, level: float = 0.95) -> tuple[float, float]:
    """Tango's (1998, Statistics in Medicine 17) score interval of the difference of two paired shares, won − lost.

    >>> score_interval(20, lost=0, won=0)  # no flip in 20 items does not prove that there are none
    (-0.161..., 0.161...)

    The values δ at which the score statistic (won − lost − nδ) / sqrt(n (2q + δ(1 − δ))) does not exceed the normal
    quantile; q is the most likely share of items that only the first has right, given δ. It needs no correction for
    few items or few flips.

    Raises:
        ValueError: counts that do not fit, a level outside (0, 1).
    """
    _check_counts(n, lost, won)
    if n == 0 or not 0 < level < 1:
        raise ValueError(f"n={n}, level={level}: an interval needs items, and a level between 0 and 1")
    quantile, estimate = norm.ppf((1 + level) / 2), (won - lost) / n

    def excess(delta: float) -> float:
        q = _likeliest_share(n, lost, won, delta)
        variance = max(n * (2 * q + delta * (1 - delta)), 0.0)
        gap = won - lost - n * delta
        return gap * gap - quantile * quantile * variance

    ends = []
    for end in (-1.0, 1.0):
        start = estimate + NUDGE * (end - estimate)  # at the estimate itself both terms may be zero
        outside = excess(end) > 0 and start != end
        ends.append(float(brentq(excess, start, end, xtol=1e-12)) if outside else end)
    return ends[0], ends[1]


def _likeliest_share(n: int, lost: int, won: int, delta: float) -> float:
    """Share of items that only the first has right which is most likely when the difference is δ (Tango's p21)."""
    b = (2 * n + lost - won) * delta - lost - won
    c = -lost * delta * (1 - delta)
    return (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)


def smallest_visible_share(n: int, flips: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest difference of two paired accuracies that n items would mostly have shown, given so many flips.

    >>> smallest_visible_share(500, flips=50)
    0.039...

    By the power of McNemar's test (Connor 1987, Biometrics 43): sqrt(n) δ = z₁ sqrt(ψ) + z₂ sqrt(ψ − δ²), ψ the share
    of flips. A difference cannot exceed ψ. Where even flips that all go one way would be too few, the answer is the
    smallest share of one-way flips that the exact test calls significant; NaN where n items can show nothing at all.

    Raises:
        ValueError: more flips than items, no items, or a level or a power outside (0, 1).
    """
    _check_counts(n, flips, 0)
    if n == 0 or not (0 < level < 1 and 0 < power < 1):
        raise ValueError(f"n={n}, level={level}, power={power}: items are needed, and both others between 0 and 1")
    fewest = ceil(1 - log2(1 - level) - 1e-12)  # 2 · 2^−k ≤ 1 − level
    if fewest > n:
        return nan
    first, second, psi = norm.ppf((1 + level) / 2), norm.ppf(power), flips / n

    def lacking(delta: float) -> float:
        return first * sqrt(psi) + second * sqrt(max(psi - delta * delta, 0.0)) - sqrt(n) * delta

    largest = min(psi, sqrt(psi))
    found = float(brentq(lacking, 0.0, largest)) if flips and lacking(largest) <= 0 else psi
    return max(found, fewest / n)


def _check_counts(n: int, lost: int, won: int) -> None:
    if min(lost, won) < 0 or lost + won > n:
        raise ValueError(f"{lost} and {won} flips among {n} items: counts must be at least 0, flips at most all items")
