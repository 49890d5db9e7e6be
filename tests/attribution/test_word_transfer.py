"""Words of one task for another: frames, scores against a slow loop, what is left out, and gains known by hand."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers import words
from scipy.stats import rankdata

from labutils.attribution import depth_correlations, text_task, transfer_gain, transfer_words, word_scores
from labutils.attribution.word_transfer import keep_words
from labutils.data.tasks import Task, load_task
from labutils.evaluation.choices import score_task

LABELS = {"first": ["w1", "w2"], "second": ["w3", "w4 w5", "w6"]}


def make_task(name: str, n_items: int = 6) -> Task:
    generator = np.random.default_rng(len(name))
    rows = [
        {
            "item": 10 + place,
            "prompt": f"Text: {words(generator, 5)} {name}:",
            "choices": LABELS[name],
            "gold": place % 2,
        }
        for place in range(n_items)
    ]
    return Task(name, name, "choice", pd.DataFrame(rows))


def test_a_prompt_is_a_text_between_what_all_prompts_share() -> None:
    for source, begin, end in (
        ("lab:sentiment/products", "Review: ", " Sentiment:"),
        ("lab:sentiment/denials", "Review: ", " The customer was"),
        ("lab:inference/denial", "Premise: ", " Answer:"),  # all premises begin with "The": that is text
        ("lab:topic/stories", "Text: ", " Topic:"),
        ("lab:qa/whereabouts", "", " Answer:"),
    ):
        found = text_task(load_task(source, n_items=30))
        assert (found.begin, found.end) == (begin, end)
        for prompt, text, own in zip(found.task.items["prompt"], found.texts, found.words, strict=True):
            assert prompt == begin + text + end
            labels = re.findall(r"(?:Hypothesis|Question):", text)
            assert [text[a:b] for a, b in own] == [word for word in re.findall(r"[\w-]+:?", text) if word not in labels]
    assert text_task(load_task("lab:sentiment/products", n_items=30)).choices == ["positive", "negative"]
    assert len(text_task(load_task("lab:topic/stories", n_items=60)).choices) > 4  # of all items, not of one


def test_tasks_that_ask_nothing_in_common_are_refused() -> None:
    rows = [{"item": place, "prompt": f"Text: w{place}", "choices": ["w1", "w2"], "gold": 0} for place in range(3)]
    with pytest.raises(ValueError, match="whose prompts all end alike"):
        text_task(Task("loose", "topic", "choice", pd.DataFrame(rows)))
    with pytest.raises(ValueError, match="1 different prompts"):
        text_task(Task("one", "topic", "choice", pd.DataFrame(rows[:1])))
    with pytest.raises(ValueError, match="similarity task"):
        text_task(load_task("lab:topic/similarity", n_items=5))


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_scores_equal_a_slow_loop(name: str, request: pytest.FixtureRequest, tokenizer) -> None:
    """KL of the answers with and without every single word, from probabilities."""
    model = request.getfixturevalue(name)
    asked, read = text_task(make_task("second")), text_task(make_task("first", 3))
    found = word_scores(model, tokenizer, asked, read.texts, read.words, batch_size=4)

    def answers(text: str) -> np.ndarray:
        item = pd.DataFrame([{"item": 0, "prompt": f"Text: {text} second:", "choices": LABELS["second"], "gold": 0}])
        sums = score_task(model, tokenizer, Task("one", "t", "choice", item))["log_likelihoods"][0]
        return np.exp(sums) / np.exp(sums).sum()

    for text, own in zip(read.texts, found, strict=True):
        parts, whole = text.split(), answers(text)
        assert len(own) == len(parts)
        for place, score in enumerate(own):
            without = answers(" ".join(parts[:place] + parts[place + 1 :]))
            assert score == pytest.approx((whole * np.log(whole / without)).sum(), abs=1e-5) and score > -1e-6


def test_the_lowest_scores_go_and_ties_are_drawn() -> None:
    text, spans = "The dog was good.", [(0, 3), (4, 7), (8, 11), (12, 16)]
    scores = np.array([0.0, 2.0, 0.0, 3.0])
    assert keep_words(text, spans, scores, 0.0, np.zeros(4)) == text
    assert keep_words(text, spans, scores, 0.5, np.zeros(4)) == "dog good."
    assert keep_words(text, spans, scores, 0.75, np.zeros(4)) == "good."
    assert keep_words(text, spans, scores, 0.25, np.array([0.9, 0, 0.1, 0])) == "The dog good."
    assert keep_words(text, spans, scores, 0.25, np.array([0.1, 0, 0.9, 0])) == "dog was good."


def test_rows_hold_every_pair_of_tasks_with_as_many_words_at_random(tiny_llama, tokenizer) -> None:
    tasks = [make_task("first"), make_task("second", 4)]
    given = {"name": "tiny", "shares": (0.0, 0.4), "n_draws": 2}
    rows = transfer_words(tiny_llama, tokenizer, tasks, **given)
    assert len(rows) == 2 * 2 * 2 * 2 * (6 + 4)  # arms, sources, shares, draws, items
    pd.testing.assert_frame_equal(rows, transfer_words(tiny_llama, tokenizer, tasks, **given))
    dense = score_task(tiny_llama, tokenizer, tasks[0])["correct"]
    whole = rows[(rows["sparsity"] == 0.0) & (rows["evaluation"] == "first")]
    assert (whole.groupby("item")["loss"].nunique() == 1).all()
    assert (1 - whole.groupby("item")["loss"].first()).tolist() == dense.astype(float).tolist()
    by_chance = rows[rows["arm"] == "random"].set_index(["calibration", "evaluation", "sparsity", "draw", "item"])
    assert by_chance.loc["first"]["loss"].equals(by_chance.loc["second"]["loss"])  # the same for every source
    with pytest.raises(ValueError, match="two tasks or more"):
        transfer_words(tiny_llama, tokenizer, tasks[:1], name="tiny")
    with pytest.raises(ValueError, match="shares from 0"):
        transfer_words(tiny_llama, tokenizer, tasks, name="tiny", shares=[1.0])


def test_a_gain_is_the_mean_over_the_other_tasks() -> None:
    columns = ["model", "calibration", "evaluation", "arm", "sparsity", "draw", "item", "loss"]
    losses = {("a", "a", "scored"): 0, ("b", "a", "scored"): 0, ("c", "a", "scored"): 1, ("a", "a", "random"): 1,
              ("b", "a", "random"): 1, ("c", "a", "random"): 1}  # fmt: skip
    rows = pd.DataFrame([("m", *key[:2], key[2], 0.5, 0, 7, loss) for key, loss in losses.items()], columns=columns)
    others = transfer_gain(rows)
    assert others["value"].tolist() == [0.5] and others["calibration"].tolist() == ["others"]
    assert transfer_gain(rows, own=True)["value"].tolist() == [1.0]


def test_scores_are_ranked_against_nearness_to_the_root(tiny_llama, tokenizer) -> None:
    """Spearman's rho as Pearson's correlation of ranks; a sentence of one depth has none."""
    tasks = [make_task("first"), make_task("second")]
    trees = [("w1 w2, w3 w2.", [("w1", 1), ("w2", 0), ("w3", 2), ("w2", 1)]), ("w4 w5.", [("w4", 0), ("w5", 0)])]
    found = depth_correlations(tiny_llama, tokenizer, tasks, trees, name="tiny")
    assert found["item"].tolist() == [0, 0] and found["evaluation"].tolist() == ["first", "second"]
    for task, rho in zip(tasks, found["value"], strict=True):
        spans = [(0, 2), (3, 5), (7, 9), (10, 12)]
        scores = word_scores(tiny_llama, tokenizer, text_task(task), [trees[0][0]], [spans])[0]
        assert rho == pytest.approx(np.corrcoef(rankdata(scores), rankdata([-1, 0, -2, -1]))[0, 1])
    with pytest.raises(ValueError, match="no word 'w9'"):
        depth_correlations(tiny_llama, tokenizer, tasks, [("w1.", [("w9", 0)])], name="tiny")
