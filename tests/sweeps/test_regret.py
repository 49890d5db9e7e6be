"""Regret at its worst, by setting, and of rules that were not run."""

import itertools

import numpy as np
import pandas as pd
import pytest
from made_sweeps import ARMS, GRID, made_sweep, paper

import labutils as lab


def with_arm(choose, **options) -> pd.DataFrame:
    """A sweep of the paper's world with an arm "mine" that is `choose(model, sparsity)` plus what it loses."""

    def loss(model, arm, s):
        if arm != "mine":
            return paper(model, arm, s)
        component, lost = choose(model, s)
        return paper(model, component, s) + lost

    return made_sweep(loss, arms=[*ARMS, "mine"], noise=0.001, **options)


BEST = {0.2: "ria/uniform", 0.4: "ria/uniform", 0.6: "sparsegpt/owl", 0.8: "sparsegpt/owl"}


def test_the_worst_setting_is_not_averaged_away() -> None:
    """In one model of three all goes wrong at 0.8, and in the others it is better than its components."""
    rows = with_arm(lambda m, s: (BEST[s], 1.0 if (m, s) == ("m1", 0.8) else -0.5), models=["m0", "m1", "m2"])
    advantage = lab.sweeps.relative_advantage(rows, "mine", ARMS)
    found = lab.stats.lowest_cell(advantage, cells=("contrast", "sparsity")).interval
    assert found.estimate == pytest.approx(-50, abs=0.5) and found.low < -49 and found.high < -49  # % of a loss of 2
    table = lab.sweeps.worst_regrets(rows, "mine", ARMS).set_index("model")
    assert table.loc["m1", ["sparsity", "component"]].tolist() == [0.8, "sparsegpt/owl"]
    assert table["regret"].tolist() == pytest.approx([-25, 50, -25], abs=0.5)
    assert (table["low"] <= table["regret"]).all() and (table["regret"] <= table["high"]).all()


def test_regret_of_rules_equals_that_of_an_arm_that_follows_them() -> None:
    thresholds = [*GRID, np.inf]
    base = with_arm(lambda m, s: ("ria/uniform", 0.0), models=["m0", "m1"])
    found = lab.sweeps.rule_regrets(base)
    assert len(found) == len(thresholds) ** 2 * 2 * len(GRID)
    keyed = found.set_index(["threshold", "spread_from", "model", "evaluation", "sparsity"])["regret"]
    for threshold, start in itertools.product(thresholds, thresholds):
        arms = {s: f"{'sparsegpt' if s >= threshold else 'ria'}/{'owl' if s >= start else 'uniform'}" for s in GRID}
        followed = pd.concat([base[(base["sparsity"] == s) & (base["arm"] == arm)] for s, arm in arms.items()])
        rows = pd.concat([base[base["arm"] != "mine"], followed.assign(arm="mine")])
        expected = lab.sweeps.regret_table(rows, "mine", ARMS)
        for (model, evaluation), values in expected.iterrows():
            own = keyed.loc[threshold, start, model, evaluation]
            assert own.tolist() == pytest.approx(values.tolist())


def test_the_papers_rule_has_no_regret_in_the_papers_world() -> None:
    worst = lab.sweeps.rule_regrets(with_arm(lambda m, s: ("ria/uniform", 0.0))).groupby(["threshold", "spread_from"])
    table = worst["regret"].max().unstack()
    assert table.stack().idxmin() == (0.6, 0.6) and table.loc[0.6, 0.6] == pytest.approx(0, abs=1e-3)
    assert table.loc[np.inf, np.inf] == pytest.approx(0.3, abs=0.01)


def test_without_an_arm_there_are_no_rules_to_tell() -> None:
    rows = with_arm(lambda m, s: ("ria/uniform", 0.0))
    assert lab.sweeps.rule_regrets(rows[rows["arm"] != "ria/owl"]).empty
