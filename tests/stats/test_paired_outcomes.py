"""McNemar's test, Tango's interval and the smallest visible difference, against sums written out."""

from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial, norm

from labutils.stats.paired_outcomes import mcnemar, score_interval, smallest_visible_share
from labutils.stats.unit_means import weighted_mean_interval


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (8, 1), (3, 3), (2, 9), (40, 21)])
def test_the_exact_test_is_the_sum_of_binomial_terms(lost: int, won: int) -> None:
    flips, few = lost + won, min(lost, won)
    terms = [comb(flips, i) / 2**flips for i in range(few + 1)]
    found = mcnemar(lost, won)
    assert found.exact == pytest.approx(min(1, 2 * sum(terms)))
    assert found.mid == pytest.approx(min(1, 2 * sum(terms) - terms[-1]))
    assert found == mcnemar(won, lost)


def score(n: int, lost: int, won: int, delta: float) -> float:
    """The score statistic, its nuisance parameter found by maximising the likelihood."""

    def loss(q: float) -> float:
        shares = np.array([q, q + delta, 1 - 2 * q - delta])
        counts = np.array([lost, won, n - lost - won])
        return -float((counts[counts > 0] * np.log(shares[counts > 0])).sum())

    low, high = max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12
    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    return (won - lost - n * delta) / sqrt(n * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize(("n", "lost", "won"), [(50, 12, 2), (20, 8, 3), (20, 0, 5), (400, 3, 9), (11, 5, 5)])
def test_tangos_interval_ends_where_the_score_statistic_is_the_quantile(n: int, lost: int, won: int) -> None:
    low, high = score_interval(n, lost, won)
    assert score(n, lost, won, low) == pytest.approx(norm.ppf(0.975), abs=1e-3)
    assert score(n, lost, won, high) == pytest.approx(-norm.ppf(0.975), abs=1e-3)
    assert score_interval(n, won, lost) == pytest.approx((-high, -low))


def test_no_flip_and_nothing_but_flips_leave_an_interval_of_some_width() -> None:
    z = norm.ppf(0.975)
    assert score_interval(20, 0, 0) == pytest.approx((-z * z / (20 + z * z), z * z / (20 + z * z)))
    low, high = score_interval(10, 10, 0)
    assert low == -1 and -0.7 < high < -0.3
    assert score_interval(10, 0, 10) == pytest.approx((-high, 1))


def test_tangos_interval_covers_the_truth_as_often_as_it_says() -> None:
    """By the exact probability of every table of 20 items."""
    for p in ((0.2, 0.05), (0.1, 0.1)):
        tables = [(lost, won) for lost, won in product(range(21), repeat=2) if lost + won <= 20]
        tables = [each for each in tables if multinomial.pmf([*each, 20 - sum(each)], 20, [*p, 1 - sum(p)]) > 1e-5]
        covered = 0.0
        for lost, won in tables:
            low, high = score_interval(20, lost, won)
            if low <= p[1] - p[0] <= high:
                covered += multinomial.pmf([lost, won, 20 - lost - won], 20, [*p, 1 - sum(p)])
        assert 0.94 < covered < 0.99


def test_the_smallest_visible_difference_is_seen_four_times_in_five() -> None:
    n, flips = 400, 60
    delta = smallest_visible_share(n, flips)
    psi = flips / n
    shares = [(psi + delta) / 2, (psi - delta) / 2, 1 - psi]
    drawn = np.random.default_rng(0).multinomial(n, shares, size=1500)
    seen = np.mean([mcnemar(int(lost), int(won)).exact <= 0.05 for lost, won, _ in drawn])
    assert 0.7 < seen < 0.85  # the exact test is a little conservative


def test_few_items_can_show_large_differences_only_or_none() -> None:
    assert smallest_visible_share(20, 0) == 6 / 20  # 2 / 2^6 is the first that lies below 0.05
    assert np.isnan(smallest_visible_share(5, 3))
    assert smallest_visible_share(6, 6) == 1


@pytest.mark.parametrize(("n", "lost", "won"), [(3, 2, 2), (3, -1, 0)])
def test_impossible_counts_are_refused(n: int, lost: int, won: int) -> None:
    with pytest.raises(ValueError, match="flips"):
        score_interval(n, lost, won)
    with pytest.raises(ValueError, match="flips|both others"):
        smallest_visible_share(n, lost + won if lost >= 0 else -1)


def test_levels_outside_zero_and_one_are_refused() -> None:
    for call in (lambda: score_interval(0, 0, 0), lambda: score_interval(9, 1, 0, level=1.0)):
        with pytest.raises(ValueError, match="level"):
            call()
    with pytest.raises(ValueError, match="power"):
        smallest_visible_share(9, 1, power=0.0)


def test_a_weighted_mean_resamples_whole_units() -> None:
    generator = np.random.default_rng(1)
    units = np.repeat(np.arange(40), 5)
    values = generator.normal(size=40)[units] + 0.1 * generator.normal(size=200)
    weights = generator.integers(1, 9, 200).astype(float)
    together = weighted_mean_interval(values, weights, units.tolist())
    apart = weighted_mean_interval(values, weights, list(range(200)))
    expected = pytest.approx(np.average(values, weights=weights))
    assert together.estimate == expected and apart.estimate == expected
    assert together.high - together.low > 1.6 * (apart.high - apart.low)
    assert together.n_items == 40


def test_a_mean_of_equal_weights_has_students_interval() -> None:
    values = np.random.default_rng(2).normal(size=12)
    found = weighted_mean_interval(values, np.ones(12), list(range(12)))
    half = 2.201 * values.std(ddof=1) / sqrt(12)  # t with 11 degrees of freedom
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_weights_must_be_positive_and_units_several() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        weighted_mean_interval(np.ones(2), np.array([1.0, 0.0]), [0, 1])
    with pytest.raises(ValueError, match="finite"):
        weighted_mean_interval(np.array([1.0, np.nan]), np.ones(2), [0, 1])
    with pytest.raises(ValueError, match="two units"):
        weighted_mean_interval(np.ones(2), np.ones(2), ["same", "same"])
