"""Dead neurons, changed predictions, and neurons that get their weights back."""

import copy
import math

import pandas as pd
import pytest
import torch
from planted import PLANTED, planted_llama

from labutils.attribution.activations import measure_words
from labutils.attribution.neurons import find_mlp_layers, neuron_weights
from labutils.attribution.passages import passage_losses, target_log_likelihoods, text_passages
from labutils.attribution.weight_restoration import (
    changed_passages,
    changed_predictions,
    neuron_survival,
    revival_check,
    revived,
)

NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt"]


@torch.no_grad()
def kill(model, block, neuron):
    pruned = copy.deepcopy(model)
    for view in neuron_weights(find_mlp_layers(pruned)[block], neuron):
        view.zero_()
    return pruned


def test_a_killed_neuron_is_dead_and_no_other(tokenizer, texts):
    model = planted_llama(tokenizer)
    pruned = kill(model, 1, 20)
    dense, after = (measure_words(each, tokenizer, texts) for each in (model, pruned))
    frame = neuron_survival(dense, after, pruned)
    assert len(frame) == 3 * 24 and frame.columns[:5].tolist() == ["block", "neuron", "dense", "pruned", "kept"]
    dead = frame[frame["dead"]]
    assert dead[["block", "neuron", "kept", "weights"]].values.tolist() == [[1, 20, 0.0, 0.0]]
    planted = frame.set_index(["block", "neuron"]).loc[[pair for pair in PLANTED if pair != (1, 20)]]
    assert (planted["kept"] == 1).all() and (planted["weights"] == 2 / 144).all()
    assert frame["kept"].isna().sum() == 3 * 24 - len(PLANTED)  # never varied: neither alive nor dead


@pytest.mark.parametrize("name", NAMES)
def test_changes_are_those_of_the_log_likelihoods(name, request, tokenizer, texts):
    model = request.getfixturevalue(name)
    pruned = kill(model, 0, 1)
    passages = text_passages(model, tokenizer, texts[:4])
    before, after = (target_log_likelihoods(each, tokenizer, passages) for each in (model, pruned))
    frame = changed_predictions(model, pruned, tokenizer, passages)
    assert len(frame) == sum(len(values) for values in before) and frame["change"].is_monotonic_increasing
    for row in frame.itertuples():
        values = [float(each[row.passage][row.position - 1]) for each in (before, after)]
        assert [row.dense, row.pruned] == pytest.approx(values, abs=1e-5)
        assert row.change == pytest.approx(values[1] - values[0], abs=1e-5)
        assert row.token == texts[row.passage].split()[row.position - 1]
    worst = changed_passages(frame)
    for row in worst.itertuples():
        mean = float((after[row.passage] - before[row.passage]).mean())
        assert row.change == pytest.approx(mean, abs=1e-5)
        assert row.worst_change == pytest.approx(float((after[row.passage] - before[row.passage]).min()), abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_revived_weights_are_the_dense_ones_and_go_again(name, request, tokenizer, texts):
    model = request.getfixturevalue(name)
    pruned = kill(kill(model, 0, 1), 2, 3)
    passages = text_passages(model, tokenizer, texts[:4])
    pruned_weights = {key: value.clone() for key, value in pruned.state_dict().items()}
    with revived(model, pruned, [(0, 1), (2, 3)]):
        assert passage_losses(pruned, tokenizer, passages).equal(passage_losses(model, tokenizer, passages))
        assert all(value.equal(model.state_dict()[key]) for key, value in pruned.state_dict().items())
    with pytest.raises(RuntimeError, match="interrupted"), revived(model, pruned, [(0, 1)]):
        raise RuntimeError("interrupted")
    assert all(value.equal(pruned_weights[key]) for key, value in pruned.state_dict().items())


def test_the_prediction_returns_with_the_neuron_that_carried_it(tiny_llama, tokenizer, texts):
    pruned = kill(tiny_llama, 1, 7)
    passages = text_passages(tiny_llama, tokenizer, texts[:8])
    frame = revival_check(tiny_llama, pruned, tokenizer, passages, [(1, 7)], n_random=4, seed=4)
    assert frame["kind"].tolist() == ["chosen"] + ["random"] * 4 and set(frame["size"]) == {1}
    assert frame["returned"].tolist() == pytest.approx([1.0, 0, 0, 0, 0], abs=1e-6)
    means = [float(passage_losses(each, tokenizer, passages).mean()) for each in (tiny_llama, pruned)]
    assert frame.loc[0, ["dense", "pruned", "revived"]].tolist() == pytest.approx([*means, means[0]])


def test_neurons_are_revived_together_in_growing_sets(tiny_llama, tokenizer, texts):
    pruned = kill(kill(kill(tiny_llama, 1, 7), 2, 3), 0, 1)
    passages = text_passages(tiny_llama, tokenizer, texts[:8])
    weights = {key: value.clone() for key, value in pruned.state_dict().items()}
    lost = [(1, 7), (2, 3), (0, 1)]
    frame = revival_check(tiny_llama, pruned, tokenizer, passages, lost, sizes=[1, 2, 3], n_random=2)
    chosen = frame[frame["kind"] == "chosen"].set_index("size")["returned"]
    assert chosen[3] == pytest.approx(1.0, abs=1e-6) and chosen[1] != chosen[2] and len(frame) == 9
    with revived(tiny_llama, pruned, lost[:2]):
        partly = float(passage_losses(pruned, tokenizer, passages).mean())
    assert frame[(frame["size"] == 2) & (frame["kind"] == "chosen")]["revived"].item() == pytest.approx(partly)
    assert all(value.equal(weights[key]) for key, value in pruned.state_dict().items())
    for sizes in ([4], [0], []):
        with pytest.raises(ValueError, match="between 1 and the 3 neurons given"):
            revival_check(tiny_llama, pruned, tokenizer, passages, lost, sizes=sizes)


def test_nothing_can_return_where_nothing_went(tiny_llama, tiny_gpt2, tokenizer, texts):
    passages = text_passages(tiny_llama, tokenizer, texts[:2])
    frame = revival_check(tiny_llama, copy.deepcopy(tiny_llama), tokenizer, passages, [(0, 0)], n_random=1)
    assert all(math.isnan(value) for value in frame["returned"])
    with pytest.raises(ValueError, match="differ in their blocks"), revived(tiny_llama, tiny_gpt2, [(0, 0)]):
        raise AssertionError("the context was entered")
    with pytest.raises(LookupError, match="no block 7"):
        revival_check(
            tiny_llama, copy.deepcopy(tiny_llama), tokenizer, passages, pd.DataFrame({"block": [7], "neuron": [0]})
        )
