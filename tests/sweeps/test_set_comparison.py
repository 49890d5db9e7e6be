"""One calibration set against the others, on drops whose sets, draws and items are planted."""

import numpy as np
import pandas as pd
import pytest

from labutils.sweeps.set_comparison import gain_over_best, gains_over_sets, leave_one_set_out

TASKS = {"x": 16, "y": 30}


def planted(levels, seed=0, n_draws=3, draw_noise=0.005, item_noise=0.2):
    """Drops of every set around its level; draws and items have noise of their own, items share most of theirs."""
    generator = np.random.default_rng(seed)
    own_noise = {task: item_noise * generator.normal(size=count) for task, count in TASKS.items()}
    frames = []
    for name, level in levels.items():
        for draw in range(n_draws):
            shift = level + draw_noise * generator.normal()
            for task, count in TASKS.items():
                for method in "mn":
                    value = shift + own_noise[task] + 0.02 * generator.normal(size=count)
                    about = {"calibration": name, "draw": draw, "task": task, "method": method, "sparsity": 0.6}
                    frames.append(pd.DataFrame({**about, "item": range(count), "value": value}))
    return pd.concat(frames, ignore_index=True)


def test_a_set_that_decides_is_told_by_leaving_it_out():
    levels = {"mixture": 0.0} | dict.fromkeys("abcdef", 0.05)
    effects = leave_one_set_out(planted(levels))
    assert list(effects) == ["none", *levels] and effects["none"].log_ratio.low > 0
    assert effects["mixture"].log_ratio.low < 0 and effects["mixture"].f_ratio < 4
    assert all(effects[name].log_ratio.low > 0 for name in "abcdef")
    spread = leave_one_set_out(planted({name: 0.05 * number for number, name in enumerate("abcdef")}))
    assert all(each.log_ratio.low > 0 for each in spread.values())


def test_two_sets_leave_none_to_compare_when_one_is_left_out():
    effects = leave_one_set_out(planted({"a": 0.0, "b": 0.1}))
    assert [each.log_ratio.defined for each in effects.values()] == [True, False, False]


def test_gains_over_single_sets_are_those_planted():
    drops = planted({"mixture": 0.0, "a": 0.05, "b": 0.02})
    table = gains_over_sets(drops, "mixture", others=["a", "b"]).set_index("calibration")
    means = drops.groupby(["calibration", "task"])["value"].mean().groupby("calibration").mean()
    for name in "ab":
        assert table.loc[name, "estimate"] == pytest.approx(means[name] - means["mixture"])
        assert table.loc[name, "low"] < {"a": 0.05, "b": 0.02}[name] < table.loc[name, "high"]


def test_the_gain_over_the_best_is_not_biased_by_having_chosen_it():
    """Eight equal sets: the smallest of their means lies below their common mean, the cross-fitted gain at zero."""
    singles, gains, naive = [f"s{n}" for n in range(8)], [], []
    for seed in range(16):
        drops = planted(dict.fromkeys(["mixture", *singles], 0.1), seed=seed, draw_noise=0.02, n_draws=4)
        found = gain_over_best(drops, "mixture", others=singles, seed=seed)
        gains.append(found.gain.estimate)
        means = drops.groupby(["calibration", "task"])["value"].mean().groupby("calibration").mean()
        naive.append(means[singles].min() - means["mixture"])
        assert sum(found.chosen.values()) == pytest.approx(1)
    error = np.std(gains, ddof=1) / np.sqrt(len(gains))
    assert abs(np.mean(gains)) < 3 * error < 0.02
    assert np.mean(naive) < -0.008


def test_a_clear_best_set_is_chosen_every_time():
    drops = planted({"mixture": 0.0, "a": 0.05, "b": 0.2})
    found = gain_over_best(drops, "mixture", others=["b", "a"])
    assert found.chosen == {"b": 0, "a": 1}
    means = drops.groupby(["calibration", "task"])["value"].mean().groupby("calibration").mean()
    assert found.gain.estimate == pytest.approx(means["a"] - means["mixture"])
    assert found.gain.low < 0.05 < found.gain.high
    with pytest.raises(ValueError, match="same items in every draw"):
        gain_over_best(drops, "mixture", others=["c"])
    with pytest.raises(ValueError, match="at least two items"):
        gain_over_best(drops[drops["item"] < 1], "mixture", others=["a", "b"])


def test_one_draw_splits_the_items_alone():
    drops = planted({"mixture": 0.0, "a": 0.05, "b": 0.2}, n_draws=1)
    assert gain_over_best(drops, "mixture", others=["a", "b"]).chosen["a"] == 1
