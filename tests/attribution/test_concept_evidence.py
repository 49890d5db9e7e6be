"""Texts that several concepts share as units, and the agreement of two ways of choosing neurons, planted."""

import numpy as np
import pandas as pd
import pytest
import torch

from labutils.attribution.activations import measure_words
from labutils.attribution.causality import partner_interval
from labutils.attribution.concept_evidence import concept_agreement, text_interval
from labutils.attribution.matching import concept_neurons


def overlapping(generator, n_texts=60, n_concepts=12, each=10, effect=0.0, text_noise=0.1, n_draws=4):
    """Concepts that are read on overlapping texts; a text moves all concepts that it is read for alike."""
    by_text = text_noise * generator.normal(size=n_texts)
    frames = []
    for concept in range(n_concepts):
        read = generator.choice(n_texts, size=each, replace=False)
        values = effect + by_text[read][:, None] + 0.01 * generator.normal(size=(each, n_draws))
        index = pd.MultiIndex.from_product([read, range(n_draws)], names=["text", "draw"])
        frame = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
        frames.append(frame.assign(concept=f"c{concept}", item=np.repeat(np.arange(each), n_draws)))
    return pd.concat(frames, ignore_index=True)


def test_shared_texts_are_one_unit_each():
    contrasts = overlapping(np.random.default_rng(0))
    found = text_interval(contrasts)
    assert found.estimate == pytest.approx(contrasts.groupby("concept")["value"].mean().mean())
    assert found.n_items == contrasts["text"].nunique() < 60 and found.units == ("text", "draw of random neurons")
    apart = partner_interval(contrasts, strata=["concept"])
    assert found.high - found.low > 1.2 * (apart.high - apart.low)  # 120 readings are at most 60 texts


def test_without_shared_texts_it_is_the_interval_of_concepts_apart():
    contrasts = overlapping(np.random.default_rng(1), n_texts=4000, each=20)
    contrasts = contrasts.assign(text=contrasts["concept"] + "/" + contrasts["item"].astype(str))
    found, apart = text_interval(contrasts), partner_interval(contrasts, strata=["concept"])
    assert found.estimate == pytest.approx(apart.estimate)
    assert 0.75 < (found.high - found.low) / (apart.high - apart.low) < 1.05  # 240 texts instead of 12 times 20


def test_the_interval_holds_the_planted_effect():
    generator = np.random.default_rng(2)
    found = [text_interval(overlapping(generator, effect=0.05)) for _ in range(30)]
    assert sum(each.low < 0.05 < each.high for each in found) >= 25  # 95 % less three standard errors


def test_agreement_is_told_concept_by_concept(tiny_llama, tokenizer, texts):
    found = measure_words(tiny_llama, tokenizer, texts)
    concepts = {"one": ["w1"], "two": ["w2"]}
    matching = {
        name: concept_neurons(found, words, 72).rename(columns={"z": "score"}) for name, words in concepts.items()
    }
    same = matching["one"].assign(concept="one")
    generator = torch.Generator().manual_seed(0)
    other = matching["two"].assign(concept="two", score=torch.randn(len(matching["two"]), generator=generator).numpy())
    table = concept_agreement(found, concepts, pd.concat([same, other]), n_shuffles=100)
    assert table.groupby("concept")["rho"].mean()["one"] == pytest.approx(1)
    assert (table[table["concept"] == "one"]["rho"] > table[table["concept"] == "one"]["null_high"]).all()
    assert table[table["concept"] == "two"]["rho"].abs().max() < 0.7 and set(table["block"]) == {0, 1, 2}
