"""Ablation: what the neurons are held at, that everything returns, and what has no mean."""

import math

import pandas as pd
import pytest
import torch

from labutils.attribution import ablate_neurons
from labutils.attribution.neurons import find_mlp_layers, hooked_neurons

IDS = torch.tensor([[0, 5, 9, 3, 7], [0, 8, 2, 4, 6]])
NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


def inner_vectors(model, **inputs):
    """What every down projection receives, rows × tokens × width, with the hooks that are there by now."""
    layers, seen = find_mlp_layers(model), {}
    with torch.no_grad(), hooked_neurons(layers, lambda block, inner: seen.__setitem__(block, inner)):
        model(**inputs)
    shape = inputs["input_ids"].shape
    return [seen[block].reshape(*shape, -1) for block in range(len(layers))]


@pytest.mark.parametrize("name", NAMES)
def test_neurons_are_held_at_zero_and_at_given_means(name, request):
    model = request.getfixturevalue(name)
    before = inner_vectors(model, input_ids=IDS)
    with ablate_neurons(model, [(0, 2), (2, 5)], to="zero"):
        held = inner_vectors(model, input_ids=IDS)
    assert not held[0][..., 2].any() and not held[2][..., 5].any()
    assert held[0][..., :2].equal(before[0][..., :2]) and not held[1].equal(before[1])
    frame = pd.DataFrame({"block": [0, 0], "neuron": [2, 4], "mean": [0.5, -1.5]})
    with ablate_neurons(model, frame):
        held = inner_vectors(model, input_ids=IDS)
    assert (held[0][..., 2] == 0.5).all() and (held[0][..., 4] == -1.5).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("through", ["model", "base_model"])
def test_without_a_known_mean_each_sequence_has_its_own(name, through, request):
    model = request.getfixturevalue(name)
    run = model if through == "model" else model.base_model
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    before = inner_vectors(model, input_ids=IDS, attention_mask=mask)[0]
    layers, seen = find_mlp_layers(model), {}
    with (
        torch.no_grad(),
        ablate_neurons(model, [(0, 3)]),
        hooked_neurons(layers, lambda *args: seen.__setitem__(*args)),
    ):
        run(input_ids=IDS, attention_mask=mask)
    held = seen[0].reshape(2, 5, -1)[..., 3]
    expected = [sum(before[0, :, 3].tolist()) / 5, sum(before[1, :3, 3].tolist()) / 3]
    torch.testing.assert_close(held, torch.tensor(expected).unsqueeze(1).expand(2, 5), rtol=1e-5, atol=1e-6)


def test_a_row_alone_and_in_a_batch_are_ablated_alike(tiny_llama):
    with torch.no_grad(), ablate_neurons(tiny_llama, [(0, 3), (1, 1)]):
        together = tiny_llama(input_ids=IDS).logits
        alone = torch.cat([tiny_llama(input_ids=row[None]).logits for row in IDS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["mean", "zero"])
def test_everything_returns_even_after_an_exception(to, tiny_opt):
    weights = {name: tensor.clone() for name, tensor in tiny_opt.state_dict().items()}
    with torch.no_grad():
        before = tiny_opt(input_ids=IDS).logits
        with pytest.raises(RuntimeError, match="interrupted"), ablate_neurons(tiny_opt, [(1, 1), (1, 2)], to=to):
            assert not tiny_opt(input_ids=IDS).logits.equal(before)
            raise RuntimeError("interrupted")
        assert tiny_opt(input_ids=IDS).logits.equal(before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny_opt.modules())
    assert all(tensor.equal(weights[name]) for name, tensor in tiny_opt.state_dict().items())


def test_contexts_nest(tiny_llama):
    with ablate_neurons(tiny_llama, [(0, 1)], to="zero"):
        with ablate_neurons(tiny_llama, [(0, 2)], to="zero"):
            held = inner_vectors(tiny_llama, input_ids=IDS)[0]
            assert not held[..., 1:3].any()
        held = inner_vectors(tiny_llama, input_ids=IDS)[0]
        assert not held[..., 1].any() and held[..., 2].any()


def test_what_cannot_be_ablated_is_refused(tiny_llama):
    for neurons, to, error, message in (
        ([(0, 1)], "median", ValueError, "Did you mean 'mean'"),
        ([], "mean", ValueError, "no neurons"),
        ([(9, 1)], "zero", LookupError, "no block 9"),
    ):
        with pytest.raises(error, match=message), ablate_neurons(tiny_llama, neurons, to=to):
            raise AssertionError("the context was entered")
    with pytest.raises(ValueError, match="single token"), torch.no_grad(), ablate_neurons(tiny_llama, [(0, 1)]):
        tiny_llama(input_ids=IDS[:, :1])
    frame = pd.DataFrame({"block": [0], "neuron": [1], "mean": [0.25]})
    with torch.no_grad(), ablate_neurons(tiny_llama, frame):
        assert math.isfinite(tiny_llama(input_ids=IDS[:, :1]).logits.sum())
