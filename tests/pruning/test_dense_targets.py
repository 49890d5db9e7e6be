"""The dense model's outputs as the target of what reads pruned inputs, against literal solutions."""

import copy
from pathlib import Path

import pytest
import torch
from test_grid import assert_grid_equals_calls
from torch import nn

import labutils as lab
from labutils.models.structure import prunable_layers
from labutils.pruning.dense_targets import dense_target
from labutils.pruning.least_squares import least_squares


def problem(tokens: int = 40, inputs: int = 9, outputs: int = 5) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(tokens, inputs, generator=generator, dtype=torch.float64)
    pruned = dense + 0.5 * torch.randn(tokens, inputs, generator=generator, dtype=torch.float64)
    pruned[:, 4] = 0.0  # an input that pruning has silenced
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    return weight, dense, pruned


def test_the_target_by_literal_least_squares() -> None:
    weight, dense, pruned = problem()
    hessian, cross = pruned.T @ pruned, dense.T @ pruned
    found = dense_target(weight, hessian, cross, damping=0.05)
    diagonal = hessian.diagonal().clone()
    diagonal[4] = 1.0
    added = 0.05 * diagonal.mean() + (hessian.diagonal() == 0)
    for row, solved in zip(weight, found, strict=True):
        stacked = torch.cat([pruned, added.sqrt().diag()])
        right = torch.cat([dense @ row, added.sqrt() * row])
        torch.testing.assert_close(solved, torch.linalg.lstsq(stacked, right[:, None]).solution[:, 0])
    same = dense.T @ dense
    torch.testing.assert_close(dense_target(weight, same, same), weight)
    with pytest.raises(ValueError, match="singular"):
        dense_target(weight, torch.ones(9, 9), cross, damping=0.0)


def test_least_squares_of_the_target_on_a_mask_by_a_literal_loop() -> None:
    weight, dense, pruned = problem()
    hessian, cross = pruned.T @ pruned, dense.T @ pruned
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(5)) > 0.4
    found = least_squares(dense_target(weight, hessian, cross), mask, hessian)
    diagonal = hessian.diagonal().clone()
    diagonal[4] = 1.0
    added = (0.01 * diagonal.mean() + (hessian.diagonal() == 0)).diag()
    for row, kept, solved in zip(weight, mask, found, strict=True):
        system, right = (hessian + added)[kept][:, kept], (cross.T @ row + added @ row)[kept]
        torch.testing.assert_close(solved[kept], torch.linalg.solve(system, right), rtol=1e-8, atol=1e-8)
        assert not solved[~kept].any()


def inputs_of(model: nn.Module, index: int, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the matrices of a block read, padding left out."""
    found, kept = {}, tokens["attention_mask"].bool()
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: found.update({name: args[0][kept].double()}))
        for name, layer in prunable_layers(model.model.layers[index]).items()
    ]
    with torch.no_grad():
        model(**tokens)
    for hook in hooks:
        hook.remove()
    return found


def test_a_model_pruned_towards_the_dense_one(tiny_llama: nn.Module) -> None:
    ids = torch.randint(0, 64, (6, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    tokens, pruned = {"input_ids": ids, "attention_mask": mask}, {}
    for target in ("own", "dense"):
        pruned[target] = copy.deepcopy(tiny_llama)
        options = {"method": "wanda+ls", "sparsity": 0.5, "batch_size": 4}
        report = lab.prune(pruned[target], tokens, output_target=target, **options)
        assert report.options["output_target"] == target and report.sparsity == pytest.approx(0.5, abs=1e-3)
    own, other = (prunable_layers(each.model.layers[0]) for each in pruned.values())
    assert all(torch.equal(own[name].weight, other[name].weight) for name in own)  # nothing is pruned before it
    half = copy.deepcopy(pruned["dense"])
    half.model.layers[1].load_state_dict(tiny_llama.model.layers[1].state_dict())
    read, dense = inputs_of(half, 1, tokens), inputs_of(tiny_llama, 1, tokens)
    for name, layer in prunable_layers(pruned["dense"].model.layers[1]).items():
        weight = prunable_layers(tiny_llama.model.layers[1])[name].weight.detach().double()
        hessian = read[name].T @ read[name]
        added = 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
        right = (dense[name].T @ read[name]).T @ weight.T + added @ weight.T
        for row, solved in enumerate(layer.weight.detach().double()):
            kept = solved != 0
            literal = torch.linalg.solve((hessian + added)[kept][:, kept], right[kept, row])
            assert (solved[kept] - literal).norm() < 1e-2 * literal.norm(), name
        layers = [prunable_layers(each.model.layers[1])[name] for each in (pruned["own"], pruned["dense"])]
        errors = [read[name] @ own.weight.detach().double().T - dense[name] @ weight.T for own in layers]
        assert errors[1].norm() < errors[0].norm(), name


def test_where_the_target_is_an_option(tiny_llama: nn.Module, tmp_path: Path) -> None:
    ids = torch.randint(0, 64, (6, 16), generator=torch.Generator().manual_seed(0))
    assert_grid_equals_calls(
        tiny_llama, ids, methods=["sparsegpt"], sparsities=[0.5], patterns=["unstructured"], output_target="dense"
    )
    for options, message in (
        ({"method": "wanda"}, "reads Hessians of single matrices, which 'wanda' does not"),
        ({"method": "wanda+match"}, "reads Hessians"),
        ({"method": "wanda+ls", "sequential": False}, "leave out sequential"),
    ):
        with pytest.raises(ValueError, match=message):
            lab.prune(tiny_llama, ids, sparsity=0.5, **{"output_target": "dense", **options})
    asked = {"method": "wanda+ls", "sparsity": 0.5}
    plain, aimed = (lab.forecast(tiny_llama, ids, **asked, output_target=target) for target in ("own", "dense"))
    assert aimed.memory > plain.memory
    tiny_llama.save_pretrained(tmp_path / "dense")
    with pytest.raises(ValueError, match="in memory"):
        options = {"method": "wanda+ls", "sparsity": 0.5, "output_target": "dense"}
        lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", ids, **options)
