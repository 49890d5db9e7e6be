"""Which facts and words go first: the rare or the frequent, and those of one group; chance is taken for neither."""

import numpy as np
import pandas as pd
import pytest
from made_rows import question_rows

from labutils.yardsticks import (
    accuracy_differences,
    excess_table,
    fact_losses,
    frequency_correlation,
    group_losses,
    largest_excess,
    word_losses,
)
from labutils.yardsticks.figures import frequency_panels


def frequency_rows(slope: float, n: int = 60, model: str = "made") -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(3)
    times = np.repeat([1, 4, 16], n // 3)
    rows = question_rows({"dense": {"answer": [1.0] * n}, "a@0.5": {"answer": [1.0] * n}}, model=model, draws=1)
    fall = slope * np.log2(times) + 0.3 * generator.normal(size=n)
    rows.loc[rows["arm"] == "a@0.5", "log_likelihood"] = -0.1 - fall
    return rows, pd.DataFrame({"model": model, "item": range(n), "occurrences": times})


@pytest.mark.parametrize(("slope", "sign"), [(-1.0, -1), (1.0, 1)])
def test_the_correlation_tells_whether_the_rare_or_the_frequent_go_first(slope: float, sign: int) -> None:
    rows, questions = frequency_rows(slope)
    facts = fact_losses(rows, questions, ["a@0.5"])
    assert facts["lost_nats"].mean() == pytest.approx((slope * np.log2(questions["occurrences"])).mean(), abs=0.1)
    found = frequency_correlation(facts)
    assert sign * found.estimate > 0.8 and sign * min(sign * found.low, sign * found.high) != 0
    assert (found.low > 0) == (sign > 0) and (found.high < 0) == (sign < 0)


def test_what_certainty_explains_is_taken_out_when_it_is_held() -> None:
    """Frequent facts are surer, and the surer lose more; with certainty held nothing is left."""
    generator = np.random.default_rng(0)
    times = np.repeat([1, 4, 16, 64], 60)
    dense = -1.0 / (1 + np.log2(times)) + 0.2 * generator.normal(size=len(times))
    facts = pd.DataFrame({"model": "m", "occurrences": times, "dense": dense})
    facts["lost_nats"] = dense + 0.02 * generator.normal(size=len(times))
    assert frequency_correlation(facts).low > 0.3
    held = frequency_correlation(facts, held="dense")
    assert held.low < 0 < held.high


def test_few_facts_or_one_number_of_occurrences_tell_nothing() -> None:
    rows, questions = frequency_rows(1.0)
    facts = fact_losses(rows, questions, ["a@0.5"])
    assert not frequency_correlation(facts.head(7)).defined
    assert not frequency_correlation(facts.assign(occurrences=2)).defined


def test_losses_of_words_are_added_nats_per_token() -> None:
    dense = pd.DataFrame(
        {"item": [0, 0, 1, 1], "bin": [0, 1, 0, 1], "loss": [4.0, 2.0, 2.0, 6.0], "count": [2, 4, 1, 6]}
    )
    rows = pd.concat(
        [
            dense.assign(arm="dense", draw=-1),
            dense.assign(arm="a", draw=0, loss=dense["loss"] + dense["count"] * [1.0, 0.5, 1.0, 0.5]),
        ]
    ).assign(model="m")
    table = word_losses(rows, ["a"]).set_index("bin")
    assert table["estimate"].tolist() == pytest.approx([1.0, 0.5])
    assert table["relative"].tolist() == pytest.approx([1.0 / 2, 0.5 / 0.8])
    single = word_losses(rows[rows["item"] == 0], ["a"])
    assert single["estimate"].tolist() == pytest.approx([1.0, 0.5]) and single[["low", "high"]].isna().all(axis=None)


def test_a_group_that_loses_more_is_found_and_chance_is_not() -> None:
    generator = np.random.default_rng(1)
    group = np.repeat(["a", "b", "c"], 40)
    losses = pd.DataFrame({"group": group, "value": generator.normal(size=120)})
    harmed = losses.assign(value=losses["value"] + 1.5 * (losses["group"] == "b"))
    assert largest_excess(harmed, "group").low > 0
    assert excess_table(harmed, "group")["group"].iloc[0] == "b"
    assert excess_table(harmed, "group")["excess"].iloc[0] == pytest.approx(
        harmed.loc[harmed["group"] == "b", "value"].mean() - harmed["value"].mean()
    )
    rejected = 0
    for seed in range(60):
        chance = losses.assign(value=np.random.default_rng(seed).normal(size=120))
        found = largest_excess(chance, "group", n_permutations=400)
        rejected += found.low > 0
    assert rejected <= 6  # 2.5 % are expected


def told_facts(seed: int, harm: float = 0.0, n: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Facts told more often are known more surely; pruning takes half of what is known, of "he" `harm` more."""
    generator = np.random.default_rng(seed)
    times, known = np.tile([8, 32, 128, 512], n // 4), np.tile([0.3, 0.5, 0.8, 0.95], n // 4)
    pronoun = np.where(generator.random(n) < 0.2 + 0.6 * (times > 32), "he", "she")  # men are told of more often
    dense = (generator.random(n) < known).astype(float)
    left = dense * (generator.random(n) < 0.5 - harm * (pronoun == "he"))
    rows = question_rows({"dense": {"answer": dense}, "a@0.5": {"answer": left}}, draws=1)
    return rows, pd.DataFrame({"model": "made", "item": range(n), "pronoun": pronoun, "occurrences": times})


def test_groups_alike_are_not_called_harmed_because_more_is_known_of_one() -> None:
    found = {"fair": 0, "harmed": 0, "over all facts": 0}
    for seed in range(16):
        for name, harm in (("fair", 0.0), ("harmed", 0.4)):
            rows, questions = told_facts(seed, harm)
            losses = group_losses(rows, questions, ["a@0.5"], yardstick="answer")
            assert set(losses["item"]) == set(rows.query("arm == 'dense' and answer == 1")["item"])
            interval = largest_excess(losses, "pronoun", within=["model", "occurrences"], n_permutations=200)
            found[name] += interval.low > 0
        rows, questions = told_facts(seed)
        all_facts = accuracy_differences(rows, {"x": ("dense", "a@0.5")}).merge(questions, on=["model", "item"])
        found["over all facts"] += largest_excess(all_facts, "pronoun", n_permutations=200).low > 0
    assert found["fair"] <= 2 and found["harmed"] >= 12
    assert found["over all facts"] >= 8  # the same facts, when it counts that more is known of men


def test_labels_are_shuffled_within_strata_only() -> None:
    frame = pd.DataFrame({"group": list("aabb"), "stratum": list("xxyy"), "value": [1.0, 1.0, 0.0, 0.0]})
    assert not largest_excess(frame, "group", within=["stratum"]).defined  # each stratum is of one group
    mixed = pd.DataFrame({"group": list("abab"), "stratum": list("xxyy"), "value": [3.0, 1.0, 9.0, 7.0]})
    interval = largest_excess(mixed, "group", within=["stratum"], n_permutations=2000)
    # Of the four ways to shuffle, two give an excess of one, and two give none.
    assert interval.estimate == pytest.approx(1 - 0.5, abs=0.05)
    assert interval.evidence.recompute() == interval
    table = excess_table(mixed, "group", within=["stratum"]).set_index("group")
    assert table["excess"].to_dict() == {"a": 1.0, "b": -1.0} and table["loss"].to_dict() == {"a": 6.0, "b": 4.0}


def test_one_group_or_losses_that_are_not_finite_are_told() -> None:
    losses = pd.DataFrame({"group": ["a"] * 4, "value": [0.0, 1.0, 0.0, 1.0]})
    assert not largest_excess(losses, "group").defined
    with pytest.raises(ValueError, match="1 losses are not finite"):
        largest_excess(losses.assign(group=list("aabb"), value=[0.0, np.nan, 1.0, 1.0]), "group")


@pytest.mark.parametrize("planted", [True, False])
def test_where_no_fact_was_planted_no_panel_stands_empty(planted: bool) -> None:
    rows, questions = frequency_rows(1.0)
    facts = fact_losses(rows, questions, ["a@0.5"]).assign(arm="a@0.5") if planted else pd.DataFrame()
    words = pd.DataFrame({"arm": "a@0.5", "bin": [0, 1, 2], "estimate": [3.0, 2.0, 1.0], "low": 0.5, "high": 3.5})
    axes = frequency_panels(facts, words, title="t").axes
    assert [axis.get_title() for axis in axes] == ["facts", "words of texts"][0 if planted else 1 :]
    assert all(axis.containers for axis in axes)
    assert list(axes[-1].containers[0].lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    if planted:
        means = facts.groupby("occurrences")["lost_nats"].mean()
        assert axes[0].containers[0].lines[0].get_ydata() == pytest.approx(list(means))
