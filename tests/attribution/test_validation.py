"""Truth and chance: planted neurons recovered, precision at k, random word sets, stability, agreement with a null."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted import planted_llama
from scipy.stats import spearmanr

from labutils.attribution.activations import WordActivations, measure_words
from labutils.attribution.matching import standardise
from labutils.attribution.validation import (
    attribution_agreement,
    concept_precision,
    match_stability,
    random_words,
    recovered_share,
)


def made_activations(means: np.ndarray, counts: list[int]) -> WordActivations:
    """Activations of one block, words v0, v1, …"""
    values = torch.tensor(means, dtype=torch.float64)
    width = torch.zeros(values.shape[1], dtype=torch.float64)
    names = tuple(f"v{number}" for number in range(len(counts)))
    return WordActivations(names, torch.tensor(counts), [values], [width], [width + 1], ())


def test_planted_neurons_are_recovered_in_the_order_of_their_scores(tokenizer, texts):
    found = measure_words(planted_llama(tokenizer), tokenizer, texts)
    planted = pd.DataFrame(
        [(0, 3, "five"), (1, 0, "five"), (2, 23, "seventeen")], columns=["block", "neuron", "concept"]
    )
    frame = recovered_share(found, planted, {"five": ["w5"], "seventeen": ["w17"]}, ks=[1, 2, 72])
    assert frame["recovered"].tolist() == pytest.approx([2 / 3, 1, 1])
    assert frame["chance"].tolist() == pytest.approx([1 / 72, 2 / 72, 1])


def test_precision_at_k_counts_the_concept_among_the_best_words():
    means = np.zeros((8, 3))
    means[:, 0] = [9, 8, 1, 7, 0, 0, 0, 0]  # v0 v1 v3 v2 …
    means[:, 1] = [0, 0, 0, 0, 0, 5, 0, 0]
    found = made_activations(means, [10] * 8)
    frame = concept_precision(found, {"mine": ["v0", "v1", "v2"], "short": ["v4"]}, ks=[1, 2, 3, 4, 99], n_random=20)
    mine = frame[frame["kind"] == "concept"]
    assert mine["precision"].tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 8]) and set(frame["concept"]) == {
        "mine"
    }
    random = frame[frame["kind"] == "random"]
    assert sorted(random["draw"].unique()) == list(range(20)) and random[random["k"] == 99]["precision"].eq(3 / 8).all()


def test_random_sets_reach_what_meaningful_ones_do_where_nothing_is_meant():
    generator = np.random.default_rng(4)
    found = made_activations(generator.normal(size=(200, 60)), generator.integers(5, 50, size=200).tolist())
    concepts = {f"c{number}": [f"v{word}" for word in generator.choice(200, 10, replace=False)] for number in range(30)}
    frame = concept_precision(found, concepts, ks=[5], n_random=10)
    means = frame.groupby("kind")["precision"].mean()
    assert abs(means["concept"] - means["random"]) < 0.06


def test_concepts_without_words_in_the_texts_have_no_precision():
    found = made_activations(np.eye(3), [5, 5, 5])
    with pytest.raises(ValueError, match="none of the 1 concepts has two words among the 3 measured"):
        concept_precision(found, {"absent": ["nothing", "here"]}, ks=[1])


def test_random_words_are_as_frequent_and_never_the_concepts_own():
    counts = torch.tensor(sorted([5] * 40 + [50] * 40 + [500] * 40))
    places = [0, 1, 2, 45, 100, 101]
    drawn = random_words(counts, places, np.random.default_rng(0))
    assert len(set(drawn)) == 6 and not set(drawn) & set(places)
    assert sorted(counts[drawn].tolist()) == [5, 5, 5, 50, 500, 500]
    with pytest.raises(ValueError, match="1 other words cannot stand in for 3"):
        random_words(counts[:4], [0, 1, 2], np.random.default_rng(0))


def test_matching_is_stable_where_the_neurons_are_planted(tokenizer, texts):
    model = planted_llama(tokenizer)
    measured = {name: measure_words(model, tokenizer, part) for name, part in (("a", texts[:30]), ("b", texts[30:]))}
    frame = match_stability(measured, {"five": ["w5"], "other": ["w30"], "absent": ["w99"]}, top_k=2)
    assert frame["concept"].tolist() == ["five", "other"] and frame["chance"].tolist() == pytest.approx([2 / 72] * 2)
    assert frame["overlap"][0] == 1.0 and (frame["first"] + frame["second"]).tolist() == ["ab", "ab"]
    scores = [
        torch.cat([standardise(means)[found.select(["w5"])].mean(0) for means in found.means])
        for found in measured.values()
    ]
    assert frame["rho"][0] == pytest.approx(spearmanr(*scores).statistic)


def test_agreement_is_spearmans_rho_with_a_null_around_zero():
    generator = np.random.default_rng(1)
    keys = pd.DataFrame([(block, neuron) for block in range(2) for neuron in range(50)], columns=["block", "neuron"])
    first = keys.assign(score=generator.normal(size=100))
    second = keys.assign(score=np.where(keys["block"] == 0, first["score"].round(1), generator.normal(size=100)))
    frame = attribution_agreement(first, second.sample(frac=1, random_state=0), n_shuffles=500)
    for block, row in frame.iterrows():
        mine = keys["block"] == block
        rho = spearmanr(first["score"][mine], second["score"][mine]).statistic
        assert row["rho"] == pytest.approx(rho) and row["neurons"] == 50
        assert row["null_low"] == pytest.approx(-0.28, abs=0.06) and row["null_high"] == pytest.approx(0.28, abs=0.06)
    assert frame["p_value"][0] == pytest.approx(1 / 501) and frame["p_value"][1] > 0.01
    flat = attribution_agreement(first, keys.assign(score=1.0), n_shuffles=10)
    assert (flat["rho"] == 0).all() and (flat["p_value"] == 1).all()
    with pytest.raises(ValueError, match="score the same"):
        attribution_agreement(first, second.head(10))
