"""Losses under ablation: random partners of the same block and deviation, literal losses, and a neuron that matters."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted import planted_llama

from labutils.attribution import ablate_neurons
from labutils.attribution.activations import measure_words
from labutils.attribution.causality import (
    ablation_contrast,
    ablation_losses,
    concept_contrasts,
    partner_interval,
    random_partners,
)
from labutils.attribution.concept_evidence import concept_conductance
from labutils.attribution.passages import passage_losses, text_passages


def test_partners_are_of_the_same_block_and_deviate_as_much(tiny_llama, tokenizer, texts):
    found = measure_words(tiny_llama, tokenizer, texts, ["w1"])
    neurons = pd.DataFrame({"block": [0, 0, 2], "neuron": [1, 2, 5]})
    partners = random_partners(found, neurons, n_draws=30, seed=1)
    assert len(partners) == 90
    for _, draw in partners.groupby("draw"):
        assert draw["block"].tolist() == [0, 0, 2]
        assert not draw.duplicated(["block", "neuron"]).any()
        assert not set(zip(draw["block"], draw["neuron"], strict=True)) & {(0, 1), (0, 2), (2, 5)}
    for row in partners.itertuples():
        assert row.deviation == float(found.deviations[row.block][row.neuron])
        assert row.mean == float(found.token_means[row.block][row.neuron])
    drawn = set(partners[partners["block"] == 2]["neuron"])
    distance = np.abs(np.log(found.deviations[2].numpy()) - np.log(float(found.deviations[2][5])))
    nearest = [neuron for neuron in np.argsort(distance) if neuron != 5][:20]
    assert drawn <= set(nearest) and len(drawn) > 5
    pd.testing.assert_frame_equal(partners, random_partners(found, neurons, n_draws=30, seed=1))
    everything = pd.DataFrame({"block": 0, "neuron": range(24)})
    with pytest.raises(ValueError, match="too few neurons"):
        random_partners(found, everything, n_draws=1)


def test_losses_are_those_under_ablation(tiny_llama, tokenizer, texts):
    passages = text_passages(tiny_llama, tokenizer, texts[:5])
    sets = {name: pd.DataFrame({"block": [1], "neuron": [4], "mean": [mean]}) for name, mean in (("a", 0.7), ("b", 0))}
    losses = ablation_losses(tiny_llama, lambda model: passage_losses(model, tokenizer, passages), sets)
    assert losses.shape == (2, 5)
    for row, held in zip(losses, sets.values(), strict=True):
        with ablate_neurons(tiny_llama, held):
            np.testing.assert_allclose(row, passage_losses(tiny_llama, tokenizer, passages))


@pytest.fixture
def telling(tokenizer):
    """The unit that fires on w5 says that w6 follows, the one that fires on w17 that w18 does; others mean nothing."""
    model = planted_llama(tokenizer)
    torch.manual_seed(0)
    with torch.no_grad():
        for block, neuron, after, direction in ((0, 3, "w6", 46), (2, 23, "w18", 47)):
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(after), direction] = 3.0  # a direction no word has
            model.model.layers[block].mlp.down_proj.weight[direction, neuron] = 1.0
            for layer in (model.model.layers[block].mlp.up_proj, model.model.layers[block].mlp.gate_proj):
                layer.weight[10:14] = torch.randn(4, 48) * 0.3
    return model


def test_a_neuron_that_the_prediction_hangs_on_matters_more_than_its_partners(telling, tokenizer, texts):
    passages = text_passages(telling, tokenizer, ["w5 w6 " * 5 for _ in range(4)])
    found = measure_words(telling, tokenizer, texts, ["w5", "w6"])
    chosen = pd.DataFrame({"block": [0], "neuron": [3], "z": [1.0]})
    frame = ablation_contrast(
        telling, lambda model: passage_losses(model, tokenizer, passages), found, chosen, n_draws=3
    )
    assert frame[["draw", "item"]].drop_duplicates().shape == (12, 2)
    np.testing.assert_allclose(frame["value"], frame["chosen"] - frame["random"])
    np.testing.assert_allclose(frame["loss"][:4], passage_losses(telling, tokenizer, passages))
    assert (frame["value"] > 0.5).all() and (frame["random"].abs() < 0.1).all()


def test_concepts_are_contrasted_by_matching_and_by_conductance(telling, tokenizer, texts):
    found = measure_words(telling, tokenizer, texts)
    about = ["w5 w6 w5 w6", "w17 w18 w17 w18"] * 6
    concepts = {"five": ["w5"], "seventeen": ["w17"], "rare": ["w30"]}
    sizes = {"n_texts": 3, "n_draws": 2, "top_k": 1}
    scores = concept_conductance(telling, tokenizer, about, concepts, n_texts=3, n_steps=20)
    assert set(scores["concept"]) == {"five", "seventeen"} and scores.attrs["completeness"] >= 0
    frame = pd.concat(
        [concept_contrasts(telling, tokenizer, about, found, concepts, scores=each, **sizes) for each in (None, scores)]
    )
    sizes = frame.groupby(["concept", "by"]).size()
    assert sizes.to_dict() == {(c, by): 6 for c in ("five", "seventeen") for by in ("conductance", "matching")}
    assert set(frame["text"]) == {0, 1}  # the twelve texts are two, and the first of each counts
    means = frame.groupby(["concept", "by"])["value"].mean()
    assert (means.drop(("five", "matching")) > 0.3).all()  # w5 has two units of equal z, of which one tells
    interval = partner_interval(frame[frame["by"] == "conductance"], strata=["concept"], item_unit="text")
    assert interval.estimate == pytest.approx(means[:, "conductance"].mean())
    assert interval.n_draws == 2 and interval.units == ("text", "draw of random neurons")
    smaller = partner_interval(frame, strata=["concept", "by"], statistic=lambda values: values.min(axis=1))
    assert smaller.estimate == pytest.approx(means.min())
    with pytest.raises(ValueError, match="no concept has 40 texts among the 12"):
        concept_contrasts(telling, tokenizer, about, found, concepts)
