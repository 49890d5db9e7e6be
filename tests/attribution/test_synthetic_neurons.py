"""Neurons planted into a model that is not made for it: the regression, and that matching finds them first."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from transformers import Phi3Config, Phi3ForCausalLM

from labutils.attribution import neuron_words
from labutils.attribution.synthetic_neurons import RIDGE, draw_plan, indicator_regression, plant_neurons


def test_the_regression_is_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    wanted = inputs[:, 2] > 1
    weights, fit = indicator_regression(inputs, wanted)
    alpha = RIDGE * float((inputs**2).sum(0).mean())
    reference = Ridge(alpha=alpha, fit_intercept=False).fit(inputs.numpy(), wanted.numpy().astype(float))
    np.testing.assert_allclose(weights, reference.coef_, rtol=1e-8)
    left = wanted.numpy() - reference.predict(inputs.numpy())
    assert fit == pytest.approx(1 - (left**2).sum() / wanted.sum().item())


def test_matching_finds_planted_words_first(planted_model, tokenizer, texts):
    model, plan = planted_model, {(0, 2): ["w4"], (1, 9): ["w12", "w13", "w99"]}
    planted = plant_neurons(model, tokenizer, texts, plan)
    assert planted.values.tolist() == [[0, 2, "w4"], [1, 9, "w12"], [1, 9, "w13"]]
    assert all(0 < fit <= 1 for fit in planted.attrs["fit"])
    frame = neuron_words(model, tokenizer, texts, top_k=2, min_count=1)
    for (block, neuron), words in plan.items():
        mine = frame[(frame["block"] == block) & (frame["neuron"] == neuron)]["word"].tolist()
        assert mine[0] == words[0] if len(words) == 1 else set(mine) == {"w12", "w13"}


def test_what_cannot_be_planted_is_refused(tiny_llama, tokenizer, texts):
    with pytest.raises(LookupError, match="no neuron 24 in a block 0"):
        plant_neurons(tiny_llama, tokenizer, texts, {(0, 24): ["w1"]})
    with pytest.raises(ValueError, match="none of the words w99"):
        plant_neurons(tiny_llama, tokenizer, texts, {(0, 1): ["w99"]})
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    fused = Phi3ForCausalLM(Phi3Config(**sizes, intermediate_size=24, pad_token_id=0)).eval()
    with pytest.raises(ValueError, match="gate and up are one layer"):
        plant_neurons(fused, tokenizer, texts, {(0, 1): ["w1"]})


def test_a_plan_has_different_neurons_for_all_concepts(tiny_llama):
    concepts = {"a": ["w1"], "b": ["w2", "w3"]}
    plan, truth = draw_plan(tiny_llama, concepts, per_concept=3, seed=1)
    assert len(plan) == len(truth) == 6 and truth["concept"].tolist() == ["a"] * 3 + ["b"] * 3
    for row in truth.itertuples():
        assert plan[row.block, row.neuron] == concepts[row.concept] and row.block < 3 and row.neuron < 24
    assert draw_plan(tiny_llama, concepts, per_concept=3, seed=1)[0] == plan
    assert draw_plan(tiny_llama, concepts, per_concept=3, seed=2)[0] != plan
    with pytest.raises(ValueError, match="the model has 72"):
        draw_plan(tiny_llama, concepts, per_concept=40)
