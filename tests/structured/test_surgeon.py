"""Removal under a Kronecker-factored curvature: closed forms against a dense solve, factors against loops, shots."""

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, Architecture
from torch import Tensor
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks, prunable_layers
from labutils.structured import masked, shrink_by_curvature
from labutils.structured.curvature import layer_factors
from labutils.structured.kronecker import damped, remove_rows, row_costs

NEURONS, OUT, IN = 24, 5, 4


def build(name: str = "llama", **options: object) -> PreTrainedModel:
    base = ARCHITECTURES[name]
    return Architecture(base.model, base.config, {**base.options, "num_hidden_layers": 2, **options}).build()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(3, 60, (5, 9), generator=torch.Generator().manual_seed(3))


def factor(size: int, seed: int) -> Tensor:
    values = torch.randn(size + 3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.T @ values / (size + 3)


def dense_solve(weight: np.ndarray, curvature: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, float]:
    """The change of least ½ dᵀ F d that makes the fixed entries zero, by the equations of Lagrange; and that value."""
    flat, places = weight.flatten(), np.flatnonzero(fixed.flatten())
    chosen = np.eye(len(flat))[places]
    system = np.block([[curvature, chosen.T], [chosen, np.zeros((len(places), len(places)))]])
    change = np.linalg.solve(system, np.concatenate([np.zeros(len(flat)), -flat[places]]))[: len(flat)]
    return (flat + change).reshape(weight.shape), 0.5 * change @ curvature @ change


@pytest.mark.parametrize("units", [[[1]], [[1], [3]], [[0, 3]], [[0, 3], [1, 4]]], ids=str)
def test_correlated_updates_and_costs_are_the_dense_solution(units) -> None:
    weight = torch.randn(OUT, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs, gradients, places = factor(IN, 1), factor(OUT, 2), torch.tensor(units)
    inverse = torch.linalg.inv(gradients)
    fixed = np.zeros((OUT, IN), dtype=bool)
    fixed[places.flatten()] = True
    expected, cost = dense_solve(weight.numpy(), np.kron(gradients.numpy(), inputs.numpy()), fixed)
    np.testing.assert_allclose(remove_rows(weight, inverse, places), expected, rtol=1e-9, atol=1e-11)
    if len(units) == 1:
        assert row_costs(weight, inputs, inverse, places).item() == pytest.approx(cost, rel=1e-9)
    columns = [row for own in units for row in own if row < IN]
    fixed = np.zeros((OUT, IN), dtype=bool)
    fixed[:, columns] = True
    expected, _ = dense_solve(weight.numpy(), np.kron(gradients.numpy(), inputs.numpy()), fixed)
    found = remove_rows(weight.T, torch.linalg.inv(inputs), torch.tensor(columns)[:, None]).T
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    # the published closed form of columns: −W_C ([A⁻¹]_CC)⁻¹ [A⁻¹]_C:
    inverse = torch.linalg.inv(inputs)
    published = weight - weight[:, columns] @ torch.linalg.inv(inverse[columns][:, columns]) @ inverse[columns]
    np.testing.assert_allclose(found, published, rtol=1e-9, atol=1e-11)


def test_independent_updates_add_up_what_each_unit_alone_would_change() -> None:
    weight = torch.randn(OUT, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inverse, places = torch.linalg.inv(factor(OUT, 2)), torch.tensor([[1], [3]])
    each = [remove_rows(weight, inverse, places[[unit]]) - weight for unit in range(2)]
    found, kept = remove_rows(weight, inverse, places, "independent"), [0, 2, 4]
    torch.testing.assert_close(found[kept], (weight + each[0] + each[1])[kept])
    assert not found[[1, 3]].any()
    assert not torch.allclose(found[kept], remove_rows(weight, inverse, places)[kept], rtol=1e-3)
    bare = remove_rows(weight, inverse, places, "none")
    assert bare[kept].equal(weight[kept]) and not bare[[1, 3]].any()


def test_damping_is_a_share_of_the_mean_diagonal() -> None:
    assert damped(torch.diag(torch.tensor([1.0, 3.0])), 0.5).tolist() == [[2.0, 0.0], [0.0, 4.0]]
    assert damped(torch.zeros(2, 2)).equal(torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_factors_are_means_over_tokens_without_padding(tokens, name) -> None:
    model, mask = build(name), torch.ones_like(tokens)
    mask[1, 5:] = 0
    out = {"llama": "mlp.down_proj", "gpt2": "mlp.c_proj"}[name]
    layers = [{out: prunable_layers(block)[out]} for block in find_blocks(model)[1]]
    asked = {"input_ids": tokens, "attention_mask": mask}
    found = layer_factors(model, asked, layers, batch_size=2)[1][out]
    read, put = [], []

    def note(layer: torch.nn.Module, args: tuple, output: Tensor) -> None:
        output.retain_grad()
        read.append(args[0].detach())
        put.append(output)

    hook = layers[1][out].register_forward_hook(note)
    for row, kept in zip(tokens, mask, strict=True):  # one sequence at a time, its padding cut off
        ids = row[kept.bool()][None]
        (model(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)).backward()
    hook.remove()
    x = torch.cat([own[0] for own in read]).double()
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1) if name == "gpt2" else x
    g = torch.cat([own.grad[0] for own in put]).double()
    assert len(x) == 5 * 9 - 4
    torch.testing.assert_close(found.inputs.double(), x.T @ x / len(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.gradients.double(), g.T @ g / len(g), rtol=1e-3, atol=1e-8)
    assert all(parameter.requires_grad for parameter in model.parameters())


def literal_shot(model: PreTrainedModel, tokens: Tensor, chosen: dict[int, tuple[int, ...]]) -> PreTrainedModel:
    """One shot on a Llama by dense algebra, matrix by matrix."""
    made = build()
    made.load_state_dict(model.state_dict())
    names = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    layers = [{name: prunable_layers(block)[name] for name in names} for block in find_blocks(model)[1]]
    factors = layer_factors(model, tokens, layers)
    with torch.no_grad():
        for index, gone in chosen.items():
            for name in names:
                layer, own = prunable_layers(find_blocks(made)[1][index])[name], factors[index][name]
                side = own.inputs if name == "mlp.down_proj" else own.gradients
                inverse, weight = torch.linalg.inv(damped(side)), layer.weight.double()
                if name == "mlp.down_proj":
                    solved = torch.linalg.inv(inverse[list(gone)][:, list(gone)]) @ inverse[list(gone)]
                    layer.weight.copy_(weight - weight[:, list(gone)] @ solved)
                else:
                    solved = torch.linalg.inv(inverse[list(gone)][:, list(gone)]) @ weight[list(gone)]
                    layer.weight.copy_(weight - inverse[:, list(gone)] @ solved)
    return made


def test_a_shot_on_a_model_is_the_algebra_of_its_matrices(tokens) -> None:
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    smaller, report = shrink_by_curvature(model, tokens, share=0.2, shots=1)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    literal = literal_shot(model, tokens, report.removal.neurons)
    torch.testing.assert_close(
        lab.sequence_losses(smaller, tokens), lab.sequence_losses(literal, tokens), rtol=1e-4, atol=1e-4
    )
    gone, kept = (report.table[report.table["removed"] == which]["score"] for which in (True, False))
    assert gone.max() <= kept.min() and (report.table["score"] > 0).all()
    plain = shrink_by_curvature(model, tokens, share=0.2, shots=1, update="none")
    assert plain.report.removal == report.removal
    with masked(model, plain.report.removal):
        torch.testing.assert_close(lab.sequence_losses(plain.model, tokens), lab.sequence_losses(model, tokens))


@pytest.mark.parametrize("name", ["llama", "phi3", "gpt2", "opt"])
def test_shots_remove_as_much_as_was_asked_and_keep_what_is_gone_zero(tokens, name) -> None:
    model = build(name)
    for asked in ({"update": "independent"}, {"matrices": "columns"}):
        smaller, report = shrink_by_curvature(model, tokens, share=0.2, shots=3, **asked)
        assert report.removed_share == pytest.approx(0.2, abs=0.02)
        assert lab.sequence_losses(smaller, tokens).isfinite().all()
        assert np.isfinite(report.table["score"]).all()
    if name == "gpt2":  # rows that were not updated are the dense ones
        rows = find_blocks(model)[1][0].mlp.c_fc.weight
        stay = [unit for unit in range(rows.shape[1]) if unit not in report.removal.neurons[0]]
        assert find_blocks(smaller)[1][0].mlp.c_fc.weight[:, : len(stay)].equal(rows[:, stay])


def test_updates_come_nearer_to_the_dense_model_where_neurons_repeat_each_other(tokens) -> None:
    model = build()
    with torch.no_grad():
        for block in find_blocks(model)[1]:
            for layer in (block.mlp.gate_proj, block.mlp.up_proj):
                layer.weight[NEURONS // 2 :] = layer.weight[: NEURONS // 2] * (1 + 1e-3 * torch.rand(NEURONS // 2, 1))
    text = model.generate(tokens[:, :2], max_new_tokens=10, do_sample=False, pad_token_id=0)
    dense = lab.sequence_losses(model, text)
    far = {
        update: (lab.sequence_losses(shrink_by_curvature(model, text, share=0.2, shots=1, update=update,
                                                         matrices="columns").model, text) - dense).abs().mean().item()
        for update in ("correlated", "none")
    }  # fmt: skip
    assert far["correlated"] < 0.5 * far["none"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 0}, "shots=0 must be a whole number"),
        ({"update": "diagonal"}, "update='diagonal' must be one of correlated, independent, none"),
        ({"matrices": "rows"}, "matrices='rows' must be one of all, columns"),
        ({"share": 0.95}, "more than these units have"),
        ({"share": 1e-6}, "too little for any of the neurons"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(tokens, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        shrink_by_curvature(build(), tokens, **{"share": 0.2, **arguments})
    with pytest.raises(LookupError, match="has no neurons to take out"):
        shrink_by_curvature(ARCHITECTURES["mixtral"].build(), tokens, share=0.2)
