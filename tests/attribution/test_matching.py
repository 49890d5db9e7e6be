"""Neuron–word matching: every planted word is found first, and all numbers equal slow loops in float64."""

import math

import numpy as np
import pytest
import torch
from helpers import frame_with, poison
from planted import PLANTED

from labutils.attribution import activations, neuron_words
from labutils.attribution import words as attribution_words
from labutils.attribution.activations import measure_words
from labutils.attribution.matching import (
    COLUMNS,
    concept_neurons,
    describe_concepts,
    words_of_neurons,
)
from labutils.data.words import count_words


def test_every_planted_word_is_found_first(planted_model, tokenizer, texts):
    frame = neuron_words(planted_model, tokenizer, texts, top_k=3)
    assert list(frame.columns) == COLUMNS
    counts = count_words(texts)
    n_words = sum(count >= 5 for count in counts.values())
    for (block, neuron), word in PLANTED.items():
        mine = frame[(frame["block"] == block) & (frame["neuron"] == neuron)]
        assert mine["rank"].tolist() == [1, 2, 3]
        assert mine["word"].iloc[0] == word and mine["z"].iloc[0] == pytest.approx(math.sqrt(n_words - 1), rel=1e-3)
        assert mine["activation"].iloc[0] > 1 > abs(mine["activation"].iloc[1])
        assert mine["count"].iloc[0] == counts[word]
    found = measure_words(planted_model, tokenizer, texts)
    best = concept_neurons(found, ["w5"], 2)
    assert set(zip(best["block"], best["neuron"], strict=True)) == {(0, 3), (1, 0)}
    first = concept_neurons(found, ["w17"], 1).iloc[0]
    assert (first["block"], first["neuron"]) == (2, 23)


def test_units_that_answer_all_words_alike_have_no_words(planted_model, tokenizer, texts):
    frame = neuron_words(planted_model, tokenizer, texts, top_k=1)
    assert set(zip(frame["block"], frame["neuron"], strict=True)) == set(PLANTED)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"])
@pytest.mark.parametrize("value", ["signed", "absolute"])
def test_matching_equals_a_slow_loop_at_every_batch_size(name, value, request, tokenizer, texts):
    model = request.getfixturevalue(name)
    if name == "tiny_bert":
        frame_with(tokenizer, "<s>", "</s>")
    texts, words = texts[:12], ["w3", "w8", "w12 w30", "w21", "w2"]
    found = [measure_words(model, tokenizer, texts, words, value=value, batch_size=size) for size in (1, 5)]
    sums, counts, everything = _slow_sums(model.double(), tokenizer, texts, words, value, name == "tiny_bert")
    for result in found:
        assert result.words == tuple(word for word in words if counts[word])
        assert result.absent == tuple(word for word in words if not counts[word])
        assert result.counts.tolist() == [counts[word] for word in result.words]
        for block, means in enumerate(result.means):
            slow = np.array([sums[word][block] / counts[word] for word in result.words])
            np.testing.assert_allclose(means, slow, rtol=1e-4, atol=1e-6)
            tokens = np.array(everything[block])
            np.testing.assert_allclose(result.token_means[block], tokens.mean(0), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(result.deviations[block], tokens.std(0), rtol=1e-3, atol=1e-6)
    frame = words_of_neurons(found[0], 2)
    for row in frame.sample(20, random_state=0).itertuples():
        values = [sums[word][row.block][row.neuron] / counts[word] for word in found[0].words]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((each - mean) ** 2 for each in values) / len(values))
        scores = sorted(((each - mean) / spread for each in values), reverse=True)
        assert row.z == pytest.approx(scores[row.rank - 1], rel=1e-3, abs=1e-3)


def _slow_sums(model, tokenizer, texts, words, value, is_encoder):
    """Sums per word and block, occurrences, and all tokens' activations: one text, one word, one token at a time."""
    downs = [
        module
        for name, module in model.named_modules()
        if name.endswith(("mlp.down_proj", "mlp.c_proj", "fc2"))
        or (name.endswith("output.dense") and "attention" not in name)
    ]
    sums = {word: [np.zeros(1) for _ in downs] for word in words}
    counts, everything = dict.fromkeys(words, 0), [[] for _ in downs]
    seen = []
    for down in downs:
        down.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for text in texts:
        parts = text.split()
        seen.clear()
        ids = [0] + tokenizer.convert_tokens_to_ids(parts) + ([1] if is_encoder else [])
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]))
        states = [inner.reshape(len(ids), -1).numpy() for inner in seen]
        for block, state in enumerate(states):
            everything[block] += list(state[1 : 1 + len(parts)])
        for word in words:
            pieces = word.split()
            for start in range(len(parts)):
                if parts[start : start + len(pieces)] == pieces:
                    counts[word] += 1
                    for block, state in enumerate(states):
                        inside = [state[1 + start + shift] for shift in range(len(pieces))]
                        inside = [abs(each) for each in inside] if value == "absolute" else inside
                        sums[word][block] = sums[word][block] + sum(inside) / len(pieces)
    return sums, counts, everything


def test_windows_hold_all_words_of_a_long_text(planted_model, tokenizer):
    """The model's context is 64; the word that the units fire on stands behind it."""
    long = " ".join(["w1"] * 150 + ["w5"] + ["w2"] * 30)
    found = measure_words(planted_model, tokenizer, [long], ["w1", "w2", "w5", "w9"])
    assert found.words == ("w1", "w2", "w5") and found.counts.tolist() == [150, 30, 1] and found.absent == ("w9",)
    assert found.means[0][2, 3] > 1 > found.means[0][:2, 3].abs().max()


def test_memory_does_not_depend_on_the_number_of_texts(tiny_llama, tokenizer, texts, monkeypatch):
    """Texts are read no further ahead of the model than a chunk of texts and one of rows; all else are sums."""
    monkeypatch.setattr(activations, "ROWS_AT_ONCE", 8)
    monkeypatch.setattr(attribution_words, "TEXTS_AT_ONCE", 4)
    once = measure_words(tiny_llama, tokenizer, texts, ["w1", "w2"])
    read, run, ahead = 0, -1, []  # the search for the MLPs runs the model once beside the texts

    class Watched(list):
        def __iter__(self):
            nonlocal read
            for text in super().__iter__():
                read += 1
                ahead.append(read - run)
                yield text

    def count_rows(module, args, kwargs):
        nonlocal run
        run += len(kwargs["input_ids"])

    with tiny_llama.base_model.register_forward_pre_hook(count_rows, with_kwargs=True):
        thrice = measure_words(tiny_llama, tokenizer, Watched(texts * 3), ["w1", "w2"])
    assert read == run == 3 * len(texts) and max(ahead) <= 8 + 4
    assert [means.shape for means in once.means] == [means.shape for means in thrice.means]
    torch.testing.assert_close(once.means[1], thrice.means[1], rtol=1e-5, atol=1e-7)


def test_concept_neurons_have_the_largest_mean_z(planted_model, tokenizer, texts):
    found = measure_words(planted_model, tokenizer, texts)
    best = concept_neurons(found, ["w5", "W5", "unknown"], 2)
    assert set(zip(best["block"], best["neuron"], strict=True)) == {(0, 3), (1, 0)}
    for row in best.itertuples():
        assert row.mean == pytest.approx(float(found.token_means[row.block][row.neuron]))
    with pytest.raises(LookupError, match="none of the words unknown"):
        concept_neurons(found, ["unknown"], 2)


def test_what_cannot_be_matched_is_refused(tiny_llama, tokenizer, texts, monkeypatch):
    def match(given, words=None, **options):
        return neuron_words(tiny_llama, tokenizer, given, words, **options)

    for call, message in (
        (lambda: match([]), "at least one text"),
        (lambda: match("w1 w2"), "must be a list"),
        (lambda: match(["", " "]), "no word of the 2 texts"),
        (lambda: match(texts, []), "at least one word"),
        (lambda: match(texts, "w1"), "words must be a list"),
        (lambda: match(texts, ["w77", "w88"]), "none of the 2 words occurs 5 times"),
        (lambda: match(texts, min_count=10**6), "no word of the 60 texts occurs 1000000 times"),
        (lambda: match(texts, value="absolut"), "Did you mean 'absolute'"),
        (lambda: match(texts, top_k=0), "top_k must be at least 1"),
        (lambda: match(texts, min_count=0), "min_count=0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    frame = match(texts, ["w1", "w2", "w77"], min_count=1)
    assert frame.attrs["absent_words"] == ["w77"] and set(frame["word"]) == {"w1", "w2"}
    monkeypatch.setattr(activations, "SUMS_AT_MOST", 1000)
    with pytest.raises(ValueError, match="name fewer words"):
        match(texts)
    poison(tiny_llama, tokenizer.convert_tokens_to_ids("w3"), math.nan)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="model.layers.0.mlp.down_proj are NaN"):
        match(texts)


def test_a_model_in_bfloat16_is_read_as_well(tiny_llama, tokenizer, texts):
    exact = measure_words(tiny_llama, tokenizer, texts, ["w1", "w2"])
    rough = measure_words(tiny_llama.bfloat16(), tokenizer, texts, ["w1", "w2"])
    for means, other in zip(exact.means, rough.means, strict=True):
        assert (means - other).norm() / means.norm() < 0.05


def test_concepts_are_described_by_their_best_neuron(planted_model, tokenizer, texts):
    found = measure_words(planted_model, tokenizer, texts)
    frame = describe_concepts(found, {"seventeen": ["w17", "w99"], "none": ["w99"]}, top_words=2)
    (row,) = frame.itertuples()
    assert (row.concept, row.block, row.neuron) == ("seventeen", 2, 23)
    assert row.words.startswith("W17, w") and len(row.words.split(", ")) == 2
