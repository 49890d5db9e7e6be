"""Gradients of weights against literal backward passes, the scores that read them, and blocks matched by descent."""

import copy
import math
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES
from test_grid import assert_grid_equals_calls, matrices
from torch import nn

import labutils as lab
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning import matrix_method
from labutils.pruning.block_matching import PrunedBlock, block_error, match_block, optimise_regionally
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradient_passes import find_gradients
from labutils.pruning.gradient_scores import gblm_score, pruner_zero_score, regional_score
from labutils.pruning.gradients import block_gradients, model_gradients
from labutils.pruning.importance import SCORES
from labutils.pruning.matrices import prune_matrix
from labutils.pruning.reconstruction import factor_hessian
from labutils.pruning.statistics import Statistics

X = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
W = torch.tensor([[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]])
GRADIENTS = torch.tensor(
    [[[0.03, 0.01, 0.0], [0.02, -0.04, 0.01]], [[-0.04, 0.01, 0.02], [0.01, 0.03, -0.02]]]
)  # of two sequences, the first and the last two tokens of X


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 64, (6, 12), generator=torch.Generator().manual_seed(0))


def example() -> Statistics:
    root = GRADIENTS.square().sum(dim=0).sqrt()
    return Statistics(None, X.norm(dim=0), X, 4, X.sum(dim=0), 2, root)


def test_scores_of_an_example_by_hand() -> None:
    own = example()
    expected = torch.tensor([[6.7320508, 6.2925287, 9.0], [7.9362375, 6.7320508, 3.2360680]])
    torch.testing.assert_close(gblm_score(W, own), expected)
    expected = torch.tensor([[1.0, 0.0, 1.4702710], [0.9167913, 1.0, 0.2291978]])
    torch.testing.assert_close(pruner_zero_score(W, own), expected)
    for score, dropped in (("gblm", (1, 2)), ("wanda", (0, 2))):
        mask = prune_matrix(W, own, matrix_method(score), n_drop=2).mask
        assert [int(row.argmin()) for row in mask.int()] == list(dropped)
    torch.testing.assert_close(regional_score(W, own, alpha=0.0), W.abs() * own.norms)
    torch.testing.assert_close(regional_score(W, own), W.abs() * (100 * own.gradient + own.norms))
    for score in (gblm_score, regional_score):
        averaged = score(W, own, alpha=3.0, average_inputs=True)
        torch.testing.assert_close(averaged, W.abs() * (3 * own.gradient + own.norms / math.sqrt(2)))
        torch.testing.assert_close(score(W, own, alpha=0.0, average_inputs=False), W.abs() * own.norms)


def test_the_weight_of_gradients_is_an_option(tiny_llama: nn.Module, tokens: torch.Tensor, tmp_path: Path) -> None:
    def pruned(method: str, **options: object) -> dict[str, torch.Tensor]:
        model = copy.deepcopy(tiny_llama)
        report = lab.prune(model, tokens, method=method, sparsity=0.5, **options)
        assert all(report.options[name] == value for name, value in options.items())
        return matrices(model)

    wanda, gblm = pruned("wanda"), pruned("gblm")
    for name, matrix in pruned("gblm", alpha=0.0).items():
        assert torch.equal(matrix, wanda[name])  # without its gradients it is Wanda, however inputs are summed
    assert any(not torch.equal(matrix, wanda[name]) for name, matrix in gblm.items())
    assert any(not torch.equal(m, gblm[n]) for n, m in pruned("gblm", average_inputs=False).items())
    assert all(torch.equal(m, gblm[n]) for n, m in pruned("gblm", alpha=100.0, average_inputs=True).items())
    pruned("rgs+ls", alpha=7.0)
    for wrong, message in ((-1.0, "0 or more"), ("much", "a number")):
        with pytest.raises(ValueError, match=message):
            lab.prune(tiny_llama, tokens, method="gblm", sparsity=0.5, alpha=wrong)
    with pytest.raises(ValueError, match="must be True, False"):
        lab.prune(tiny_llama, tokens, method="gblm", sparsity=0.5, average_inputs="both")
    with pytest.raises(ValueError, match="option of score 'gblm' and score 'gblm-l1' and score 'rgs'"):
        lab.prune(tiny_llama, tokens, method="wanda", sparsity=0.5, alpha=1.0)
    table = lab.pruning.list_methods().set_index("name")["options"]
    assert table["gblm"] == "alpha, average_inputs" and table["pruner-zero"] == ""


def test_gradients_that_are_all_alike_tell_nothing() -> None:
    own = example()
    own.gradient = torch.full((2, 3), 0.5)
    assert torch.equal(pruner_zero_score(W, own), W.square())
    assert torch.equal(pruner_zero_score(W, own).argsort(dim=1), W.abs().argsort(dim=1))


def literal_loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(input_ids=ids[None]).logits[0, :-1], ids[1:])


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "mixtral"])
def test_gradients_of_the_model_by_a_literal_loop(
    name: str, tokens: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    """With padding: a padded sequence gives the gradient of its own tokens alone."""
    model = ARCHITECTURES[name].build() if name in ARCHITECTURES else request.getfixturevalue(name)
    tokens = tokens % 32
    mask = torch.ones_like(tokens)
    mask[1, 7:] = 0
    mask[2, 1:] = 0  # a single token has nothing to predict
    found = model_gradients(BlockWalk(model, {"input_ids": tokens, "attention_mask": mask}, batch_size=4))
    assert len(found) == len(BlockWalk(model, tokens).blocks)
    lengths = [12, 7, 1, 12, 12, 12]
    sums: dict[str, torch.Tensor] = {}
    for ids, length in zip(tokens, lengths, strict=True):
        if length == 1:
            continue
        model.zero_grad()
        literal_loss(model, ids[:length]).backward()
        for parameter_name, parameter in model.named_parameters():
            sums[parameter_name] = sums.get(parameter_name, 0) + parameter.grad.square()
    walk = BlockWalk(model, tokens)
    for index, gradients in enumerate(found):
        for layer_name, gradient in gradients.items():
            own, _, expert = f"{walk.prefix}.{index}.{layer_name}".partition("[")
            expected = sums[own if expert else f"{own}.weight"].sqrt()
            expected = expected[int(expert[:-1])] if expert else expected
            expected = expected.T if name == "tiny_gpt2" else expected
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_gradients_of_a_block_by_a_literal_loop(tiny_llama: nn.Module, tokens: torch.Tensor, batch_size: int) -> None:
    walk = BlockWalk(tiny_llama, tokens, batch_size=batch_size)
    walk.advance(0)
    found = block_gradients(walk, 1)
    states = tiny_llama(input_ids=tokens, output_hidden_states=True).hidden_states[2]
    block, sums = tiny_llama.model.layers[1], {}
    for row in range(len(tokens)):
        tiny_llama.zero_grad()
        states[row].norm().backward(retain_graph=True)
        for name, layer in prunable_layers(block).items():
            sums[name] = sums.get(name, 0) + layer.weight.grad.square()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, (sums[name] / len(tokens)).sqrt(), rtol=1e-3, atol=1e-6)


def test_what_has_no_loss_is_refused(tiny_llama: nn.Module, tokens: torch.Tensor, tmp_path: Path) -> None:
    encoder = ARCHITECTURES["bert"].build()
    with pytest.raises(ValueError, match="not a causal language model"):
        lab.prune(encoder, tokens % 32, method="gblm", sparsity=0.5)
    lab.prune(encoder, tokens % 32, method="rgs", sparsity=0.5)  # a block's output has a norm in any model
    for name in ("rgs", "wanda+match"):
        with pytest.raises(ValueError, match="sequential=False"):
            lab.prune(tiny_llama, tokens, method=name, sparsity=0.5, sequential=False)
    tiny_llama.save_pretrained(tmp_path / "dense")
    with pytest.raises(ValueError, match="from disk to disk"):
        lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", tokens, method="gblm+ls", sparsity=0.5)
    with pytest.raises(ValueError, match='must be None, or "model", "absolute" or "block"'):
        lab.register_score("mine", "row", reads_inputs=False, gradients="model")
    with pytest.raises(RuntimeError, match="not kept"):
        find_gradients(BlockWalk(tiny_llama, tokens), 0, matrix_method("gblm"))


def test_weights_that_overflow_are_named_and_the_model_stays(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        tiny_llama.model.norm.weight.fill_(1e38)
    before = copy.deepcopy(tiny_llama.state_dict())
    with pytest.raises(ValueError, match=r"gradient of model.layers.0.\S+ is not finite"):
        lab.prune(tiny_llama, tokens, method="gblm", sparsity=0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())
    assert all(parameter.requires_grad for parameter in tiny_llama.parameters())


def test_gradients_in_a_grid_and_under_one_threshold(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    rows = assert_grid_equals_calls(
        tiny_llama,
        tokens,
        methods=["gblm", "pruner-zero+ls", "rgs+match"],
        sparsities=[0.5],
        patterns=["unstructured", "2:4"],
    )
    assert len(rows) == 6
    report = lab.prune(tiny_llama, tokens, method="gblm", sparsity=0.5, allocation="global")
    assert report.sparsity == pytest.approx(0.5, abs=1e-2)


def test_a_score_of_ones_own_reads_gradients(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with lab.pruning.temporary_registrations():

        @lab.register_score("fisher", "matrix", gradients="model")
        def fisher(weight: torch.Tensor, statistics: Statistics) -> torch.Tensor:
            """W² g²"""
            return (weight * statistics.gradient).square()

        dense = copy.deepcopy(tiny_llama)
        gradients = model_gradients(BlockWalk(dense, tokens))
        lab.prune(tiny_llama, tokens, method="fisher", sparsity=0.5)
        for index, block in enumerate(dense.model.layers):
            for name, layer in prunable_layers(block).items():
                score = (layer.weight * gradients[index][name]).square()
                kept = weight_matrix(prunable_layers(tiny_llama.model.layers[index])[name]) != 0
                assert score[kept].min() >= score[~kept].max()
    assert "fisher" not in SCORES


def test_sparsegpts_mask_with_its_update_is_sparsegpt(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    for pattern in ("unstructured", "2:4"):
        one, other = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
        lab.prune(one, tokens, method="sparsegpt", sparsity=0.5, pattern=pattern)
        lab.prune(other, tokens, method="sparsegpt-mask+obs", sparsity=0.5, pattern=pattern)
        for name, matrix in matrices(one).items():
            torch.testing.assert_close(matrices(other)[name], matrix, rtol=1e-5, atol=1e-6)
            assert torch.equal(matrices(other)[name] == 0, matrix == 0)
    weight, hessian = torch.randn(6, 8), torch.eye(8) + 0.1
    factor = factor_hessian(hessian)
    chosen = prune_matrix(weight, Statistics(hessian, hessian.diagonal(), weight, 6), matrix_method("sparsegpt-mask"),
                          n_drop=24, factor=factor)  # fmt: skip
    assert torch.equal(chosen.weight, weight * chosen.mask) and math.isnan(chosen.ties)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_matching_a_block_keeps_its_zeros_and_lowers_its_error(
    tiny_llama: nn.Module, tokens: torch.Tensor, pattern: str
) -> None:
    plain, matched = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    lab.prune(plain, tokens, method="wanda", sparsity=0.5, pattern=pattern)
    report = lab.prune(matched, tokens, method="wanda+match", sparsity=0.5, pattern=pattern)
    first = plain.model.layers[0], matched.model.layers[0]
    walk = BlockWalk(tiny_llama, tokens)
    dense = walk.run(0)
    for name, layer in prunable_layers(first[0]).items():
        own = prunable_layers(first[1])[name].weight
        assert torch.equal(own == 0, layer.weight == 0) and not torch.equal(own, layer.weight)
    errors = []
    for model in (plain, matched):
        other = BlockWalk(model, tokens)
        errors.append(sum((a - b).square().sum().item() for a, b in zip(other.run(0), dense, strict=True)))
    assert errors[1] < 0.7 * errors[0]
    assert torch.equal(first[1].input_layernorm.weight, tiny_llama.model.layers[0].input_layernorm.weight)
    assert report.layers["relative_error"].notna().all() and report.sparsity == pytest.approx(0.5, abs=2e-3)


def test_rounds_of_steps_and_pruning_end_pruned(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    plain = copy.deepcopy(tiny_llama)
    report = lab.prune(tiny_llama, tokens[:2], method="rgs+regional", sparsity=0.5)
    lab.prune(plain, tokens[:2], method="rgs", sparsity=0.5)
    assert report.sparsity == pytest.approx(0.5, abs=2e-3)
    moved = [(matrices(tiny_llama)[name] - matrix)[matrix != 0] for name, matrix in matrices(plain).items()]
    assert any(0 < step.abs().max() < 0.1 for step in moved)  # small steps: 160 of 1.5e-5 of a weight's size


def test_steps_below_the_spacing_of_half_precision_add_up_over_rounds(
    tiny_llama: nn.Module, tokens: torch.Tensor
) -> None:
    """A round of one step moves a weight by a thousandth of the usual size, bfloat16 tells apart four thousandths."""
    model, changed = tiny_llama.bfloat16(), {}
    dense = copy.deepcopy(model.model.layers[0].state_dict())
    for rounds in (1, 12):
        model.model.layers[0].load_state_dict(dense)
        walk, layers = BlockWalk(model, tokens), prunable_layers(model.model.layers[0])
        targets = [1.5 * target for target in walk.run(0)]  # so that the way stays the same in every round
        block = PrunedBlock(
            walk, 0, targets, lambda own=layers: {name: layer.weight != 0 for name, layer in own.items()}, lambda: None
        )
        optimise_regionally(block, rounds=rounds, steps=1, rate=1e-4)
        moved = [(layer.weight != dense[f"{name}.weight"])[layer.weight.abs() > layer.weight.float().std()]
                 for name, layer in layers.items()]  # fmt: skip
        changed[rounds] = torch.cat(moved).float().mean().item()
    assert changed[1] < 0.05 and changed[12] > 0.5


def test_steps_that_do_not_help_are_taken_back(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    walk = BlockWalk(tiny_llama, tokens)
    targets = walk.run(0)
    layers = prunable_layers(tiny_llama.model.layers[0])
    masks = {name: torch.rand_like(layer.weight) > 0.3 for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.weight.data.mul_(masks[name])
    block = PrunedBlock(walk, 0, targets, lambda: masks, lambda: None)
    before = copy.deepcopy(tiny_llama.state_dict())
    error = block_error(block)
    match_block(block, steps=3, rate=1e3)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())
    match_block(block)
    assert block_error(block) < error
    assert all((layer.weight[~masks[name]] == 0).all() for name, layer in layers.items())


def test_a_forecast_counts_gradients_and_steps(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    told = {name: lab.forecast(tiny_llama, tokens, method=name, sparsity=0.5)
            for name in ("wanda", "gblm", "rgs", "wanda+match", "rgs+regional")}  # fmt: skip
    for name, found in told.items():
        stages, plain = (each.stages.set_index("stage")["seconds"] for each in (found, told["wanda"]))
        if name != "wanda":
            assert found.memory > told["wanda"].memory, name
            assert (stages["prune"] if "match" in name else stages["collect"]) > 2 * plain["collect"], name
