"""Passages and their log-likelihoods against a slow loop."""

import math

import pandas as pd
import pytest
import torch
from helpers import log_probability, poison

from labutils.attribution.passages import (
    Passage,
    passage_log_likelihoods,
    passage_losses,
    target_log_likelihoods,
    task_passages,
    text_passages,
)
from labutils.data.tasks import Task


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_log_likelihoods_equal_a_slow_loop(name, request, tokenizer, texts):
    model = request.getfixturevalue(name)
    passages = text_passages(model, tokenizer, texts[:6]) + [Passage([0, 5, 6, 7, 8], 3)]
    for size in (1, 4):
        found = target_log_likelihoods(model, tokenizer, passages, batch_size=size)
        for passage, values in zip(passages, found, strict=True):
            slow = [
                log_probability(model, passage.ids, place) for place in range(passage.first_target, len(passage.ids))
            ]
            assert values.tolist() == pytest.approx(slow, abs=1e-4)
    sums, losses = (function(model, tokenizer, passages) for function in (passage_log_likelihoods, passage_losses))
    assert sums.tolist() == pytest.approx([float(values.double().sum()) for values in found], abs=1e-5)
    assert losses.tolist() == pytest.approx([-float(values.double().mean()) for values in found], abs=1e-5)


def test_passages_of_texts_and_tasks(tiny_llama, tokenizer):
    (short, long) = text_passages(tiny_llama, tokenizer, ["w1 w2", "w3 " * 100])
    assert short == Passage([0, *tokenizer.convert_tokens_to_ids(["w1", "w2"])], 1) and len(long.ids) == 64
    (begun,) = text_passages(tiny_llama, tokenizer, ["w3 " * 100], n_tokens=5)
    assert begun == Passage([0, *tokenizer.convert_tokens_to_ids(["w3"] * 5)], 1)
    items = pd.DataFrame([{"item": 0, "prompt": "w1 w2", "choices": ["w3", "w4 w5"], "gold": 1}])
    (passage,) = task_passages(tiny_llama, tokenizer, Task("toy", "qa", "choice", items))
    assert passage == Passage([0, *tokenizer.convert_tokens_to_ids(["w1", "w2", "w4", "w5"])], 3)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (3, 9, "w3 w3 w3 w7 w3 w3"),  # within the first six: no other window than without words
        (5, 9, "w3 w3 w3 w3 w3 w7"),
        (9, 9, "w3 w3 w7 w3 w3 w3"),
        (9, 1, "w3 w3 w3 w3 w7 w3"),  # the text ends before half a window is over
        (0, 2, "w7 w3 w3"),
    ],
)
def test_of_a_longer_text_the_tokens_around_its_word_are_taken(tiny_llama, tokenizer, before, after, expected):
    text = " ".join(["w3"] * before + ["w7"] + ["w3"] * after)
    (passage,) = text_passages(tiny_llama, tokenizer, [text], n_tokens=6, about=["w9", "w7"])
    assert passage == Passage([0, *tokenizer.convert_tokens_to_ids(expected.split())], 1)
    assert text_passages(tiny_llama, tokenizer, [text], about=["w7"]) == text_passages(tiny_llama, tokenizer, [text])


def test_what_has_nothing_to_predict_is_refused(tiny_llama, tiny_bert, tokenizer):
    pairs = Task(
        "pairs", "topic", "similarity", pd.DataFrame([{"item": 0, "sentence1": "w1", "sentence2": "w2", "score": 1}])
    )
    for call, message in (
        (lambda: text_passages(tiny_llama, tokenizer, []), "there are no texts"),
        (lambda: text_passages(tiny_llama, tokenizer, ["w1", " "]), "' ' has nothing to predict"),
        (lambda: text_passages(tiny_llama, tokenizer, ["w1 w2"], n_tokens=1), "n_tokens=1: a passage needs two"),
        (lambda: task_passages(tiny_llama, tokenizer, pairs), "similarity task"),
        (lambda: passage_losses(tiny_bert, tokenizer, [Passage([0, 1], 1)]), "is not a causal language model"),
        (lambda: passage_losses(tiny_llama, tokenizer, [Passage([0, 99], 1)]), "do not fit a vocabulary"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    poison(tiny_llama, 7, math.nan)
    with pytest.raises(ValueError, match="passage 1 are NaN"):
        passage_losses(tiny_llama, tokenizer, [Passage([0, 1], 1), Passage([0, 7, 1], 1)])
    assert torch.is_tensor(passage_losses(tiny_llama, tokenizer, [Passage([0, 1], 1)]))
