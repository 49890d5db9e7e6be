"""Power by drawing studies of another size: against fresh studies of planted truth, over the evidence's own units."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nct, t

from labutils.claims.power import power_of
from labutils.claims.registry import judge, not_testable
from labutils.claims.verdicts import Verdict
from labutils.stats.bootstrap import crossed_bootstrap, slope
from labutils.stats.few_units import interval_over_units
from labutils.sweeps.task_contrasts import knowledge_contrast
from labutils.sweeps.within_cells import within_cell_correlation

SCOPE = {"model": "tiny"}


def exact(generator: np.random.Generator, n: int, deviation: float) -> np.ndarray:
    """Normal numbers with exactly this standard deviation, and mean zero."""
    found = generator.normal(size=n)
    return deviation * (found - found.mean()) / found.std(ddof=1)


def study(
    effect: float, n_items: int, n_draws: int = 2, *, seed: int = 0, draw_deviation: float = 0.0, fresh: bool = False
) -> pd.DataFrame:
    """Items of standard deviation 1 and draws in one cell; their moments are exact unless the study is a fresh one."""
    generator = np.random.default_rng(seed)
    make = (lambda g, n, deviation: g.normal(0, deviation, n)) if fresh else exact
    items, draws = make(generator, n_items, 1.0), make(generator, n_draws, draw_deviation)
    return pd.DataFrame(
        [{"evaluation": "a", "calibration": "a", "item": item, "draw": draw, "sparsity": 0.6, "value": effect + x + y}
         for item, x in enumerate(items) for draw, y in enumerate(draws)]
    )  # fmt: skip


def verdict(frame: pd.DataFrame, **options: object) -> Verdict:
    found = crossed_bootstrap(frame, n_resamples=500, **options)
    return judge("C05", interval=found, dense_loss=1.0, scope=SCOPE)


def of_t_test(effect: float, n: int) -> float:
    """How often Student's test at 5 % finds an effect of so many standard deviations in n units, on its own side."""
    return 1 - nct.cdf(t.ppf(0.975, n - 1), n - 1, effect * np.sqrt(n))


@pytest.mark.parametrize(("n_items", "n_draws"), [(36, 9), (12, 9)])
def test_the_power_told_is_the_share_of_fresh_studies_that_decide(n_items: int, n_draws: int) -> None:
    """From 40 items and 10 draws: nearly all of them, and few."""
    planted = {"effect": 0.6, "draw_deviation": 0.3}
    large, small = (verdict(study(n_items=n, n_draws=m, **planted)) for n, m in ((40, 10), (n_items, n_draws)))
    assert large.outcome == "supported"
    told = power_of(large, small, n_studies=120)
    fresh = [
        verdict(study(n_items=n_items, n_draws=n_draws, seed=seed, fresh=True, **planted)).outcome
        for seed in range(1, 121)
    ]
    assert told == pytest.approx(fresh.count("supported") / len(fresh), abs=0.12)  # two standard errors of each


def test_a_study_as_large_is_another_one() -> None:
    """The power of a study with p near 0.05 is about one half, and not 1."""
    effect = t.ppf(0.975, 39) / np.sqrt(40) + 0.04
    large = verdict(study(effect, n_items=40))
    assert large.outcome == "supported" and 0.3 < power_of(large, large, n_studies=40) < 0.8


def test_power_is_that_of_a_t_test_of_that_size() -> None:
    """Of 400 items with effect 0.5 and deviation 1, studies of 20 see it with the power of Student's test."""
    large, small = verdict(study(0.5, n_items=400)), verdict(study(0.5, n_items=20, seed=1))
    assert power_of(large, small, n_studies=80) == pytest.approx(of_t_test(0.5, 20), abs=0.14)


def test_units_are_the_columns_that_the_evidence_names() -> None:
    """Items and draws of other names; as much as with those that rows usually have."""
    names, options = {"item": "text", "draw": "pick"}, {"item": "text", "draw": "pick", "cells": (), "strata": ()}
    large, small = (
        verdict(study(0.5, n_items=n).rename(columns=names)[["text", "pick", "value"]], **options) for n in (200, 16)
    )
    assert power_of(large, small, n_studies=60) == pytest.approx(of_t_test(0.5, 16), abs=0.16)


def test_units_of_an_interval_over_units_are_drawn() -> None:
    def over_rules(n: int) -> Verdict:
        effects = pd.DataFrame({"rule": range(n), "estimate": 0.6 + exact(np.random.default_rng(n), n, 1.0)})
        return judge("C05", interval=interval_over_units(effects, unit="rule"), dense_loss=1.0, scope=SCOPE)

    told = power_of(over_rules(60), over_rules(15), n_studies=100)
    assert told == pytest.approx(of_t_test(0.6, 15), abs=0.12)


def test_clusters_of_a_correlation_are_drawn_though_they_are_data_sets() -> None:
    def over_tasks(n: int) -> Verdict:
        generator = np.random.default_rng(3)
        x = generator.normal(size=n)
        y = x + 1.5 * generator.normal(size=n)
        rows = [{"task": f"task {i}", "method": m, "x": x[i], "y": y[i]} for i in range(n) for m in "ab"]
        found = within_cell_correlation(pd.DataFrame(rows), "x", "y", cells=["method"], cluster="task")
        return judge("C09", interval=found, scope=SCOPE)

    large = over_tasks(60)
    assert large.outcome == "supported"
    powers = [power_of(large, over_tasks(n), n_studies=25) for n in (6, 60)]
    assert powers[0] < 0.5 < 0.65 < powers[1]


def knowledge(effect: float, n_items: int, n_windows: int) -> Verdict:
    """Three tasks that lose some knowledge, and texts whose loss does not rise; one table beside the other."""
    generator, about = np.random.default_rng(0), {"calibration": "c", "method": "wanda", "sparsity": 0.5}
    drops = pd.DataFrame(
        [{**about, "task": task, "draw": draw, "item": item, "dense": 1.0, "chance": 0.25,
          "value": float(generator.random() < effect)}
         for task in "xyz" for draw in range(4) for item in range(n_items)]
    )  # fmt: skip
    dense = [{**about, "method": "dense", "draw": -1, "item": item, "loss": 1.0} for item in range(n_windows)]
    pruned = [{**about, "draw": draw, "item": item, "loss": 1.0 + 0.01 * generator.normal()}
              for draw in range(4) for item in range(n_windows)]  # fmt: skip
    losses = pd.DataFrame([*dense, *pruned]).assign(evaluation="text")
    return judge("C23", interval=knowledge_contrast(drops, losses, n_resamples=500), scope=SCOPE)


def test_a_second_table_is_drawn_with_the_first() -> None:
    """Losses without the draws of the drops, or without the dense rows, would be refused by the contrast."""
    large, small = knowledge(0.1, 80, 30), knowledge(0.1, 5, 6)
    assert large.outcome == "supported" and list(large.judged.evidence.more) == ["losses"]
    assert power_of(large, large, n_studies=5) == 1.0 > 0.8 > power_of(large, small, n_studies=15)


def by_sparsity(grid: list[float]) -> Verdict:
    frame = pd.concat([study(0.5, n_items=9).assign(sparsity=x) for x in grid], ignore_index=True)
    return verdict(frame, statistic=slope(grid))


def by_rules() -> Verdict:
    effects = pd.DataFrame({"rule": range(4), "estimate": [0.1, 0.2, 0.3, 0.4]})
    return judge("C05", interval=interval_over_units(effects, unit="rule"), dense_loss=1.0, scope=SCOPE)


@pytest.mark.parametrize(
    ("small", "match"),
    [
        (lambda: not_testable("C05", "no rows", scope=SCOPE), "two verdicts on one claim with their rows"),
        (lambda: by_sparsity([0.8, 0.9]), "no setting and no sparsity in common"),
        (by_rules, "judged by other functions"),
        (lambda: by_sparsity([0.5, 0.6, 0.9]), "of which the two studies share a part only"),
    ],
)
def test_what_cannot_be_compared_is_refused(small: Callable[[], Verdict], match: str) -> None:
    large = by_sparsity([0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match=match):
        power_of(large, small())


def test_a_slope_is_over_the_grid_of_the_smaller_study() -> None:
    """Four of eight sparsities: the slope is over these four, not over eight of which half are others."""
    gains = {0.1 * k: 0.5 * k for k in range(1, 9)}
    frames = {x: study(gain, n_items=20).assign(sparsity=x) for x, gain in gains.items()}
    large = verdict(pd.concat(frames.values()), statistic=slope(list(frames)))
    chosen = list(frames)[::2]
    small = verdict(pd.concat([frames[x].query("item < 8") for x in chosen]), statistic=slope(chosen))
    assert large.outcome == "supported" and power_of(large, small, n_studies=10) == 1.0
