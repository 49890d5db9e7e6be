"""Sweeps over concepts: the comparison of every pruning, and the model dense afterwards."""

import pandas as pd
import pytest
import torch
from planted import PLANTED, planted_llama

from labutils.attribution.activations import measure_words
from labutils.attribution.comparison import compare_activations, concept_drops
from labutils.attribution.concept_sweep import concept_sweep


def test_a_concept_sweep_is_the_comparison_of_every_pruning(tokenizer, texts):
    model = planted_llama(tokenizer)
    draws = [torch.randint(3, 40, (4, 12), generator=torch.Generator().manual_seed(draw)) for draw in range(2)]
    concepts = {"five": ["w5"], "others": ["w11", "w30"], "absent": ["w99"]}
    frame = concept_sweep(
        model, tokenizer, texts, concepts, draws=draws, methods=["magnitude"], sparsities=[0.0, 0.9], top_k=2
    )
    assert set(frame["concept"]) == {"five", "others"} and len(frame) == 2 * 2 * 2
    dense = frame[frame["sparsity"] == 0.0]
    assert (dense["relative_drop"] == 0).all() and (dense["change"] == 0).all()
    found = measure_words(model, tokenizer, texts, ["w5", "w11", "w30"])
    own = [pair for pair, word in PLANTED.items() if word == "w5"]
    pairs = pd.DataFrame([(block, neuron, "w5") for block, neuron in own], columns=["block", "neuron", "word"])
    expected = concept_drops(compare_activations(found, found, pairs), {"five": ["w5"]}).iloc[0]
    assert frame[frame["concept"] == "five"]["dense"].tolist() == pytest.approx([expected["dense"]] * 4)
