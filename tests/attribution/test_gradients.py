"""Gradients along paths: completeness, literal loops, captum, chunks, tuples and bfloat16."""

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerConductance
from planted import planted_llama

from labutils.attribution import integration
from labutils.attribution.gradients import attribute_tokens, block_conductance, neuron_conductance
from labutils.attribution.integration import (
    KEPT,
    frozen_weights,
    log_likelihood,
    path_batches,
    point_bytes,
    probed_module,
    row_bytes,
)
from labutils.attribution.neurons import find_mlp_layers, hooked_neurons
from labutils.attribution.passages import Passage, text_passages
from labutils.attribution.refinement import refined_conductance
from labutils.models.structure import find_blocks

NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt"]
PASSAGES = [Passage([0, 5, 9, 3, 7, 8], 4), Passage([0, 8, 2, 4], 3)]


def ends(model, passage):
    """Embeddings of the text and of the baseline (end-of-text tokens after bos), and log p of the targets."""
    ids = torch.tensor([passage.ids])
    embed = model.get_input_embeddings()
    neutral = torch.tensor([[passage.ids[0]] + [1] * (len(passage.ids) - 1)])

    def score(embeddings):
        logits = model(inputs_embeds=embeddings, use_cache=False).logits[0].log_softmax(-1)
        return sum(logits[place - 1, ids[0, place]] for place in range(passage.first_target, len(passage.ids)))

    return embed(ids).detach(), embed(neutral).detach(), score


@pytest.mark.parametrize("name", NAMES)
def test_integrated_gradients_add_up_and_equal_a_slow_loop(name, request, tokenizer):
    model = request.getfixturevalue(name).double()
    frame = attribute_tokens(model, tokenizer, PASSAGES, tolerance=0.001)
    assert frame.attrs["completeness"] <= 0.001 and len(frame.attrs["points"]) == 2
    tokens = [(place, token) for passage in PASSAGES for place, token in enumerate(passage.ids) if place]
    assert list(zip(frame["position"], frame["token"], strict=True)) == tokens
    for index, passage in enumerate(PASSAGES):
        text, baseline, score = ends(model, passage)
        mine = frame[frame["passage"] == index]["attribution"].to_numpy()
        change = float((score(text) - score(baseline)).detach())
        assert mine.sum() == pytest.approx(change, abs=0.001 * max(abs(change), 0.1))
        total, n = torch.zeros_like(text), 1200 if name == "tiny_opt" else 400  # ReLU needs more
        for step in range(n):
            point = (baseline + (step + 0.5) / n * (text - baseline)).requires_grad_()
            total += torch.autograd.grad(score(point), point)[0] / n
        slow = ((text - baseline) * total).sum(-1)[0, 1:]
        np.testing.assert_allclose(mine, slow.numpy(), atol=0.005 * np.abs(slow.numpy()).max())


@pytest.mark.parametrize("name", NAMES)
def test_conductance_of_neurons_equals_a_slow_loop(name, request, tokenizer):
    model = request.getfixturevalue(name).double()
    frame = neuron_conductance(model, tokenizer, PASSAGES, tolerance=0.001)
    slow, layers = {}, find_mlp_layers(model)
    n = 401 if name == "tiny_opt" else 201  # ReLU needs more
    for passage in PASSAGES:
        text, baseline, score = ends(model, passage)
        states = [_inner(layers, score, baseline + alpha * (text - baseline)) for alpha in np.linspace(0, 1, n)]
        for (values, before), (after, then) in zip(states, states[1:], strict=False):
            for block, value in enumerate(values):
                gradients = (before[block] + then[block]) / 2
                slow[block] = slow.get(block, 0) + ((after[block] - value) * gradients).sum(0) / len(PASSAGES)
    for block, part in frame.groupby("block"):
        wanted = slow[block].numpy()
        np.testing.assert_allclose(part["score"], wanted, atol=0.005 * np.abs(wanted).max())
        assert part["neuron"].tolist() == list(range(len(wanted)))


def _inner(layers, score, point):
    """Inner vectors of every block at a point of the path, and the gradients of the score with respect to them."""
    shown = []
    with hooked_neurons(layers, lambda block, inner: shown.append(inner) or inner):
        value = score(point.requires_grad_())
    return [inner.detach() for inner in shown], torch.autograd.grad(value, shown)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_one_path_for_all_modules_gives_what_captum_gives_for_each(name, side, request, tokenizer):
    """captum's rule errs by the first power of the step, so it is run with many."""
    model = request.getfixturevalue(name).double()
    known = [layer.down for layer in find_mlp_layers(model)] if side == "input" else list(find_blocks(model)[1])
    outputs = [(block, "output") for block in find_blocks(model)[1]]
    modules, score = [(module, side) for module in known], log_likelihood(model)
    with frozen_weights(model):
        (batch,) = path_batches(model, tokenizer, PASSAGES, 2**30, "test")
        checked = range(len(modules), len(modules) + len(outputs))
        sums = refined_conductance(score, batch, modules + outputs, checked=checked, tolerance=1e-4, n_points=5000)
        for place, (module, _) in enumerate(modules):
            with probed_module(module, side, batch.ids.shape[1]) as probe:
                theirs = LayerConductance(score, probe).attribute(
                    batch.embeddings, batch.baseline, additional_forward_args=batch.fixed(), n_steps=1000,
                    method="riemann_trapezoid",
                )  # fmt: skip
            wanted = theirs.sum(1).detach()
            mine = torch.stack([path.totals[place] for path in sums])
            np.testing.assert_allclose(mine, wanted, atol=0.01 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_conductance_of_blocks_adds_up(name, request, tokenizer):
    model = request.getfixturevalue(name)
    frame = block_conductance(model, tokenizer, PASSAGES)
    assert frame.attrs["completeness"] <= 0.02
    changes = [float((score(text) - score(base)).detach()) for text, base, score in (ends(model, p) for p in PASSAGES)]
    allowed = 0.02 * np.mean([max(abs(change), 0.1) for change in changes])
    for _, part in frame.groupby("block"):
        assert len(part) == 16 and part["score"].sum() == pytest.approx(np.mean(changes), abs=allowed)


def test_the_memory_changes_nothing_but_the_chunks(tiny_llama, tokenizer, texts):
    passages = text_passages(tiny_llama, tokenizer, texts[:3])
    longest = max(len(passage.ids) for passage in passages)
    row, point = row_bytes(tiny_llama, longest, longest - 1), point_bytes(tiny_llama, longest)
    for function, column in ((attribute_tokens, "attribution"), (neuron_conductance, "score")):
        all_at_once = function(tiny_llama, tokenizer, passages)
        in_chunks = function(tiny_llama, tokenizer, passages, memory=3 * row + KEPT * point)
        scale = all_at_once[column].abs().max()  # which part may miss how much depends on the order they are taken in
        np.testing.assert_allclose(all_at_once[column], in_chunks[column], atol=0.02 * scale)
    assert row_bytes(tiny_llama, 20, 1) > 2 * row_bytes(tiny_llama, 10, 1)
    with pytest.raises(ValueError, match="the path of a passage of .* needs about .* MiB"):
        neuron_conductance(tiny_llama, tokenizer, passages, memory=row)


def test_a_long_passage_takes_more_memory_where_it_is_free(tiny_llama, tokenizer, texts, monkeypatch):
    passages = text_passages(tiny_llama, tokenizer, texts[:3])
    expected = neuron_conductance(tiny_llama, tokenizer, passages)
    monkeypatch.setattr(integration, "MEMORY", 1000)
    found = neuron_conductance(tiny_llama, tokenizer, passages)
    np.testing.assert_allclose(found["score"], expected["score"], atol=0.02 * expected["score"].abs().max())
    monkeypatch.setattr(integration, "free_memory", lambda device: 2000)
    with pytest.raises(ValueError, match=r"needs about .* MiB, and 0 MiB are free: give shorter passages \(n_tokens\)"):
        neuron_conductance(tiny_llama, tokenizer, passages)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_weights_are_read_in_float32_and_given_back(name, request, tokenizer):
    model = request.getfixturevalue(name).bfloat16()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rough = attribute_tokens(model, tokenizer, PASSAGES)
    with pytest.raises(ValueError, match="raise n_steps"):
        attribute_tokens(model, tokenizer, PASSAGES, n_steps=9, tolerance=1e-9)
    missed = attribute_tokens(model, tokenizer, PASSAGES, n_steps=9, tolerance=1e-9, strict=False).attrs
    assert missed["completeness"] > 1e-9 and set(missed["points"]) == {9}
    after = model.state_dict()
    assert all(after[name].dtype == tensor.dtype and after[name].equal(tensor) for name, tensor in before.items())
    exact = attribute_tokens(model.float(), tokenizer, PASSAGES)
    pd.testing.assert_frame_equal(rough, exact)
    assert rough.attrs == exact.attrs


def test_a_probe_sees_the_tensor_of_a_tuple():
    class Block(torch.nn.Module):
        def forward(self, states):
            return (states * 2, None)

    block, states, seen = Block(), torch.ones(3, 4, 5), []
    with probed_module(block, "output", 4) as probe:
        probe.register_forward_hook(lambda module, args, output: seen.append(output) or output + 1)
        changed, rest = block(states)
    assert rest is None and seen[0].shape == (3, 4, 5) and (changed == 3).all()
    assert block(states)[0].equal(states * 2)
    flat = torch.nn.Linear(5, 5)
    with probed_module(flat, "input", 4) as probe:
        probe.register_forward_hook(lambda module, args, output: seen.append(output))
        assert flat(states.reshape(12, 5)).shape == (12, 5)
    assert seen[1].shape == (3, 4, 5)


def test_the_planted_neuron_carries_the_prediction(tokenizer):
    """The unit that fires on w5 says that w6 follows: no neuron has more conductance for it."""
    model = planted_llama(tokenizer)
    first, after = tokenizer.convert_tokens_to_ids(["w5", "w6"])
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[after, 47] = 1.0
        model.model.layers[0].mlp.down_proj.weight[47, 3] = 1.0
    frame = neuron_conductance(model, tokenizer, [Passage([0, first, after], 2)])
    best = frame.loc[frame["score"].idxmax()]
    assert (best["block"], best["neuron"]) == (0, 3) and best["score"] > 0
    assert frame["score"].abs().sum() == pytest.approx(best["score"], rel=1e-4)


def test_what_cannot_be_attributed_is_refused(tiny_llama, tiny_bert, tokenizer):
    trained = [parameter.requires_grad for parameter in tiny_llama.parameters()]
    with pytest.raises(ValueError, match="raise n_steps"):
        attribute_tokens(tiny_llama, tokenizer, PASSAGES, n_steps=11, tolerance=1e-9)
    with pytest.raises(ValueError, match="less than the 9 points"):
        attribute_tokens(tiny_llama, tokenizer, PASSAGES, n_steps=8)
    with pytest.raises(ValueError, match="must be more than 0"):
        attribute_tokens(tiny_llama, tokenizer, PASSAGES, tolerance=0.0)
    assert [parameter.requires_grad for parameter in tiny_llama.parameters()] == trained
    with pytest.raises(ValueError, match="is not a causal language model"):
        attribute_tokens(tiny_bert, tokenizer, PASSAGES)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no end-of-text token"):
        attribute_tokens(tiny_llama, tokenizer, PASSAGES)


@pytest.mark.parametrize("first", [0, -1, 4, 9])
def test_a_passage_without_targets_is_refused(tiny_llama, tokenizer, first: int) -> None:
    with pytest.raises(ValueError, match="passage 1 has 4 tokens; its first_target"):
        attribute_tokens(tiny_llama, tokenizer, [PASSAGES[0], Passage(PASSAGES[0].ids[:4], first)])
