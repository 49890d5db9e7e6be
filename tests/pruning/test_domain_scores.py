"""Scores that mix a domain's text with general text, against literal loops; and a calibration of several texts."""

import copy
import math
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES
from test_grid import assert_grid_equals_calls, matrices
from torch import nn

import labutils as lab
from labutils.models.structure import prunable_layers
from labutils.pruning import CalibrationTexts, matrix_method
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dual_importance import dual_importance, general_importance, rate_at
from labutils.pruning.gradient_passes import find_gradients, keep_gradients
from labutils.pruning.gradient_scores import gblm_score, mixture_score
from labutils.pruning.gradients import model_gradients
from labutils.pruning.mixture_gradients import local_agreement, mixture_gradients
from labutils.pruning.statistics import Statistics
from labutils.sweeps.kept_prunings import _fingerprint

X = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
W = torch.tensor([[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]])


@pytest.fixture
def domain() -> torch.Tensor:
    return torch.randint(0, 64, (9, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def general() -> torch.Tensor:
    return torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(1))


def literal_loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def gradients_of_sequences(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Per matrix, one gradient for each sequence."""
    found: dict[str, list[torch.Tensor]] = {}
    for ids in tokens:
        model.zero_grad()
        literal_loss(model, ids[None]).backward()
        for index, block in enumerate(model.model.layers):
            for name, layer in prunable_layers(block).items():
                found.setdefault(f"{index}.{name}", []).append(layer.weight.grad.clone())
    model.zero_grad(set_to_none=True)
    return {name: torch.stack(own) for name, own in found.items()}


def literal_general_importance(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    read: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, key=f"{index}.{name}": read.update({key: args[0].detach()}))
        for index, block in enumerate(model.model.layers)
        for name, layer in prunable_layers(block).items()
    ]
    with torch.no_grad():
        model(input_ids=tokens)
    for hook in hooks:
        hook.remove()
    found = {}
    for index, block in enumerate(model.model.layers):
        for name, layer in prunable_layers(block).items():
            inputs = read[f"{index}.{name}"].flatten(0, 1).double()
            hessian = 2 / len(tokens) * inputs.T @ inputs
            hessian += 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
            upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
            found[f"{index}.{name}"] = layer.weight.detach().double() ** 2 / upper.diagonal() ** 2
    return found


def test_l1_of_gradients_by_hand_and_by_a_literal_loop(tiny_llama: nn.Module, domain: torch.Tensor) -> None:
    sums = torch.tensor([[0.07, 0.02, 0.02], [0.03, 0.07, 0.03]])
    own = Statistics(None, X.norm(dim=0), X, 4, X.sum(dim=0), 2, sums)
    expected = torch.tensor([[8.7320508, 7.4641016, 9.0], [9.4641016, 8.7320508, 4.0]])
    torch.testing.assert_close(gblm_score(W, own), expected)
    literal = gradients_of_sequences(tiny_llama, domain)
    walk, method = BlockWalk(tiny_llama, domain), matrix_method("gblm-l1")
    keep_gradients(walk, [method])
    for index in range(len(walk.blocks)):
        for name, gradient in find_gradients(walk, index, method).items():
            torch.testing.assert_close(gradient, literal[f"{index}.{name}"].abs().sum(dim=0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("loss_scale", [1.0, 65536.0])
def test_importance_of_two_texts_by_a_literal_training(
    tiny_llama: nn.Module, domain: torch.Tensor, general: torch.Tensor, loss_scale: float
) -> None:
    """General importance so strong that it counts; batches of 8 and of 1 sequence, five times over."""
    strength = 1e9 / loss_scale
    before = copy.deepcopy(tiny_llama.state_dict())
    walk = BlockWalk(tiny_llama, CalibrationTexts(domain, general=general))
    found = dual_importance(walk, general_strength=strength, loss_scale=loss_scale)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())
    assert all(parameter.requires_grad for parameter in tiny_llama.parameters())
    cost = literal_general_importance(tiny_llama, general)
    expected: dict[str, torch.Tensor] = {}
    for step in range(1, 11):
        progress = step / 10
        rate = 0.03 * (progress / 0.1 if progress < 0.1 else (1 - progress) / 0.9)
        tiny_llama.zero_grad()
        literal_loss(tiny_llama, domain[:8] if step % 2 else domain[8:]).backward()
        for index, block in enumerate(tiny_llama.model.layers):
            for name, layer in prunable_layers(block).items():
                g, weight = layer.weight.grad * loss_scale, layer.weight.detach()
                g = g + 2 * strength * rate**2 * cost[f"{index}.{name}"].float() * g**2 / 1000
                a = g * weight
                key = f"{index}.{name}"
                expected[key] = expected.get(key, 0) + (a + a**2 / 2000 + weight**3).abs()
                layer.weight.grad = g / loss_scale
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in tiny_llama.parameters()))
        with torch.no_grad():
            for parameter in tiny_llama.parameters():
                parameter -= rate * min(1.0, 1 / (norm + 1e-6)) * parameter.grad
    for index, block in enumerate(found):
        for name, importance in block.items():
            wanted = expected[f"{index}.{name}"]
            assert (importance - wanted).norm() < 1e-3 * wanted.norm(), name
    tiny_llama.load_state_dict(before)
    plain = dual_importance(BlockWalk(tiny_llama, domain), general_strength=0.0, loss_scale=loss_scale)
    name = "mlp.up_proj"
    assert (plain[1][name] - found[1][name]).norm() > 1e-2 * found[1][name].norm()


def test_general_importance_and_the_learning_rate(tiny_llama: nn.Module, general: torch.Tensor) -> None:
    found = general_importance(BlockWalk(tiny_llama, CalibrationTexts(general, general=general)))
    expected = literal_general_importance(tiny_llama, general)
    for index, block in enumerate(found):
        for name, own in block.items():
            torch.testing.assert_close(own.double(), expected[f"{index}.{name}"], rtol=1e-2, atol=1e-4)
    assert [round(rate_at(step, 20), 6) for step in (1, 2, 11, 20)] == [0.015, 0.03, 0.015, 0.0]


def test_fisher_information_of_two_texts_by_a_literal_loop(
    tiny_llama: nn.Module, domain: torch.Tensor, general: torch.Tensor
) -> None:
    own, other = (gradients_of_sequences(tiny_llama, tokens) for tokens in (domain, general))
    found = mixture_gradients(BlockWalk(tiny_llama, CalibrationTexts(domain, general=general)))
    for index, block in enumerate(found):
        for name, (squares, others, agreement) in block.items():
            key = f"{index}.{name}"
            torch.testing.assert_close(squares, own[key].square().mean(dim=0) + 1e-8, rtol=1e-3, atol=1e-9)
            torch.testing.assert_close(others, other[key].square().mean(dim=0) + 1e-8, rtol=1e-3, atol=1e-9)
            product = own[key].mean(dim=0) * other[key].mean(dim=0)
            product /= own[key].mean(dim=0).norm() * other[key].mean(dim=0).norm()
            assert agreement[1, 1].item() == pytest.approx(product[:3, :3].mean().item(), rel=1e-2, abs=1e-8)
            corner = product[:2, :2].sum().item() / 9
            assert agreement[0, 0].item() == pytest.approx(corner, rel=1e-2, abs=1e-8)
    one = mixture_gradients(BlockWalk(tiny_llama, domain), general_weight=0.0, alignment_weight=0.0)
    assert torch.equal(one[0]["mlp.up_proj"][0], found[0]["mlp.up_proj"][0]) and not one[0]["mlp.up_proj"][1:].any()
    assert torch.equal(local_agreement(torch.zeros(2, 2), torch.eye(2)), torch.zeros(2, 2))


def test_the_mixture_by_hand() -> None:
    weight = torch.tensor([[4.0, -9.0]])
    stacked = torch.tensor([[[0.5, 0.25]], [[0.1, 0.05]], [[1.0, -0.5]]])
    own = Statistics(None, torch.ones(2), torch.ones(1, 2), 1, gradient=stacked)
    by_hand = torch.tensor([[0.4 * 1.2 * 4 + 0.5 * 2, 0.2 * 0.9 * 9 + 0.5 * 3]])
    torch.testing.assert_close(mixture_score(weight, own), by_hand)
    by_hand = torch.tensor([[0.3 * 4 + 2.0, 0.15 * 9 + 3.0]])
    changed = {"general_weight": 2.0, "alignment_weight": 0.0, "magnitude_weight": 1.0}
    torch.testing.assert_close(mixture_score(weight, own, **changed), by_hand)
    scale = 2.5 / (6.5 * 0.375)  # the mean root, over the mean size times the domain's mean information
    by_hand = torch.tensor([[0.48 * scale * 4 + 1.0, 0.18 * scale * 9 + 1.5]])
    torch.testing.assert_close(mixture_score(weight, own, normalise=True), by_hand)
    moved = own.permuted(torch.tensor([1, 0]))
    torch.testing.assert_close(mixture_score(weight.flip(1), moved), mixture_score(weight, own).flip(1))


def test_texts_of_a_calibration(
    tiny_llama: nn.Module, domain: torch.Tensor, general: torch.Tensor, tmp_path: Path
) -> None:
    texts = CalibrationTexts(domain, general=general)
    rows = assert_grid_equals_calls(
        tiny_llama, texts, methods=["d-pruner", "gaprune"], sparsities=[0.5], patterns=["unstructured"]
    )
    assert len(rows) == 2
    one, other = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    lab.prune(one, texts, method="wanda", sparsity=0.5)
    lab.prune(other, domain, method="wanda", sparsity=0.5)  # general text is passed over
    assert all(torch.equal(matrix, matrices(other)[name]) for name, matrix in matrices(one).items())
    found = model_gradients(BlockWalk(tiny_llama, CalibrationTexts(domain, gradients=general)))
    assert torch.equal(found[1]["mlp.up_proj"], model_gradients(BlockWalk(tiny_llama, general))[1]["mlp.up_proj"])
    before = copy.deepcopy(tiny_llama.state_dict())
    for method, options in (("d-pruner", {}), ("gaprune", {}), ("gaprune", {"alignment_weight": 0.0})):
        with pytest.raises(ValueError, match=r"needs general text beside the domain's. Give .*CalibrationTexts"):
            lab.prune(tiny_llama, domain, method=method, sparsity=0.5, **options)
    with pytest.raises(ValueError, match="general_strength=-1.0 must be 0 or more"):
        lab.prune(tiny_llama, texts, method="d-pruner", sparsity=0.5, general_strength=-1.0)
    with pytest.raises(ValueError, match="the calibration"):
        lab.prune(tiny_llama, CalibrationTexts(domain, general=general + 10_000), method="d-pruner", sparsity=0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())
    report = lab.prune(tiny_llama, domain, method="d-pruner", sparsity=0.5, general_strength=0.0)
    assert report.options["general_strength"] == 0.0 and report.sparsity == pytest.approx(0.5, abs=1e-3)
    tiny_llama.save_pretrained(tmp_path / "dense")
    with pytest.raises(ValueError, match="from disk to disk"):
        lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", texts, method="d-pruner", sparsity=0.5)
    with pytest.raises(ValueError, match="not a causal language model"):
        lab.prune(ARCHITECTURES["bert"].build(), domain % 32, method="d-pruner", sparsity=0.5, general_strength=0.0)


def test_weights_that_overflow_in_training_are_named_and_the_model_stays(
    tiny_llama: nn.Module, domain: torch.Tensor
) -> None:
    with torch.no_grad():
        tiny_llama.model.norm.weight.fill_(1e38)
    before = copy.deepcopy(tiny_llama.state_dict())
    with pytest.raises(ValueError, match="is not finite"):
        lab.prune(tiny_llama, domain, method="d-pruner", sparsity=0.5, general_strength=0.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())


def test_a_forecast_and_the_keys_of_kept_rows_tell_texts_apart(
    tiny_llama: nn.Module, domain: torch.Tensor, general: torch.Tensor
) -> None:
    texts = CalibrationTexts(domain, general=general)
    plain = lab.forecast(tiny_llama, domain, method="wanda", sparsity=0.5)
    for method in ("d-pruner", "gaprune", "gblm-l1"):
        assert lab.forecast(tiny_llama, texts, method=method, sparsity=0.5).memory > plain.memory
    prints = {_fingerprint(each) for each in (domain, texts, CalibrationTexts(domain, gradients=general))}
    assert len(prints) == 3
