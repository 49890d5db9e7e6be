"""Crossed intervals against known answers, their coverage, and corrections for many tests."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from labutils.stats import bootstrap as stats

AXES = ("draw", "item", "sparsity")


def crossed(values: np.ndarray, names: tuple[str, ...] = AXES, **constants: object) -> pd.DataFrame:
    """A frame of differences from an array with one axis per name."""
    index = np.indices(values.shape).reshape(values.ndim, -1)
    return pd.DataFrame(dict(zip(names, index, strict=True)) | {"value": values.ravel()} | constants)


def test_equal_differences_give_an_interval_without_width() -> None:
    found = stats.crossed_bootstrap(crossed(np.full((4, 10, 3), 0.25)))
    assert (found.estimate, found.low, found.high) == (0.25, 0.25, 0.25)
    assert (found.n_items, found.n_draws, found.n_resamples, len(found.samples)) == (10, 4, 10_000, 10_000)


def test_single_units_are_reported_and_a_single_value_is_refused() -> None:
    values = np.random.default_rng(0).normal(size=(5, 30, 2))
    one_draw = stats.crossed_bootstrap(crossed(values[:1]))
    assert one_draw.note == "one draw only: its variation is not in the interval"
    one_item = stats.crossed_bootstrap(crossed(values[:, :1]))
    assert one_item.note == "one item only: its variation is not in the interval"
    assert one_item.low < one_item.estimate < one_item.high
    with pytest.raises(ValueError, match="at least two items or two draws"):
        stats.crossed_bootstrap(crossed(values[:1, :1]))


def test_bad_differences_are_refused_with_the_place() -> None:
    frame = crossed(np.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match="empty"):
        stats.crossed_bootstrap(frame.iloc[:0])
    with pytest.raises(ValueError, match="1 of 12 combinations are missing.*draw=1, item=0, sparsity=1"):
        stats.crossed_bootstrap(frame.drop(index=7))
    with pytest.raises(ValueError, match=r"NaN or infinite, first at draw=0, item=1"):
        stats.crossed_bootstrap(frame.assign(value=frame["value"].where(frame.index != 3)))
    with pytest.raises(ValueError, match="duplicate rows.*`cells`.*`strata`"):
        stats.crossed_bootstrap(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="strata differ in their cells"):
        other = frame[frame["sparsity"] == 1]
        stats.crossed_bootstrap(pd.concat([frame.assign(model="a"), other.assign(model="b")]))
    with pytest.raises(LookupError, match="Did you mean 'sparsity'"):
        stats.crossed_bootstrap(frame, cells=("sparsities",))
    with pytest.raises(ValueError, match="'median' is not known"):
        stats.crossed_bootstrap(frame, "median")


def test_item_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=400)
    ours = stats.crossed_bootstrap(crossed(values[None, :, None]), seed=1)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1)
    theirs = theirs.confidence_interval
    tolerance = 0.05 * (theirs.high - theirs.low)
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)


def test_interval_over_draws_alone_is_that_of_students_t() -> None:
    """With items that do not differ, the variation between n draws must give mean ± t(n-1) · s / sqrt(n)."""
    draws = np.random.default_rng(5).normal(size=12)
    found = stats.crossed_bootstrap(crossed(np.tile(draws[:, None, None], (1, 20, 1))), n_resamples=40_000)
    half = scipy.stats.t.ppf(0.975, 11) * draws.std(ddof=1) / np.sqrt(12)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.06)


def test_seeds_are_resampled_too() -> None:
    values = np.random.default_rng(2).normal(size=(1, 8, 1, 1)) + np.zeros((4, 8, 25, 1))  # only seeds differ
    found = stats.crossed_bootstrap(crossed(values, ("draw", "seed", "item", "sparsity")))
    half = scipy.stats.t.ppf(0.975, 7) * values[0, :, 0, 0].std(ddof=1) / np.sqrt(8)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_cells_share_weights_so_that_contrasts_between_them_are_paired() -> None:
    """Noise common to both sparsities cancels in their difference."""
    common = 10 * np.random.default_rng(0).normal(size=(4, 30, 1))
    found = stats.crossed_bootstrap(crossed(common + np.array([0.0, 0.5])), lambda means: means[:, 1] - means[:, 0])
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("shared", "names"),
    [("draws", ("calibration", "evaluation")), ("items", ("evaluation", "calibration"))],
)
def test_strata_share_the_units_they_have_in_common(shared: str, names: tuple[str, str]) -> None:
    """Of two strata equal in `names[0]` only, an effect of shared units cancels in the difference, no other does."""
    generator = np.random.default_rng(0)
    draws, items = generator.normal(size=(6, 1, 1)), generator.normal(size=(1, 30, 1))
    effect, other = (draws, items) if shared == "draws" else (items, draws)
    widths = []
    for values in (effect, other):
        table = np.broadcast_to(values, (6, 30, 1))
        strata = [crossed(table, **{names[0]: "same", names[1]: which}) for which in ("a", "b")]
        found = stats.crossed_bootstrap(pd.concat(strata), lambda means: means[:, 0] - means[:, 1])
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(0, abs=1e-12)
    assert widths[1] > 0.1


def test_coverage_of_crossed_intervals_and_of_intervals_over_items_only() -> None:
    """Draws and items both vary: 95 % intervals must hold the truth about 95 times in 100; those over items do not."""
    generator = np.random.default_rng(11)
    crossed_hits, naive_hits, trials = 0, 0, 150
    for trial in range(trials):
        n_draws = 4 + trial % 3
        draws, items = 0.5 * generator.normal(size=(n_draws, 1, 1)), generator.normal(size=(1, 40, 1))
        values = draws + items + generator.normal(size=(n_draws, 40, 2))
        full = stats.crossed_bootstrap(crossed(values), n_resamples=400, seed=trial)
        naive = stats.crossed_bootstrap(crossed(values.mean(axis=0, keepdims=True)), n_resamples=400, seed=trial)
        crossed_hits += full.low <= 0 <= full.high
        naive_hits += naive.low <= 0 <= naive.high
    # Standard error of a share near 0.95 over 150 trials: 0.018.
    assert 0.91 <= crossed_hits / trials <= 0.995
    assert naive_hits / trials < 0.85


def test_equal_seeds_give_equal_intervals() -> None:
    frame = crossed(np.random.default_rng(0).normal(size=(3, 9, 2)))
    first, again = (stats.crossed_bootstrap(rows, seed=4) for rows in (frame, frame.sample(frac=1, random_state=1)))
    assert (first.low, first.high) == (again.low, again.high)
    assert stats.crossed_bootstrap(frame, seed=5).low != first.low


def test_slope_is_least_squares_over_the_cells_averaged_over_strata() -> None:
    x, y = [0.1, 0.2, 0.4, 0.8], np.random.default_rng(0).normal(size=(2, 4))
    expected = np.polyfit(x, y.mean(axis=0), 1)[0]
    assert stats.slope(x)(y.reshape(1, 8)) == pytest.approx([expected])
    with pytest.raises(ValueError, match="increasing"):
        stats.slope([0.2, 0.1])
    with pytest.raises(ValueError, match="do not divide"):
        stats.slope([0.1, 0.2, 0.3])(y.reshape(1, 8))


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([-1, 1, 3], 0.5), ([-3, -1, 1], 1.5), ([-1, 0, 1], 1.0), ([-1, 1, -1], 0.5), ([1, -1, 1], 1.5),
        ([1, 2, 3], np.nan), ([3, 2, -1], np.nan), ([-1, -1, 0], np.nan), ([0, 0, 1], np.nan), ([1, 0, 1], np.nan),
    ],
)  # fmt: skip
def test_crossover_is_the_last_turn_from_negative_to_positive(means: list[float], expected: float) -> None:
    found = stats.crossover([0, 1, 2])(np.array([means], dtype=float))
    assert found == pytest.approx([expected], nan_ok=True)


def test_crossover_interval_tells_of_resamples_without_one() -> None:
    noise = np.random.default_rng(0).normal(size=(5, 40, 3))
    found = stats.crossed_bootstrap(crossed(noise + np.array([-0.1, 0.0, 0.1])), stats.crossover([0, 1, 2]))
    assert "of the resamples have no value" in found.note
    assert 0 <= found.low <= found.high <= 2
    with pytest.raises(ValueError, match="no p-value"):
        stats.p_value(found.samples)
    never = stats.crossed_bootstrap(crossed(0.01 * noise + 1), stats.crossover([0, 1, 2]))
    assert np.isnan([never.estimate, never.low, never.high]).all()
    assert "no value on these data" in never.note


def test_p_value_counts_resamples_beyond_the_boundary() -> None:
    samples = np.arange(1, 100, dtype=float)  # 99 resamples
    assert stats.p_value(samples) == pytest.approx(2 * 1 / 100)
    assert stats.p_value(samples, [10.5]) == pytest.approx(2 * 11 / 100)
    assert stats.p_value(samples, [89.5]) == pytest.approx(2 * 11 / 100)
    assert stats.p_value(samples, [50.0]) == 1.0


def test_p_value_of_equivalence_is_that_of_the_nearer_boundary() -> None:
    samples = np.arange(1, 100, dtype=float) - 60
    inside = stats.p_value(samples, (-70.0, 35.5))
    assert inside == stats.p_value(samples, (35.5,)) > stats.p_value(samples, (-70.0,))


def test_p_value_agrees_with_students_t() -> None:
    values = np.random.default_rng(8).normal(0.25, 1, size=60)
    found = stats.p_value(stats.crossed_bootstrap(crossed(values[None, :, None]), n_resamples=20_000).samples)
    assert found == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, rel=0.35)


def test_holm_against_a_worked_example() -> None:
    """0.01·4, then max(0.04, 0.02·3), then max(0.06, 0.03·2), then max(0.06, 0.04·1), back in the given order."""
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
    assert len(stats.holm([])) == 0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        stats.holm([0.5, 1.5])


def test_heterogeneity_against_a_worked_example() -> None:
    """Effects 0, 0, 3 with standard error 1: mean 1, Q = 1 + 1 + 4 = 6, I² = (6 - 2) / 6."""
    found = stats.heterogeneity([0, 0, 3], [1, 1, 1])
    assert (found.q, found.degrees_of_freedom, found.i_squared) == pytest.approx((6, 2, 2 / 3))
    assert found.p_value == pytest.approx(np.exp(-3))  # chi² of two degrees of freedom
    assert stats.heterogeneity([2, 2], [1, 3]).i_squared == 0
    alone = stats.heterogeneity([1.0], [1.0])
    assert alone.q == 0 and np.isnan(alone.i_squared) and np.isnan(alone.p_value)
    for estimates, errors in (([], []), ([1, 2], [1, 0]), ([1, np.nan], [1, 1]), ([1, 2], [1])):
        with pytest.raises(ValueError, match="finite estimates"):
            stats.heterogeneity(estimates, errors)


def test_expected_number_of_false_contradictions() -> None:
    assert stats.expected_false_contradictions(62) == pytest.approx(1.55)
    assert stats.expected_false_contradictions(10, level=0.9) == pytest.approx(0.5)


def test_an_interval_of_samples_is_their_percentiles() -> None:
    samples = np.random.default_rng(0).normal(size=999)
    found = stats.Interval.from_samples(0.1, samples, level=0.9, n_items=7, n_draws=3, note="one seed")
    assert [found.low, found.high] == pytest.approx(np.quantile(samples, [0.05, 0.95]))
    assert (found.n_items, found.n_draws, found.n_resamples, found.note) == (7, 3, 999, "one seed")
    samples[:9] = np.nan
    assert stats.Interval.from_samples(0.1, samples, level=0.9, n_items=7).note == "0.9% of the resamples have no value"
    assert np.isnan(stats.Interval.from_samples(np.nan, samples, level=0.9, n_items=7).low)


@pytest.mark.parametrize(
    ("numbers", "form", "written"),
    [
        ((0.3136, 0.12, 0.499), "", "+0.31 [0.12, 0.50]"),
        ((-0.0049, -0.0112, 0.0013), "", "−0.005 [−0.011, 0.001]"),
        ((0.3136, 0.12, 0.499), ".3f", "0.314 [0.120, 0.499]"),
        ((0.3136, 0.12, 0.499), "+.1f points", "+0.3 points [0.1, 0.5]"),
        ((-0.001, -0.004, 0.001), "+.2f", "0.00 [0.00, 0.00]"),
        ((0.25, -0.5, 1.0), ".0% of all", "25% of all [−50%, 100%]"),
        ((float("nan"), float("nan"), float("nan")), "", "nan [nan, nan]"),
        ((2.0, 2.0, 2.0), "", "+2.0 [2.0, 2.0]"),
    ],
)
def test_intervals_are_written_for_readers(numbers: tuple[float, float, float], form: str, written: str) -> None:
    estimate, low, high = numbers
    interval = stats.Interval(estimate, low, high, 0.95, 4, 2, 3, np.zeros(3))
    assert format(interval, form) == written and (form or str(interval) == written)


def test_an_undefined_interval_says_why_and_makes_no_verdict() -> None:
    interval = stats.Interval.undefined("there is one set")
    assert not interval.defined and str(interval) == f"{interval:+.2f points}" == "not testable here (there is one set)"
    assert stats.Interval.from_samples(0.5, np.zeros(3), level=0.95, n_items=4).defined
