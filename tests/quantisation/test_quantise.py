"""A whole model quantised in place, and pruning before or after it."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import labutils as lab
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.quantisation import (
    FORMATS,
    bits_of,
    check_fits,
    fitting_formats,
    list_kinds,
    prune_and_quantise,
    quantise,
    round_blocks,
    round_to_nearest,
)

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


def test_rows_that_blocks_do_not_divide_are_refused_before_anything_changes(tiny_gpt2) -> None:
    old = [weight.clone() for weight in matrices(tiny_gpt2)]
    with pytest.raises(ValueError, match="rows of 16 are no multiple of 32"):
        quantise(tiny_gpt2, "Q4_0")
    with pytest.raises(ValueError, match="c_attn: Q4_0 needs rows of whole groups of 32, got 16"):
        check_fits(tiny_gpt2, "Q4_0")
    assert all(torch.equal(weight, before) for weight, before in zip(matrices(tiny_gpt2), old, strict=True))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "rtn3", "sym3"])
def test_a_transposed_layer_is_rounded_along_its_inputs(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32, "initializer_range": 0.3}
    model = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
    old = [weight.clone() for weight in matrices(model)]
    quantise(model, kind)
    for weight, before in zip(matrices(model), old, strict=True):
        if kind in FORMATS:
            expected = torch.from_numpy(round_blocks(before.contiguous().numpy(), kind))
        else:
            expected = round_to_nearest(before, 3, group_size=32, symmetric=kind == "sym3")
        assert torch.equal(weight, expected) and not torch.equal(weight, before)
    check_fits(model, kind)


def test_the_formats_that_fit_a_model_are_those_that_can_be_given_to_it(model, tiny_gpt2) -> None:
    assert fitting_formats(model) == ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]
    assert fitting_formats(tiny_gpt2) == []


def test_symmetric_kinds_are_those_of_the_option(model) -> None:
    dense = state(model)
    report = quantise(model, "sym4")
    named = state(model)
    model.load_state_dict(dense)
    assert report.bits == quantise(model, "rtn4", symmetric=True).bits == 4.5
    assert all(torch.equal(tensor, named[name]) for name, tensor in model.state_dict().items())


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


@pytest.mark.parametrize("kind", ["rtn3", "Q4_0", "sym3"])
def test_both_orders_end_on_levels_of_their_own(model, kind: str) -> None:
    dense = state(model)
    options = {"method": "magnitude", "sparsity": 0.5, "kind": kind}
    prune_and_quantise(model, TOKENS, order="prune first", **options)
    found = [weight.clone() for weight in matrices(model)]
    model.load_state_dict(dense)
    lab.prune(model, TOKENS, method="magnitude", sparsity=0.5)
    kept = [weight != 0 for weight in matrices(model)]
    quantise(model, kind)  # the levels of what is left
    for weight, mask, values in zip(found, kept, matrices(model), strict=True):
        assert torch.equal(weight, values * mask) and mask.float().mean() == pytest.approx(0.5, abs=0.01)

    model.load_state_dict(dense)
    quantise(model, kind)  # the levels of all weights
    rounded = [weight.clone() for weight in matrices(model)]
    model.load_state_dict(dense)
    prune_and_quantise(model, TOKENS, order="quantise first", **options)
    for weight, values in zip(matrices(model), rounded, strict=True):
        assert torch.equal(weight, torch.where(weight != 0, values, 0.0))
        near = 1e-3 * values.abs().max()  # levels of two groups that are nearer than this may change places
        assert values[weight == 0].abs().max() <= values[weight != 0].abs().min() + near
        assert not torch.equal(weight, values)


@pytest.mark.parametrize("kind", ["Q8_0", "sym3", "rtn2"])
def test_in_sixteen_bits_ties_fall_to_the_original_weight_as_in_float32(model, kind: str) -> None:
    model = model.to(torch.bfloat16)
    old = [weight.clone() for weight in matrices(model)]
    options = {"order": "quantise first", "method": "magnitude", "sparsity": 0.5, "kind": kind}
    prune_and_quantise(model, TOKENS, **options)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    masks = [weight != 0 for weight in matrices(model)]
    for weight, before in zip(matrices(model), old, strict=True):
        weight.copy_(before)
    model = model.float()
    prune_and_quantise(model, TOKENS, **options)
    split = 0
    for mask, weight, before in zip(masks, matrices(model), old, strict=True):
        assert torch.equal(mask, weight != 0)
        sizes, values = before.float().abs(), quantised(before, kind).abs()
        for level in values[mask].unique():
            kept, gone = (values == level) & mask, (values == level) & ~mask
            if gone.any():
                split += 1
                assert sizes[kept].min() >= sizes[gone].max()
    assert split  # the cut falls between weights of one level


def quantised(weight: torch.Tensor, kind: str) -> torch.Tensor:
    if kind in FORMATS:
        return torch.from_numpy(round_blocks(weight.float().numpy(), kind))
    return round_to_nearest(weight, int(kind[-1]), group_size=32, symmetric=kind.startswith("sym"))


def test_an_error_gives_a_model_in_sixteen_bits_back_as_it_was(model) -> None:
    model = model.to(torch.bfloat16)
    before = state(model)
    with pytest.raises(ValueError, match="sparsegpt changes the weights that it keeps"):
        prune_and_quantise(model, TOKENS, order="quantise first", method="sparsegpt", sparsity=0.5, kind="rtn4")
    after = model.state_dict()
    assert all(after[name].dtype == old.dtype and torch.equal(after[name], old) for name, old in before.items())


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
    assert rounded == sorted(rounded)
    symmetric = [errors[f"sym{bits}"] for bits in range(8, 1, -1)]
    assert symmetric == sorted(symmetric) and errors["Q8_0"] < errors["Q5_0"] < errors["Q4_0"]
