"""A whole model quantised in place, and pruning before or after it."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import labutils as lab
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.quantisation import bits_of, list_kinds, prune_and_quantise, quantise, round_blocks, round_to_nearest

TOKENS = torch.randint(0, 64, (4, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def matrices(model: LlamaForCausalLM) -> list[torch.Tensor]:
    return [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]


def state(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_matrices_of_the_blocks_are_rounded_and_nothing_else(model) -> None:
    before, dense = state(model), [weight.clone() for weight in matrices(model)]
    report = quantise(model, "rtn4", group_size=16)
    for weight, old in zip(matrices(model), dense, strict=True):
        assert torch.equal(weight, round_to_nearest(old, 4, group_size=16))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{name}.weight" for name in report.layers["name"]}
    assert report.bits == bits_of("rtn4", group_size=16) == 4 + 20 / 16


def test_block_formats_work_on_the_rows_of_a_transposed_layer_too(tiny_gpt2) -> None:
    layer = find_blocks(tiny_gpt2)[1][0].mlp.c_proj  # 64 inputs, stored (in × out)
    old = weight_matrix(layer).clone()
    with pytest.raises(ValueError, match="rows of 16 are no multiple of 32"):
        quantise(tiny_gpt2, "Q4_0")
    assert torch.equal(weight_matrix(layer), old)
    assert np.array_equal(round_blocks(old.contiguous().numpy(), "Q8_0").shape, old.shape)


def test_zeros_are_counted_and_put_back_when_asked_for(model) -> None:
    lab.prune(model, TOKENS, method="magnitude", sparsity=0.5)
    kept = [weight != 0 for weight in matrices(model)]
    moved = quantise(model, "Q4_1").layers
    assert (moved["zeros_kept"] < moved["zeros"]).all()
    torch.manual_seed(0)
    again = LlamaForCausalLM(model.config).eval()
    lab.prune(again, TOKENS, method="magnitude", sparsity=0.5)
    quantise(again, "Q4_1", keep_zeros=True)
    assert all((weight[~mask] == 0).all() for weight, mask in zip(matrices(again), kept, strict=True))


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("rtn1", {}, LookupError, "unknown kind 'rtn1'"),
        ("Q4_0", {"group_size": 32}, ValueError, "leave out group_size"),
        ("Q4_K", {}, ValueError, r"model\.layers\.0\..*rows of 32 are no multiple of 256"),
        ("rtn4", {"group_size": 24}, ValueError, "groups of 24 do not divide"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(model, kind, options, error, message) -> None:
    before = state(model)
    with pytest.raises(error, match=message):
        quantise(model, kind, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_with_nan_is_refused(model) -> None:
    matrices(model)[3][0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        quantise(model, "rtn8")


@pytest.mark.parametrize("kind", ["rtn3", "Q4_0"])
def test_both_orders_end_on_the_levels_with_the_zeros_that_were_asked_for(model, kind: str) -> None:
    dense = state(model)
    for order in ("prune first", "quantise first"):
        model.load_state_dict(dense)
        prune_and_quantise(model, TOKENS, order=order, method="wanda", sparsity=0.5, kind=kind)
        for weight in matrices(model):
            assert (weight == 0).float().mean() >= 0.5 - 1e-6
    model.load_state_dict(dense)
    quantise(model, kind)
    rounded = [weight.clone() for weight in matrices(model)]
    model.load_state_dict(dense)
    prune_and_quantise(model, TOKENS, order="quantise first", method="wanda", sparsity=0.5, kind=kind)
    for weight, values in zip(matrices(model), rounded, strict=True):
        assert torch.equal(weight, torch.where(weight != 0, values, 0.0))


def test_weights_that_rounding_made_equal_are_pruned_by_the_original_ones(model) -> None:
    dense = [weight.clone() for weight in matrices(model)]
    prune_and_quantise(model, TOKENS, order="quantise first", method="magnitude", sparsity=0.5, kind="rtn2")
    for weight, old in zip(matrices(model), dense, strict=True):
        rounded = round_to_nearest(old, 2, group_size=32)
        for level in rounded.unique():
            tied = rounded == level
            kept, gone = tied & (weight != 0), tied & (weight == 0)
            if level != 0 and kept.any() and gone.any():
                assert old[kept].abs().min() >= old[gone].abs().max() - 1e-6


def test_a_method_that_changes_what_it_keeps_cannot_come_second(model) -> None:
    before = state(model)
    with pytest.raises(ValueError, match="sparsegpt changes the weights that it keeps"):
        prune_and_quantise(model, TOKENS, order="quantise first", method="sparsegpt", sparsity=0.5, kind="rtn4")
    with pytest.raises(ValueError, match="order='both'"):
        prune_and_quantise(model, TOKENS, order="both", method="wanda", sparsity=0.5, kind="rtn4")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_kind_is_nearer_to_the_model_the_more_bits_it_has(model) -> None:
    dense, errors = state(model), {}
    for kind in [name for name in list_kinds() if not name.endswith("_K")]:
        model.load_state_dict(dense)
        errors[kind] = quantise(model, kind).layers["relative_error"].mean()
    rounded = [errors[f"rtn{bits}"] for bits in range(8, 1, -1)]
    assert rounded == sorted(rounded) and errors["Q8_0"] < errors["Q5_0"] < errors["Q4_0"]
