"""Choice scores against slow float64 loops, and everything that must not change them."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers import CAUSAL, frame_with, log_probability, poison, words

from labutils.data.tasks import Task
from labutils.evaluation.choice_tokens import encode_choices
from labutils.evaluation.choices import score_task


@pytest.fixture
def task() -> Task:
    """Nine items whose prompts and choices differ in length."""
    generator = np.random.default_rng(0)
    items = [
        {
            "item": 10 * i,
            "prompt": words(generator, 1 + 2 * i),
            "choices": [words(generator, int(n)) for n in generator.integers(1, 4, 2 + i % 3)],
            "gold": i % 2,
        }
        for i in range(9)
    ]
    return Task("random", "qa", "choice", pd.DataFrame(items))


@pytest.mark.parametrize("name", CAUSAL)
def test_choice_scores_equal_a_slow_loop(name, request, tokenizer, task):
    model = request.getfixturevalue(name)
    frame = score_task(model, tokenizer, task)
    assert list(frame.columns[:5]) == ["item", "gold", "prediction", "correct", "margin"]
    assert list(frame["item"]) == list(task.items["item"]) and frame.attrs["truncated_prompts"] == 0
    slow = model.double()
    for row, scored in zip(task.items.to_dict("records"), frame.itertuples(), strict=True):
        scores = []
        for choice in row["choices"]:
            n = len(choice.split())
            ids = [0] + tokenizer.convert_tokens_to_ids(row["prompt"].split() + choice.split())
            scores.append(sum(log_probability(slow, ids, position) for position in range(len(ids) - n, len(ids))) / n)
        gold = row["gold"]
        assert scored.prediction == int(np.argmax(scores)) and scored.correct == (scored.prediction == gold)
        margin = scores[gold] - max(scores[:gold] + scores[gold + 1 :])
        assert scored.margin == pytest.approx(margin, abs=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_padding_and_batches_do_not_change_choices(name, request, tokenizer, task):
    model = request.getfixturevalue(name)
    frames = [score_task(model, tokenizer, task, batch_size=size) for size in (1, 4, 64)]
    tokenizer.pad_token = "w3"
    frames.append(score_task(model, tokenizer, task))
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0], rtol=1e-5, atol=1e-5)


def test_long_prompts_lose_their_beginning_and_are_counted(tiny_llama, tokenizer):
    prompt = words(np.random.default_rng(2), 200)
    choices = ["w1", "w2 w3 w4"]
    rows = [{"prompt": prompt, "choices": choices, "gold": 0}, {"prompt": "w5", "choices": choices, "gold": 1}]
    long = Task("long", "qa", "choice", pd.DataFrame(rows).assign(item=range(2)))
    rest = " ".join(prompt.split()[-(64 - 1 - 3) :])
    short = Task("short", "qa", "choice", pd.DataFrame([rows[0] | {"prompt": rest}, rows[1]]).assign(item=range(2)))
    frame, expected = score_task(tiny_llama, tokenizer, long), score_task(tiny_llama, tokenizer, short)
    assert frame.attrs["truncated_prompts"] == 1 and expected.attrs["truncated_prompts"] == 0
    np.testing.assert_allclose(frame["margin"], expected["margin"], atol=1e-5)
    exact, shortened = encode_choices(tokenizer, {"item": 0} | rows[0] | {"prompt": rest}, 64)
    assert [len(candidate.ids) for candidate in exact] == [62, 64] and not shortened


def test_ties_go_to_the_first_choice(tiny_llama, tokenizer):
    items = pd.DataFrame({"item": [0, 1], "prompt": "w1", "choices": [["w2", "w2"]] * 2, "gold": [0, 1]})
    frame = score_task(tiny_llama, tokenizer, Task("tie", "qa", "choice", items))
    assert list(frame["prediction"]) == [0, 0] and list(frame["correct"]) == [True, False]
    np.testing.assert_allclose(frame["margin"], 0, atol=1e-6)


def test_bad_tasks_are_refused(tiny_llama, tiny_bert, tokenizer, task, pairs):
    with pytest.raises(ValueError, match="no items"):
        Task("empty", "qa", "choice", task.items.head(0))
    with pytest.raises(ValueError, match="kind 'essay'"):
        Task("odd", "qa", "essay", task.items)
    with pytest.raises(ValueError, match="score_similarity"):
        score_task(tiny_llama, tokenizer, Task("pairs", "topic", "similarity", pairs))
    with pytest.raises(ValueError, match="is not a causal"):
        score_task(tiny_bert, tokenizer, task)
    good = {"item": 5, "prompt": "w1", "choices": ["w2", "w3"], "gold": 0}
    for change, message in (
        ({"choices": ["w2"]}, "item 5: gold 0 is no position among 1"),
        ({"gold": 2}, "item 5: the answer 2"),
        ({"choices": ["w2", ""]}, "item 5: each choice needs a token"),
        ({"choices": ["w2", "w3 " * 64]}, "item 5: each choice needs"),
    ):
        with pytest.raises(ValueError, match=message):
            score_task(tiny_llama, tokenizer, Task("bad", "qa", "choice", pd.DataFrame([good | change])))
    frame_with(tokenizer, None, None)
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ValueError, match="something before it"):
        score_task(tiny_llama, tokenizer, Task("bad", "qa", "choice", pd.DataFrame([good | {"prompt": ""}])))


def test_broken_logits_name_the_item(tiny_llama, tokenizer, task):
    items = task.items.assign(prompt=task.items["prompt"].str.replace("w39", "w1"))
    items["choices"] = [[choice.replace("w39", "w1") for choice in choices] for choices in items["choices"]]
    items.loc[6, "prompt"] += " w39"
    poison(tiny_llama, tokenizer.convert_tokens_to_ids("w39"), math.nan)
    with pytest.raises(ValueError, match="item 60 are NaN or infinite"):
        score_task(tiny_llama, tokenizer, Task("broken", "qa", "choice", items))


def test_normalisations_stand_side_by_side(tiny_llama, tokenizer, task):
    frames = {by: score_task(tiny_llama, tokenizer, task, by=by) for by in ("token", "sum", "character", "byte")}
    for by, frame in frames.items():
        for row, scored in zip(task.items.to_dict("records"), frame.to_dict("records"), strict=True):
            sizes = {"token": lambda text: len(text.split()), "sum": lambda text: 1, "character": len}
            size = sizes.get(by, lambda text: len(text.encode()))
            scores = [n / size(text) for n, text in zip(scored["log_likelihoods"], row["choices"], strict=True)]
            assert scored["prediction"] == int(np.argmax(scores))
            assert scored["correct"] == scored[f"correct_{by}"] == (scored["prediction"] == row["gold"])
            others = scores[: row["gold"]] + scores[row["gold"] + 1 :]
            assert scored["margin"] == pytest.approx(scores[row["gold"]] - max(others))
    shared = [f"correct_{by}" for by in frames]
    assert all(frame[shared].equals(frames["token"][shared]) for frame in frames.values())
    assert not frames["sum"]["prediction"].equals(frames["token"]["prediction"])  # lengths differ, so it matters
    with pytest.raises(ValueError, match="by='mean' is not one of token, sum, character, byte"):
        score_task(tiny_llama, tokenizer, task, by="mean")
