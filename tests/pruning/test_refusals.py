"""What cannot be pruned as it is: refused before anything runs, or walked as the model itself would be."""

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

import labutils as lab
from labutils.pruning.calibration import BlockWalk

IDS = torch.arange(32).reshape(4, 8)


def test_weights_that_are_computed_are_refused(tiny_llama) -> None:
    layer = tiny_llama.model.layers[1].mlp.up_proj
    torch_prune.l1_unstructured(layer, "weight", amount=0.2)
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is computed anew.*prune\.remove"):
        lab.prune(tiny_llama, IDS, method="magnitude", sparsity=0.5)
    torch_prune.remove(layer, "weight")
    lab.prune(tiny_llama, IDS, method="wanda", sparsity=0.5)
    nn.utils.parametrizations.weight_norm(layer)
    with pytest.raises(ValueError, match=r"remove_parametrizations"):
        lab.prune(tiny_llama, IDS, method="wanda", sparsity=0.5)


def test_half_of_an_encoder_decoder_is_refused() -> None:
    config = BartConfig(
        vocab_size=64, d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    with pytest.raises(ValueError, match="BartForConditionalGeneration has an encoder and a decoder"):
        lab.prune(BartForConditionalGeneration(config).eval(), IDS, method="wanda", sparsity=0.5)


def test_layers_that_are_never_seen_are_refused(tiny_llama) -> None:
    """As in a block that was compiled: what it computes goes past the hooks of its layers."""
    mlp = tiny_llama.model.layers[1].mlp

    def forward(states: torch.Tensor) -> torch.Tensor:
        gate, up = (nn.functional.linear(states, layer.weight) for layer in (mlp.gate_proj, mlp.up_proj))
        return mlp.down_proj(nn.functional.silu(gate) * up)

    mlp.forward = forward
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"layers\.1\.mlp\.gate_proj was not seen to read a single token \(2 of 7.*compiled code"
    ):
        lab.prune(tiny_llama, IDS, method="sparsegpt", sparsity=0.5)
    assert all(tensor.equal(before[name]) for name, tensor in tiny_llama.state_dict().items())


def test_a_cache_does_not_grow_with_the_replay() -> None:
    """IBM's Granite 4 takes `use_cache` among its keywords; the last block's inputs must be the pruned model's own."""
    torch.manual_seed(0)
    config = GraniteMoeHybridConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, shared_intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=2, num_local_experts=0,
        layer_types=["mamba", "attention", "attention"],
        mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1,
        initializer_range=0.3, max_position_embeddings=64,
    )  # fmt: skip
    model = GraniteMoeHybridForCausalLM(config).eval()
    walk = BlockWalk(model, IDS)
    for index in range(2):
        walk.collect(index, hessian=False)
        walk.advance(index)
    seen = []
    handle = model.model.layers[2].register_forward_pre_hook(
        lambda layer, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with handle, torch.no_grad():
        model(input_ids=IDS, use_cache=False)
    torch.testing.assert_close(walk.hidden[0], seen[0])
