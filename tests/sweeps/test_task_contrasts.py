"""Drops and contrasts of a task sweep against plain averages, and their intervals on simulated truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, spearmanr

from labutils.sweeps.task_contrasts import (
    add_drops,
    calibration_gain,
    family_contrast,
    family_contrast_over_tasks,
    knowledge_contrast,
    rank_correlation,
    relative_drops,
    task_check,
)

TASKS = {"s1": "sentiment", "s2": "sentiment", "q1": "qa", "q2": "qa", "i1": "inference"}
DENSE = {"s1": 0.9, "s2": 0.8, "q1": 0.6, "q2": 0.7, "i1": 0.95}


def make_rows(loss: dict[str, float], seed: int = 0, n_items: int = 400) -> pd.DataFrame:
    """A sweep in which every item of a task is solved with a probability that the pruning lowers by `loss` of it."""
    generator = np.random.default_rng(seed)
    rows = []
    for task, family in TASKS.items():
        solved = generator.random(n_items) < DENSE[task]
        dense = {"calibration": "none", "draw": -1, "method": "dense", "sparsity": 0.0, "score": solved.astype(float)}
        arms = [dense]
        for calibration in ("a", "b"):
            for draw in range(3):
                for method in ("m", "n"):
                    kept = solved & (generator.random(n_items) >= loss[family])
                    arms.append(
                        {
                            "calibration": calibration,
                            "draw": draw,
                            "method": method,
                            "sparsity": 0.5,
                            "score": kept.astype(float),
                        }
                    )
        for arm in arms:
            rows.append(pd.DataFrame({**arm, "task": task, "family": family, "item": range(n_items), "model": "toy"}))
    return pd.concat(rows, ignore_index=True)


def test_relative_drops_are_ratios_of_means():
    drops = add_drops(make_rows({"sentiment": 0.3, "qa": 0.1, "inference": 0.2}))
    assert len(drops) == 5 * 12 * 400 and (drops["value"] == drops["dense"] - drops["score"]).all()
    table = relative_drops(drops)
    for row in table.itertuples():
        part = drops[(drops["task"] == row.task) & (drops["method"] == row.method)]
        assert row.relative_drop == pytest.approx(part["value"].mean() / part["dense"].mean())
        assert row.relative_drop == pytest.approx({"sentiment": 0.3, "qa": 0.1, "inference": 0.2}[row.family], abs=0.04)
    flat = drops.assign(dense=0.0, value=0.0)
    assert relative_drops(flat)["relative_drop"].isna().all()


def test_a_family_that_loses_more_is_told_from_the_others():
    drops = add_drops(make_rows({"sentiment": 0.3, "qa": 0.1, "inference": 0.2}))
    found = family_contrast(drops, "sentiment", n_resamples=2000)
    table = relative_drops(drops, by=["task"]).set_index("task")["relative_drop"]
    assert found.estimate == pytest.approx(table[["s1", "s2"]].mean() - table[["q1", "q2", "i1"]].mean())
    assert found.low < 0.3 - 0.4 / 3 < found.high and found.low > 0.1 and found.high < 0.25
    even = family_contrast(
        add_drops(make_rows(dict.fromkeys(("sentiment", "qa", "inference"), 0.2))), "qa", n_resamples=2000
    )
    assert even.low < 0 < even.high
    with pytest.raises(LookupError, match="inside and outside of the family 'taste'"):
        family_contrast(drops, "taste")
    with pytest.raises(ValueError, match="scores 0 on s1"):
        family_contrast(drops.assign(dense=np.where(drops["task"] == "s1", 0.0, drops["dense"])), "qa")


def data_sets(generator, own, others, n_own=6, n_others=12, between=0.1):
    """Data sets of two families whose relative drops scatter around the families' means; 3 draws, 20 items."""
    frames = []
    for family, mean, count in (("sentiment", own, n_own), ("qa", others, n_others)):
        for number in range(count):
            level = mean + between * generator.normal()
            for draw in range(3):
                lost = level + 0.02 * generator.normal(size=20)
                about = {"task": f"{family}{number}", "family": family, "calibration": "c", "draw": draw}
                frames.append(pd.DataFrame({**about, "method": "m", "sparsity": 0.5, "item": range(20), "value": lost}))
    return pd.concat(frames, ignore_index=True).assign(dense=1.0)


def test_a_family_is_compared_over_its_data_sets_where_they_differ():
    drops = data_sets(np.random.default_rng(0), own=0.1, others=0.2)
    items, tasks = (
        each(drops, "sentiment", n_resamples=2000) for each in (family_contrast, family_contrast_over_tasks)
    )
    assert tasks.estimate == pytest.approx(items.estimate)
    assert (tasks.n_items, tasks.n_draws, tasks.units[0]) == (18, 3, "data set")
    assert tasks.high - tasks.low > 3 * (items.high - items.low)
    renamed = drops.assign(task=drops["task"].map(lambda name: f"x{hash(name) % 997}{name}"))
    assert family_contrast_over_tasks(renamed, "sentiment", n_resamples=200).estimate == pytest.approx(tasks.estimate)
    alone = drops[(drops["family"] == "qa") | (drops["task"] == "sentiment0")]
    assert not family_contrast_over_tasks(alone, "sentiment").defined


def test_the_interval_over_data_sets_holds_the_families_true_difference():
    generator = np.random.default_rng(1)
    found = [
        family_contrast_over_tasks(data_sets(generator, 0.1, 0.2), "sentiment", n_resamples=200) for _ in range(60)
    ]
    held = np.mean([each.low < -0.1 < each.high for each in found])
    assert held > 0.87  # 95 % less the noise of 60 studies


def test_a_gain_is_paired_item_by_item():
    drops = add_drops(make_rows({"sentiment": 0.3, "qa": 0.1, "inference": 0.2}, n_items=60))
    gained = drops.assign(value=np.where(drops["calibration"] == "b", drops["value"] - 0.05, drops["value"]))
    found = calibration_gain(gained, "a", "b", n_resamples=1000)
    means = gained.groupby("calibration")["value"].mean()
    assert found.estimate == pytest.approx(means["a"] - means["b"]) and found.low < found.estimate < found.high
    same = pd.concat([drops[drops["calibration"] == "a"].assign(calibration=name) for name in ("a", "b")])
    none = calibration_gain(same, "a", "b", n_resamples=200)
    assert none.estimate == none.low == none.high == 0


def test_tasks_at_chance_are_told():
    rows = make_rows(dict.fromkeys(("sentiment", "qa", "inference"), 0.2)).assign(chance=0.5, majority=0.5)
    bars = {"chance": np.where(rows["task"] == "q1", 0.58, 0.5), "majority": np.where(rows["task"] == "q2", 0.68, 0.5)}
    check = task_check(rows.assign(**bars)).set_index("task")
    assert check["usable"].to_dict() == {"s1": True, "s2": True, "q1": False, "q2": False, "i1": True}
    dense = rows[(rows["method"] == "dense") & (rows["task"] == "s1")]["score"]
    right, n = int(dense.sum()), len(dense)
    exact = beta.ppf(0.025, right, n - right + 1), beta.ppf(0.975, right + 1, n - right)
    assert check.loc["s1", ["dense", "low", "high"]].tolist() == pytest.approx([dense.mean(), *exact])


@pytest.mark.parametrize("right, low, high", [(8, 0.6306, 1.0), (0, 0.0, 0.3694), (4, 0.1570, 0.8430)])
def test_few_items_do_not_make_a_sure_accuracy(right, low, high):
    scores = [1.0] * right + [0.0] * (8 - right)
    rows = pd.DataFrame({"method": "dense", "task": "t", "family": "qa", "item": range(8), "score": scores})
    check = task_check(rows.assign(chance=0.5, majority=0.62)).iloc[0]
    assert (check["low"], check["high"]) == pytest.approx((low, high), abs=1e-4)  # of Clopper and Pearson's tables
    assert check["usable"] == (right == 8)
    assert not task_check(rows.assign(chance=0.5, majority=0.64)).iloc[0]["usable"]
    similar = rows.assign(score=np.linspace(0.2, 0.9, 8), chance=0.0, majority=0.0)
    half = 1.959964 * similar["score"].std() / np.sqrt(8)
    found = task_check(similar).iloc[0]
    assert (found["low"], found["high"]) == pytest.approx((0.55 - half, 0.55 + half))


def text_losses(n_windows, rise=0.02, repeats=1):
    """Windows of text whose loss every pruning raises by `rise` on average, window by window by another amount."""
    generator = np.random.default_rng(3)
    dense = np.tile(generator.normal(2.0, 0.4, size=n_windows), repeats)
    added = np.tile(generator.normal(rise, 0.5 * rise, size=n_windows), repeats)
    arms = [
        ("text", -1, "dense", 0.0, dense),
        *((c, d, m, 0.5, dense + added) for c in "ab" for d in range(3) for m in "mn"),
    ]
    return pd.concat(
        [
            pd.DataFrame(
                {"calibration": c, "draw": d, "method": m, "sparsity": s, "item": range(len(loss)), "loss": loss}
            )
            for c, d, m, s, loss in arms
        ]
    ).assign(evaluation="text")


def closed_book_drops(**options):
    rows = make_rows({"sentiment": 0.3, "qa": 0.2, "inference": 0.2}, **options)
    drops = add_drops(rows)
    return drops[drops["family"] == "qa"].assign(chance=0.25)


def test_knowledge_lost_is_set_against_the_rise_of_perplexity():
    drops, losses = closed_book_drops(), text_losses(50)
    found = knowledge_contrast(drops, losses, n_resamples=2000)
    lost = [part["value"].mean() / (part["dense"].mean() - 0.25) for _, part in drops.groupby("task")]
    pruned = losses[losses["method"] != "dense"]["loss"].mean()
    risen = np.exp(pruned - losses[losses["method"] == "dense"]["loss"].mean()) - 1
    assert found.estimate == pytest.approx(np.mean(lost) - risen) and found.low > 0
    worse = knowledge_contrast(drops, text_losses(50, rise=1.0), n_resamples=2000)
    assert worse.high < 0  # perplexity has more than doubled, and a third of the knowledge is gone


def test_what_knowledge_is_weighed_by_does_not_depend_on_how_much_was_read():
    """The same distribution of windows and of questions, read twice as often: only the interval narrows."""
    drops, losses = closed_book_drops(n_items=60), text_losses(24)
    found = knowledge_contrast(drops, losses, n_resamples=2000)
    more_text = knowledge_contrast(drops, text_losses(24, repeats=2), n_resamples=2000)
    again = drops.assign(item=drops["item"] + 60)
    more_items = knowledge_contrast(pd.concat([drops, again]), losses, n_resamples=2000)
    assert more_text.estimate == pytest.approx(found.estimate) == more_items.estimate
    assert more_items.high - more_items.low < found.high - found.low


def test_knowledge_is_not_weighed_where_there_is_none_or_nothing_to_compare():
    drops, losses = closed_book_drops(), text_losses(50)
    with pytest.raises(ValueError, match="same calibration sets"):
        knowledge_contrast(drops, losses[losses["draw"] < 1])
    with pytest.raises(ValueError, match="not above chance on q1"):
        knowledge_contrast(drops.assign(dense=np.where(drops["task"] == "q1", 0.2, drops["dense"])), losses)


def test_the_rank_correlation_resamples_clusters():
    generator = np.random.default_rng(0)
    level, other = (np.repeat(generator.normal(size=30), 4) for _ in range(2))
    frame = pd.DataFrame({"task": np.repeat(np.arange(30), 4), "x": level + 0.1 * generator.normal(size=120)})
    frame["y"] = level + other + 0.1 * generator.normal(size=120)
    found = rank_correlation(frame, "x", "y", cluster="task")
    assert found.units[0] == "task" and found.n_draws is None
    assert found.estimate == pytest.approx(spearmanr(frame["x"], frame["y"]).statistic)
    rows = rank_correlation(frame.assign(task=range(120)), "x", "y", cluster="task")
    assert found.high - found.low > 1.2 * (rows.high - rows.low)  # rows of a cluster are alike: less is known
    assert found.n_items == 30 and found.low < found.estimate < found.high
    with pytest.raises(ValueError, match="need values in every row"):
        rank_correlation(frame.assign(x=np.nan), "x", "y", cluster="task")
    named = frame.assign(task=frame["task"].map(lambda task: f"task {29 - task}")).sample(frac=1, random_state=0)
    assert rank_correlation(named, "x", "y", cluster="task") == found  # the order and names of clusters say nothing
    few = rank_correlation(frame[frame["task"] < 2], "x", "y", cluster="task")
    assert f"{few:+.2f}" == "not testable here (at least three values of task are needed; there are 2)"
