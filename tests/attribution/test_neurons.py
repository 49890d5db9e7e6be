"""MLP neurons by structure: the down projection, the layers that write it, and the checks of a list of neurons."""

import pandas as pd
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from labutils.attribution.neurons import check_neurons, find_mlp_layers, hooked_neurons, neuron_weights

SIZES = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("name", "down", "ups"),
    [
        ("tiny_llama", "mlp.down_proj", ["gate_proj", "up_proj"]),
        ("tiny_gpt2", "mlp.c_proj", ["c_fc"]),
        ("tiny_opt", "fc2", ["fc1"]),
        ("tiny_bert", "output.dense", ["intermediate.dense"]),
    ],
)
def test_the_down_projection_is_found_by_structure(name, down, ups, request):
    model = request.getfixturevalue(name).train()
    names = {module: path for path, module in model.named_modules()}
    with torch.inference_mode():  # whatever the caller's own mode is
        layers = find_mlp_layers(model)
    assert len(layers) == 3 and model.training
    for layer in layers:
        assert layer.name == names[layer.down] and layer.name.endswith(down)
        assert "attention" not in layer.name
        assert [up for up in ups if any(names[found].endswith(up) for found in layer.ups)] == ups
        assert len(layer.ups) == len(ups)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_attention_of_the_same_width_is_not_mistaken_for_an_mlp(tiny_llama):
    for block in tiny_llama.model.layers:  # a square MLP: no shape tells it from the attention
        block.mlp.gate_proj = torch.nn.Linear(16, 16, bias=False)
        block.mlp.up_proj = torch.nn.Linear(16, 16, bias=False)
        block.mlp.down_proj = torch.nn.Linear(16, 16, bias=False)
    assert [layer.name for layer in find_mlp_layers(tiny_llama)] == [
        f"model.layers.{block}.mlp.down_proj" for block in range(3)
    ]


def test_fused_parallel_and_in_place_blocks():
    torch.manual_seed(0)
    fused = Phi3ForCausalLM(Phi3Config(**SIZES, intermediate_size=24, pad_token_id=0)).eval()
    (layer, _) = find_mlp_layers(fused)
    assert layer.width == 24 and len(layer.ups) == 1 and layer.ups[0].out_features == 48
    assert [tuple(view.shape) for view in neuron_weights(layer, 5)] == [(2, 16), (16,)]
    assert torch.equal(neuron_weights(layer, 5)[0], layer.ups[0].weight[[5, 29]])
    parallel = FalconForCausalLM(FalconConfig(**SIZES, multi_query=True)).eval()  # attention reads the same tensor
    assert [len(layer.ups) for layer in find_mlp_layers(parallel)] == [1, 1]
    bloom = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2)).eval()
    assert find_mlp_layers(bloom)[0].name.endswith("dense_4h_to_h")


def test_fused_experts_have_no_neurons():
    config = MixtralConfig(**SIZES, intermediate_size=24, num_local_experts=2, num_key_value_heads=1)
    with pytest.raises(LookupError, match="no MLP neurons were found in model.layers.0"):
        find_mlp_layers(MixtralForCausalLM(config).eval())


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"])
def test_neurons_are_what_enters_the_down_projection(name, request):
    model = request.getfixturevalue(name)
    layers, seen = find_mlp_layers(model), {}
    with torch.no_grad(), hooked_neurons(layers, lambda block, inner: seen.__setitem__(block, inner)):
        model(input_ids=torch.arange(10).reshape(2, 5))
    assert {block: tuple(inner.shape) for block, inner in seen.items()} == {
        block: (10, layer.width) for block, layer in enumerate(layers)
    }
    with pytest.raises(RuntimeError, match="stop"), hooked_neurons(layers, _stop):
        model(input_ids=torch.arange(4).reshape(1, 4))
    assert not any(layer.down._forward_pre_hooks for layer in layers)


def _stop(block, inner):
    raise RuntimeError("stop")


def test_a_gated_neuron_is_the_product_of_gate_and_up(tiny_llama):
    layers, seen, entered = find_mlp_layers(tiny_llama), {}, []
    handle = tiny_llama.model.layers[1].mlp.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    with torch.no_grad(), hooked_neurons(layers, lambda block, inner: seen.__setitem__(block, inner)):
        tiny_llama(input_ids=torch.arange(6).reshape(1, 6))
    handle.remove()
    gate, up = (layer.weight.detach() for layer in layers[1].ups)
    for token, state in enumerate(entered[0][0]):
        for neuron in range(24):
            before = float(gate[neuron] @ state)
            silu = before / (1 + torch.tensor(-before).exp().item())
            assert float(seen[1][token, neuron]) == pytest.approx(silu * float(up[neuron] @ state), abs=1e-5)


def test_lists_of_neurons_are_checked(tiny_llama):
    layers = find_mlp_layers(tiny_llama)
    frame = pd.DataFrame({"block": [0, 2, 0], "neuron": [1, 23, 1], "mean": [0.5, 1.0, 9.0]})
    assert check_neurons(frame, layers).to_dict("list") == {"block": [0, 2], "neuron": [1, 23], "mean": [0.5, 1.0]}
    assert check_neurons([(1, 3)], layers).to_dict("list") == {"block": [1], "neuron": [3]}
    for bad, error, message in (
        ([(3, 0)], LookupError, "no block 3.*0 to 2"),
        ([(0, 24)], LookupError, "block 0 has no neuron 24.*0 to 23"),
        ([], ValueError, "no neurons"),
        (frame[["block"]], ValueError, "missing: neuron"),
    ):
        with pytest.raises(error, match=message):
            check_neurons(bad, layers)
