"""Errors of single layers against literal outputs, ratios to the best known, and optima that brute force confirms."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import labutils as lab
from labutils.models.structure import prunable_layers
from labutils.optima.gradient_shares import gradient_shares
from labutils.optima.layer_errors import input_dispersion, layer_errors, ratio_table, ratios_to_best
from labutils.optima.movement import weight_movement
from labutils.optima.small_optima import alike_inputs, small_optima
from labutils.pruning import matrix_method
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradients import model_gradients
from labutils.pruning.matrices import prune_matrix
from labutils.pruning.reconstruction import factor_hessian

METHODS = ["magnitude", "wanda", "wanda+obs", "wanda+ls", "wanda+swaps+ls", "gblm", "rgs", "sparsegpt", "alps"]


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 64, (12, 16), generator=torch.Generator().manual_seed(0))


def inputs_of(model: nn.Module, tokens: torch.Tensor, name: str) -> torch.Tensor:
    """What a layer of the dense model reads, [tokens, in], by a plain hook."""
    seen: list[torch.Tensor] = []
    hook = dict(model.named_modules())[name].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=tokens)
    hook.remove()
    return seen[0].flatten(0, 1).double()


def test_errors_are_those_of_the_layers_outputs(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    other = tokens.flip(0)[:7]
    rows = layer_errors(tiny_llama, tokens, other, methods=["wanda", "wanda+ls"], sparsities=[0.5], draw=3)
    assert set(rows["draw"]) == {3} and len(rows) == 2 * 3 * 7 and rows["reached"].eq(0.5).all()
    name = "model.layers.1.mlp.down_proj"
    weight = dict(tiny_llama.named_modules())[name].weight.detach()
    walk = BlockWalk(tiny_llama, tokens)
    walk.advance(0)
    own = walk.collect(1, hessian=True)["mlp.down_proj"]
    pruned = prune_matrix(weight, own, matrix_method("wanda+ls"), n_drop=weight.numel() // 2,
                          factor=factor_hessian(own.hessian.double())).weight  # fmt: skip
    row = rows[(rows["layer"] == "1.mlp.down_proj") & (rows["method"] == "wanda+ls")].iloc[0]
    for text, column in ((tokens, "error"), (other, "held_out")):
        inputs = inputs_of(tiny_llama, text, name)
        lost, whole = inputs @ (weight - pruned).double().T, inputs @ weight.double().T
        assert row[column] == pytest.approx((lost.square().sum() / whole.square().sum()).item(), rel=1e-4)
    assert row["kind"] == "down_proj" and row["depth"] == 0.5 and row["tokens_per_input"] == 12 * 16 / 24


def test_ratios_multiply_and_none_is_below_one(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    rows = layer_errors(
        tiny_llama, tokens, tokens, methods=METHODS, sparsities=[0.5], patterns=["2:4"], blocks=[1], damping=1e-6,
        model="tiny", draw=0,
    )  # fmt: skip
    assert set(rows["block"]) == {1} and len(rows) == 7 * 2 * len(METHODS)
    np.testing.assert_allclose(rows["held_out"], rows["error"], rtol=1e-9)
    ratios = ratios_to_best(rows)
    assert (ratios["ratio"] >= 1).all() and (ratios["of_mask"] >= 1).all()
    assert (ratios["of_reconstruction"] >= 1 - 1e-4).all()  # least squares is the best on every mask
    np.testing.assert_allclose(ratios["of_reconstruction"] * ratios["of_mask"], ratios["ratio"])
    wanda = ratios[ratios["method"].str.startswith("wanda") & ~ratios["method"].str.contains("swaps")]
    assert (wanda.groupby(["layer", "pattern"])["of_mask"].nunique() == 1).all()  # one mask, whatever follows
    table = ratio_table(ratios, ["method"]).set_index("method")
    expected = np.exp(np.log(ratios.loc[ratios["method"] == "wanda", "ratio"]).mean())
    assert table.loc["wanda", "ratio"] == pytest.approx(expected)
    assert table.loc["wanda+ls", "of_reconstruction"] == pytest.approx(1, abs=1e-4)
    assert (table["low"] <= table["high"]).all()


def test_what_has_no_error_of_one_layer_is_refused(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="changes a whole block"):
        layer_errors(tiny_llama, tokens, tokens, methods=["wanda+match"], sparsities=[0.5])
    with pytest.raises(ValueError, match="at least one sparsity"):
        layer_errors(tiny_llama, tokens, tokens, methods=["wanda"])
    with pytest.raises(LookupError, match="Did you mean 'wanda'"):
        layer_errors(tiny_llama, tokens, tokens, methods=["wandas"], sparsities=[0.5])


def test_the_model_stays_dense(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    layer_errors(tiny_llama, tokens, tokens, methods=["gblm", "wanda+ls"], sparsities=[0.5], blocks=[0])
    small_optima(tiny_llama, tokens, methods=["wanda+ls"], n_inputs=[6], n_outputs=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())


def test_dispersion_of_kept_weights() -> None:
    whole = torch.zeros(8, 6, dtype=torch.bool)
    whole[:, :3] = True
    assert input_dispersion(whole) == pytest.approx(np.var([8, 8, 8, 0, 0, 0], ddof=1) / (8 * 0.25))
    assert input_dispersion(torch.eye(6) > 0) == 0.0
    random = torch.rand(400, 400, generator=torch.Generator().manual_seed(0)) > 0.5
    assert input_dispersion(random) == pytest.approx(1, abs=0.2)
    for nothing in (torch.ones(3, 4) > 0, torch.zeros(3, 4) > 0, torch.tensor([[True], [False]])):
        assert np.isnan(input_dispersion(nothing))


def test_the_best_of_all_masks_is_no_worse_than_any_by_brute_force(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    rows = small_optima(tiny_llama, tokens, methods=["magnitude+ls", "wanda+swaps+ls"], n_inputs=[6], n_outputs=4)
    assert len(rows) == 2 * 3 * 7 and (rows["ratio"] >= 1 - 1e-6).all() and (rows["ratio"] > 1.01).any()
    weight = prunable_layers(tiny_llama.model.layers[0])["self_attn.q_proj"].weight.detach().double()
    places = torch.linspace(0, 15, 6).round().long(), torch.linspace(0, 15, 4).round().long()
    part = weight[places[1]][:, places[0]]
    inputs = inputs_of(tiny_llama, tokens, "model.layers.0.self_attn.q_proj")[:, places[0]]
    hessian = inputs.T @ inputs
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    lowest = 0.0
    for row in part:
        errors = []
        for kept in combinations(range(6), 3):
            chosen = list(kept)
            solved = torch.zeros(6, dtype=torch.float64)
            solved[chosen] = torch.linalg.solve(damped[chosen][:, chosen], (damped @ row)[chosen])
            errors.append(float((row - solved) @ damped @ (row - solved)))
        lowest += min(errors)
    total = float(((part @ damped) * part).sum())
    own = rows[(rows["layer"] == "0.self_attn.q_proj") & (rows["method"] == "magnitude+ls")].iloc[0]
    assert own["error"] / own["ratio"] == pytest.approx(lowest / total, rel=1e-4)


def test_parts_of_several_sizes_and_the_bound_of_the_whole(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    sizes = {"n_inputs": [4, 6, None], "chosen": ["spaced", "alike"], "n_outputs": 4, "blocks": [1]}
    rows = small_optima(tiny_llama, tokens, methods=["wanda", "wanda+ls"], **sizes)
    assert len(rows) == 7 * 2 * (2 * 2 + 1) and set(rows["block"]) == {1}
    small, whole = rows[rows["n_inputs"].notna()], rows[rows["n_inputs"].isna()]
    assert whole["ratio"].isna().all() and (whole["over_bound"] >= 1).all() and set(whole["chosen"]) == {"all"}
    assert (small["over_bound"] >= small["ratio"] * (1 - 1e-9)).all()  # the bound lies below the optimum
    with pytest.raises(ValueError, match="must be of alike, spaced"):
        small_optima(tiny_llama, tokens, methods=["wanda"], chosen=["similar"])


def test_inputs_that_are_alike() -> None:
    base = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(200, 9, generator=torch.Generator().manual_seed(1))
    inputs[:, [2, 5, 7]] = base[:, :1] * torch.tensor([1.0, -3.0, 0.2]) + 0.01 * inputs[:, :3]
    assert alike_inputs(inputs.T @ inputs, 3).tolist() == [2, 5, 7]
    assert alike_inputs(inputs.T @ inputs, 20).tolist() == list(range(9))


def test_how_much_of_a_score_is_gradient(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    found = gradient_shares(tiny_llama, tokens, blocks=[1])
    assert len(found) == 2 * 7 and set(found["block"]) == {1} and found["share"].between(0, 1).all()
    walk = BlockWalk(tiny_llama, tokens)
    gradient = model_gradients(walk)[1]["mlp.down_proj"]
    walk.advance(0)
    own = walk.collect(1, hessian=False)["mlp.down_proj"]
    weight = tiny_llama.model.layers[1].mlp.down_proj.weight.detach()
    row = found[(found["layer"] == "1.mlp.down_proj") & (found["score"] == "gblm")].iloc[0]
    inputs = (own.norms / 12**0.5).expand_as(gradient)
    assert row["share"] == pytest.approx((100 * gradient / (100 * gradient + inputs)).median().item(), rel=1e-3)
    scores = [(weight.abs() * part).numpy() for part in (100 * gradient + inputs, inputs, gradient)]
    for column, other in (("like_inputs", scores[1]), ("like_gradient", scores[2])):
        by_row = [spearmanr(*pair).statistic for pair in zip(scores[0], other, strict=True)]
        assert row[column] == pytest.approx(np.mean(by_row), abs=1e-6)
    kept = [np.argsort(score, axis=1)[:, 12:] for score in scores[:2]]  # half of 24 inputs
    new = sum(len(set(w) - set(g)) for g, w in zip(*kept, strict=True))
    assert row["other"] == pytest.approx(new / (16 * 12))
    with pytest.raises(ValueError, match="give of these: gblm, gblm-l1, rgs"):
        gradient_shares(tiny_llama, tokens, scores=["wanda"])


def test_what_one_method_moves_beyond_another(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    none = weight_movement(tiny_llama, tokens, "wanda", "wanda", sparsity=0.5)
    assert len(none) == 21 and (none["moved"] == 0).all() and (none["still"] == 1).all() and (none["other"] == 0).all()
    some = weight_movement(tiny_llama, tokens, "wanda", "wanda+obs", sparsity=0.5)
    first = some[some["block"] == 0]
    assert (first["moved"] > 0.01).all() and (first["other"] == 0).all() and (first["still"] < 0.5).all()
    assert not any((layer == 0).any() for layer in tiny_llama.state_dict().values() if layer.dim() == 2)


def test_public_names() -> None:
    assert lab.optima.layer_errors is layer_errors and lab.optima.small_optima is small_optima
