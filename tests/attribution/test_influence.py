"""Influence of words: a slow loop over items and words, frames of prompts, and what cannot be judged."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers import log_probability, words
from scipy.stats import ttest_1samp

from labutils.attribution import influential_words
from labutils.attribution.influence import (
    COLUMNS,
    frame_of,
    influence_table,
    remove_spans,
    usable_words,
    words_of_tasks,
)
from labutils.data.tasks import Task


def make_task(prompts: list[str], seed: int = 0) -> Task:
    generator = np.random.default_rng(seed)
    rows = [
        {"item": 10 + place, "prompt": prompt, "choices": ["w38 w39", "w37"], "gold": int(generator.integers(2))}
        for place, prompt in enumerate(prompts)
    ]
    return Task("toy", "sentiment", "choice", pd.DataFrame(rows))


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_influence_equals_a_slow_loop(name, request, tokenizer):
    model = request.getfixturevalue(name)
    generator = np.random.default_rng(1)
    task = make_task([words(generator, 6) for _ in range(12)])
    frame = influential_words(model, tokenizer, task, top_k=100, min_count=2, batch_size=5)
    assert list(frame.columns) == COLUMNS and frame["influence"].is_monotonic_decreasing
    slow: dict[str, list[float]] = {}
    model = model.double()
    for row in task.items.to_dict("records"):
        parts, answer = row["prompt"].split(), row["choices"][row["gold"]].split()
        for word in set(parts):
            without = [part for part in parts if part != word]
            slow.setdefault(word, []).append(
                _log_p(model, tokenizer, parts, answer) - _log_p(model, tokenizer, without, answer)
            )
    assert set(frame["word"]) == {word for word, values in slow.items() if len(values) >= 2}
    for row in frame.itertuples():
        values = slow[row.word]
        assert row.count == len(values) and row.influence == pytest.approx(np.mean(values), abs=1e-4)
        interval = ttest_1samp(values, 0).confidence_interval(0.95)
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high), abs=1e-3)


def _log_p(model, tokenizer, parts, answer):
    ids = [0] + tokenizer.convert_tokens_to_ids(parts + answer)
    return sum(log_probability(model, ids, position) for position in range(1 + len(parts), len(ids)))


def test_words_of_the_frame_stay():
    prompts = ["Review: good film\nSentiment:", "Review: great film\nSentiment:", "Review: a bad film\nSentiment:"]
    assert frame_of(prompts) == (len("Review: "), len(" film\nSentiment:"), frozenset({"review", "sentiment"}))
    assert frame_of(prompts[:1]) == frame_of([]) == (0, 0, frozenset())
    pairs = ["Premise: a b Hypothesis: a", "Premise: b c Hypothesis: c: d"]
    assert frame_of(pairs)[2] == {"premise", "hypothesis"}


def test_the_frame_is_not_listed(tiny_llama, tokenizer):
    generator = np.random.default_rng(2)
    task = make_task([f"w1 w2 {words(generator, 3)} w1 w3" for _ in range(10)])
    frame = influential_words(tiny_llama, tokenizer, task, min_count=1)
    inside = {word for prompt in task.items["prompt"] for word in prompt.split()[2:5]}
    assert set(frame["word"]) == inside


def test_words_are_cut_out_with_the_blanks_before_them():
    assert remove_spans("a good film", [(2, 6)]) == "a film"
    assert remove_spans("good film, good", [(0, 4), (11, 15)]) == "film,"
    assert remove_spans("not  good!", [(5, 9)]) == "not!"
    assert remove_spans("good", [(0, 4)]) == "" and remove_spans(" x", []) == " x"
    assert remove_spans("one\ngood line", [(4, 8)]) == "one\n line"


def test_one_item_gives_no_interval_and_ties_are_in_order():
    rows = pd.DataFrame({"item": [0, 0, 1], "word": ["b", "a", "a"], "difference": [1.0, 0.5, 1.5]})
    frame = influence_table(rows)
    assert frame["word"].tolist() == ["a", "b"] and frame["count"].tolist() == [2, 1]
    assert math.isnan(frame["low"][1]) and math.isnan(frame["high"][1])
    assert frame["low"][0] == pytest.approx(1 - 12.7062 * 0.5, abs=1e-3)  # t(1) at 97.5 % times s / √2 = 0.5


def test_a_prompt_beyond_the_context_is_read_at_its_end(tiny_llama, tokenizer):
    task = make_task([" ".join(["w30"] * 70 + [f"w{number}", "w5", "w6"]) for number in range(7, 10)])
    frame = influential_words(tiny_llama, tokenizer, task, min_count=1)
    assert frame.attrs["truncated_prompts"] == 3
    assert {"w7", "w8", "w9", "w30"} >= set(frame["word"]) >= {"w7", "w8", "w9"}


def test_what_has_no_influence_is_refused(tiny_llama, tiny_bert, tokenizer):
    task = make_task(["w1 w2", "w3 w4"])
    pairs = Task(
        "pairs", "topic", "similarity", pd.DataFrame([{"item": 0, "sentence1": "w1", "sentence2": "w2", "score": 1}])
    )
    for call, message in (
        (lambda: influential_words(tiny_bert, tokenizer, task), "BertModel is not a causal language model"),
        (lambda: influential_words(tiny_llama, tokenizer, pairs), "similarity task without choices"),
        (lambda: influential_words(tiny_llama, tokenizer, task), r"no word occurs in 5 .* \(most: 1\)"),
        (lambda: influential_words(tiny_llama, tokenizer, task, top_k=0), "top_k=0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_tasks_without_recurring_words_are_named(tiny_llama, tokenizer):
    generator = np.random.default_rng(3)
    some = make_task([words(generator, 5) for _ in range(8)])
    none = Task("bare", "qa", "choice", make_task(["w1 w2", "w3 w4"]).items)
    frame = words_of_tasks(tiny_llama, tokenizer, [some, none], min_count=2, top_k=3)
    assert frame["task"].tolist() == ["toy"] * 3 and frame.attrs["without_words"] == ["bare"]
    alone = influential_words(tiny_llama, tokenizer, some, min_count=2, top_k=3)
    pd.testing.assert_frame_equal(frame[COLUMNS], alone, check_like=True)
    with pytest.raises(ValueError, match="is not a causal|top_k=0"):
        words_of_tasks(tiny_llama, tokenizer, [some], top_k=0)


def test_tasks_hang_on_words_by_a_rule_that_does_not_see_what_is_lost():
    rows = [("a", w, low) for w, low in (("x", 0.2), ("y", 0.1), ("z", 0.05))]
    rows += [("b", "the", 0.0), ("b", "of", -0.1), ("b", "on", 0.3), ("c", "one", math.nan)]
    influence = pd.DataFrame(rows, columns=["task", "word", "low"])
    table = usable_words(influence, ["a", "b", "c", "d"]).set_index("task")
    assert table["usable"].to_dict() == {"a": True, "b": False, "c": False, "d": False}
    assert table["words"].to_dict() == {"a": ["x", "y", "z"], "b": ["on"], "c": [], "d": []}
    assert usable_words(influence, ["a", "b"], fewest=1)["usable"].tolist() == [True, True]
