"""Dense against pruned: the drop of a cut neuron, literal differences, and drops of concepts."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from planted import PLANTED, planted_llama

from labutils.attribution import compare_semantics, neuron_words
from labutils.attribution.activations import measure_words
from labutils.attribution.comparison import COLUMNS, compare_activations, concept_drops
from labutils.attribution.neurons import find_mlp_layers, neuron_weights


def cut(model, block, neuron):
    """A copy without the incoming weights of one neuron."""
    pruned = copy.deepcopy(model)
    for view in neuron_weights(find_mlp_layers(pruned)[block], neuron)[:-1]:
        view.zero_()
    return pruned


def test_a_cut_neuron_drops_by_one_and_no_other_drops(planted_model, tokenizer, texts):
    pruned = cut(planted_model, 0, 3)
    frame = compare_semantics(planted_model, pruned, tokenizer, texts, ["w5", "w11", "w30", "w17"])
    assert list(frame.columns) == COLUMNS and len(frame) == 3 * 24 * 4
    for (block, neuron), word in PLANTED.items():
        row = frame[(frame["block"] == block) & (frame["neuron"] == neuron) & (frame["word"] == word)].iloc[0]
        expected = 1.0 if (block, neuron) == (0, 3) else 0.0
        assert row["dense"] > 1 and round(row["relative_drop"], 3) == expected
        assert row["drop"] == pytest.approx(row["dense"] * expected, abs=1e-6)


def test_the_neurons_may_bring_their_own_words(tokenizer, texts):
    model = planted_llama(tokenizer)
    pruned = cut(model, 0, 7)
    own = neuron_words(model, tokenizer, texts, top_k=1)
    frame = compare_semantics(model, pruned, tokenizer, texts, ["w5", "w11", "w99"], neurons=own)
    assert set(frame[["block", "neuron", "word"]].itertuples(index=False, name=None)) == {
        (block, neuron, word) for (block, neuron), word in PLANTED.items() if word in ("w5", "w11")
    }
    assert frame.attrs["absent_words"] == ["w99"]
    pairs = compare_semantics(model, pruned, tokenizer, texts, ["w5", "w11"], neurons=[(0, 7), (0, 0)])
    assert len(pairs) == 4 and pairs[pairs["neuron"] == 0]["relative_drop"].isna().all()


def test_numbers_are_those_of_the_two_models(tiny_llama, tokenizer, texts):
    torch.manual_seed(3)
    pruned = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.mul_(torch.rand_like(parameter) > 0.3)
    before, after = (measure_words(model, tokenizer, texts, ["w1", "w2"]) for model in (tiny_llama, pruned))
    frame = compare_semantics(tiny_llama, pruned, tokenizer, texts, ["w1", "w2"])
    for row in frame.itertuples():
        place = before.words.index(row.word)
        dense, cut_value = (float(found.means[row.block][place, row.neuron]) for found in (before, after))
        assert (row.dense, row.pruned, row.drop) == (dense, cut_value, dense - cut_value)
        assert row.relative_drop == pytest.approx(1 - cut_value / dense)


def test_drops_of_concepts_are_weighted_by_the_dense_activation():
    rows = [("a", 2.0, 1.0), ("A", -4.0, -5.0), ("b", 1.0, 0.0), ("c", 0.0, 1.0)]
    frame = pd.DataFrame(rows, columns=["word", "dense", "pruned"]).assign(block=0, neuron=range(4))
    frame["drop"] = frame["dense"] - frame["pruned"]
    drops = concept_drops(frame, {"first": ["a"], "all": ["a", "b"], "nothing": ["c"], "none": ["z"]})
    assert drops["concept"].tolist() == ["first", "all"]
    assert drops["relative_drop"].tolist() == pytest.approx([(1 - 1) / 6, (1 - 1 + 1) / 7])
    assert drops["change"].tolist() == pytest.approx([2 / 6, 3 / 7])
    assert drops[["words", "pairs"]].values.tolist() == [[2, 2], [3, 3]]
    literal = np.average(1 - frame["pruned"][:3] / frame["dense"][:3], weights=frame["dense"][:3].abs())
    assert drops["relative_drop"][1] == pytest.approx(literal)


def test_what_cannot_be_compared_is_refused(tiny_llama, tiny_gpt2, tokenizer, texts, monkeypatch):
    other = copy.deepcopy(tiny_llama)
    with pytest.raises(ValueError, match="the same model"):
        compare_semantics(tiny_llama, tiny_llama, tokenizer, texts, ["w1"])
    with pytest.raises(ValueError, match="differ in their blocks"):
        compare_semantics(tiny_llama, tiny_gpt2, tokenizer, texts, ["w1"])
    with pytest.raises(ValueError, match="none of the 1 words"):
        compare_semantics(tiny_llama, other, tokenizer, texts, ["w99"])
    with pytest.raises(LookupError, match="no neuron 99"):
        compare_semantics(tiny_llama, other, tokenizer, texts, ["w1"], neurons=[(0, 99)])
    with pytest.raises(ValueError, match="different words or texts"):
        compare_activations(
            measure_words(tiny_llama, tokenizer, texts, ["w1"]), measure_words(other, tokenizer, texts[:9], ["w1"])
        )
    monkeypatch.setattr("labutils.attribution.comparison.ROWS_AT_MOST", 100)
    with pytest.raises(ValueError, match="too many rows"):
        compare_semantics(tiny_llama, other, tokenizer, texts, ["w1", "w2"])
    assert len(compare_semantics(tiny_llama, other, tokenizer, texts, ["w1"], neurons=[(0, 1)])) == 1


def test_no_change_is_a_drop_of_zero(tiny_llama, tokenizer, texts):
    frame = compare_semantics(tiny_llama, copy.deepcopy(tiny_llama), tokenizer, texts, ["w1"])
    assert (frame["drop"] == 0).all() and not math.isnan(frame["relative_drop"].sum())
