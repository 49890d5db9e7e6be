"""Variance components against simulated truth and the literal sums, and the interval of the ratio of two variances."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as fisher
from scipy.stats import f_oneway

from labutils.claims.registry import judge
from labutils.sweeps.figures import component_dots
from labutils.sweeps.variance import score_table, set_effect, variance_components


def simulate(generator, shape, deviations):
    """Scores with known deviations of set, draw, item, set × item and residual."""
    n_sets, n_draws, n_items = shape
    by_set, by_draw, by_item, by_both, rest = deviations
    return (
        by_set * generator.normal(size=(n_sets, 1, 1))
        + by_draw * generator.normal(size=(n_sets, n_draws, 1))
        + by_item * generator.normal(size=(1, 1, n_items))
        + by_both * generator.normal(size=(n_sets, 1, n_items))
        + rest * generator.normal(size=shape)
    )


def test_components_are_unbiased_on_simulated_scores():
    generator = np.random.default_rng(0)
    truth = (0.8, 0.5, 1.0, 0.4, 0.6)
    found = np.mean(
        [variance_components(simulate(generator, (8, 4, 20), truth))["variance"] for _ in range(200)], axis=0
    )
    np.testing.assert_allclose(found, np.square(truth), rtol=0.12)


def test_components_of_a_table_by_hand():
    """Two sets, two draws, two items, no interaction and no residual: every square is worth one number."""
    scores = np.array([[[0.0, 1.0], [2.0, 3.0]], [[10.0, 11.0], [12.0, 13.0]]])
    frame = variance_components(scores).set_index("component")["variance"]
    assert frame["residual"] == frame["set × item"] == 0
    assert frame["item"] == pytest.approx(0.5)  # items differ by 1: variance of (0, 1)
    assert frame["draw"] == pytest.approx(2.0)  # draws differ by 2: variance of (0, 2)
    assert frame["set"] == pytest.approx(50 - 2 / 2)  # set means differ by 10: 50, less the draws' share
    assert variance_components(scores)["share"].sum() == pytest.approx(1)


def test_the_ratio_is_the_f_ratio_of_the_draws_scores_with_its_exact_interval():
    generator = np.random.default_rng(1)
    scores = simulate(generator, (6, 5, 4), (2.0, 1.0, 0.5, 0, 0.3))
    effect = set_effect(scores, n_resamples=20_000)
    assert effect.log_ratio.units == ("item", "draw of every calibration set")
    reference = f_oneway(*scores.mean(2)).statistic
    assert effect.f_ratio == pytest.approx(reference)
    ratio = (reference - 1) / 5
    assert effect.log_ratio.estimate == pytest.approx(np.log(ratio))
    assert effect.intraclass == pytest.approx(ratio / (1 + ratio))
    limits = [(reference / fisher.ppf(level, 5, 24) - 1) / 5 for level in (0.975, 0.025)]
    found = np.exp([effect.log_ratio.low, effect.log_ratio.high])
    np.testing.assert_allclose(found, limits, rtol=0.05)


def test_the_interval_covers_the_true_ratio():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        interval = set_effect(simulate(generator, (6, 4, 3), (1.5, 1.0, 0, 0, 0)), n_resamples=400).log_ratio
        covered += interval.low <= np.log(1.5**2) <= interval.high
    assert 0.90 <= covered / 150 <= 0.99


def test_draws_that_agree_exactly_are_bounded():
    scores = np.repeat(np.arange(3.0)[:, None, None], 2, axis=1) + np.zeros((1, 1, 4))
    agreed = set_effect(scores, n_resamples=200)
    assert agreed.log_ratio.estimate == pytest.approx(np.log(1000)) and agreed.intraclass == 1
    assert set_effect(np.zeros((3, 2, 4)), n_resamples=200).log_ratio.estimate == pytest.approx(np.log(1e-3))


def test_the_table_of_scores_averages_over_the_grid_and_must_be_complete():
    rows = [
        {"calibration": c, "draw": d, "task": t, "item": i, "method": m, "value": v}
        for c in "ab" for d in range(2) for t in "xy" for i in range(3)
        for m, v in (("p", 1.0 + d), ("q", 3.0 + d))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    table = score_table(frame.sample(frac=1, random_state=0))
    assert table.shape == (2, 2, 6) and (table[:, 0] == 2).all() and (table[:, 1] == 3).all()
    with pytest.raises(ValueError, match="must be read on the same items"):
        score_table(frame[(frame["draw"] == 0) | (frame["item"] > 0)])


def test_one_set_or_one_draw_cannot_be_told_from_chance():
    scores = np.random.default_rng(0).normal(size=(3, 4, 5))
    for few, counted in ((scores[:1], "1 with 4"), (scores[:, :1], "3 with 1")):
        effect = set_effect(few)
        assert np.isnan(effect.f_ratio) and np.isnan(effect.intraclass) and not effect.log_ratio.defined
        verdict = judge("C07", interval=effect.log_ratio, scope={"model": "m"})
        assert verdict.outcome == "not testable here" and verdict.note.endswith(f"needed; there are {counted}")
        shares = variance_components(few)
        assert shares["share"].isna().all() and list(shares["component"]) == list(
            variance_components(scores)["component"]
        )
        component_dots(shares.assign(group="wanda"), unit="points", title="none", order=["wanda"])
