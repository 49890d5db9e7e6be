"""Conformance of every architecture: what is found, what is measured, what is pruned, and what is left alone."""

import copy
from contextlib import suppress

import pytest
import torch
from architectures import ARCHITECTURES, MIXTURES, VOCABULARY, fused_name, unfused
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.evaluation.losses import sequence_losses
from labutils.models.structure import find_blocks, is_causal, prunable_layers, weight_matrix
from labutils.pruning import prune
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.output_divergence import read_output
from labutils.pruning.statistics import Collector, StopForward

architectures = pytest.mark.parametrize("name", ARCHITECTURES)
mixtures = pytest.mark.parametrize("name", MIXTURES)
LENGTHS = (12, 7, 12, 4, 12)


@pytest.fixture
def calibration() -> dict[str, Tensor]:
    """Five sequences, two of them padded at the end."""
    ids = torch.randint(3, VOCABULARY, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


def reference_inputs(model: PreTrainedModel, calibration: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs [tokens, in] of every block matrix in float64, by plain hooks: each sequence by itself, unpadded."""
    model = unfused(model).double()
    prefix, blocks = find_blocks(model)
    seen: dict[str, list[Tensor]] = {}
    for index, block in enumerate(blocks):
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear | Conv1D):
                rows = seen.setdefault(fused_name(f"{index}.{name}"), [])
                module.register_forward_pre_hook(
                    lambda module, args, rows=rows: rows.append(args[0].reshape(-1, args[0].shape[-1]))
                )
    with torch.no_grad():
        for ids, length in zip(calibration["input_ids"], LENGTHS, strict=True):
            model(ids[None, :length])
    return {name: torch.cat(rows) for name, rows in seen.items() if rows}


def block_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Copies of the weights of two and more dimensions inside the blocks, by their name in the model."""
    prefix, _ = find_blocks(model)
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if name.startswith(f"{prefix}.") and parameter.dim() > 1
    }


def matrices(model: PreTrainedModel) -> dict[str, Tensor]:
    prefix, blocks = find_blocks(model)
    return {
        f"{prefix}.{index}.{name}": weight_matrix(layer)
        for index, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    }


def assert_finite_output(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    if is_causal(model):
        assert torch.isfinite(sequence_losses(model, inputs["input_ids"])).all()
    else:
        with torch.no_grad():
            assert torch.isfinite(model(**inputs).last_hidden_state).all()


@architectures
@pytest.mark.parametrize("batch_size", [2, 5])
def test_statistics_equal_plain_hooks(name: str, batch_size: int, calibration: dict[str, Tensor]) -> None:
    model = ARCHITECTURES[name].build()
    expected = reference_inputs(model, calibration)
    walk = BlockWalk(model, calibration, batch_size=batch_size)
    found = {}
    for index in range(len(walk.blocks)):
        found |= {f"{index}.{layer}": own for layer, own in walk.collect(index, hessian=True).items()}
        walk.advance(index)
    assert found.keys() <= expected.keys() | {layer for layer, own in found.items() if own.n_tokens == 0}
    left_out = {layer.split(".", 1)[1] + ".weight" for layer in expected.keys() - found.keys()}
    assert left_out <= set(ARCHITECTURES[name].dense)
    for layer in found.keys() & expected.keys():
        inputs, own = expected[layer], found[layer]
        product = inputs.T @ inputs
        scale = product.diagonal().max().item()
        assert own.n_tokens == len(inputs)
        torch.testing.assert_close(own.hessian.double(), product * 2 / len(LENGTHS), rtol=1e-3, atol=1e-4 * scale)
        torch.testing.assert_close(own.norms.double(), inputs.norm(dim=0), rtol=1e-3, atol=1e-4 * scale**0.5)


@architectures
def test_outputs_from_any_block_are_the_models_own(name: str, calibration: dict[str, Tensor]) -> None:
    model = ARCHITECTURES[name].build()
    walk = BlockWalk(model, calibration, batch_size=3)
    with torch.no_grad():
        expected = read_output(model, model(**calibration), calibration)
    for index in range(len(walk.blocks)):
        found = torch.cat([walk.outputs_from(index, batch) for batch in range(2)])
        for row, other, length in zip(found, expected, LENGTHS, strict=True):
            torch.testing.assert_close(
                row[:length] if is_causal(model) else row,
                other[:length] if is_causal(model) else other,
                rtol=1e-3, atol=1e-3,
            )  # fmt: skip
        walk.advance(index)


@architectures
def test_pruning_reaches_every_block_matrix_and_nothing_else(name: str, calibration: dict[str, Tensor]) -> None:
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    twin, before = copy.deepcopy(model), model.state_dict()
    before = {key: tensor.clone() for key, tensor in before.items()}
    stays_dense = tuple(f".{weight}" for weight in architecture.dense)
    expected = {key for key in block_weights(model) if not key.endswith(stays_dense or "\n")}

    report = prune(model, calibration, method="sparsegpt", sparsity=0.5, batch_size=1)

    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == expected
    assert sum(m.numel() for m in matrices(model).values()) == sum(before[key].numel() for key in expected)
    for row, (full_name, matrix) in zip(report.layers.itertuples(), matrices(model).items(), strict=True):
        assert row.name == full_name and (row.rows, row.cols) == tuple(matrix.shape)
        assert abs(int((matrix == 0).sum()) - 0.5 * matrix.numel()) <= 1
    assert_finite_output(model, calibration)

    prune(twin, calibration, method="sparsegpt", sparsity=0.5, batch_size=4)
    for mine, other in zip(matrices(model).values(), matrices(twin).values(), strict=True):
        agree = (mine == 0) == (other == 0)
        assert agree.float().mean() > 0.98  # a near tie may fall the other way at the last digit
        torch.testing.assert_close(mine[agree], other[agree], rtol=1e-2, atol=2e-2)


@architectures
def test_n_of_m_patterns(name: str, calibration: dict[str, Tensor]) -> None:
    model = ARCHITECTURES[name].build()
    prune(model, calibration, method="wanda", sparsity=0.5, pattern="2:4")
    for matrix in matrices(model).values():
        assert ((matrix == 0).reshape(matrix.shape[0], -1, 4).sum(dim=2) == 2).all()
    assert_finite_output(model, calibration)


@mixtures
def test_experts_as_linear_layers_give_the_same_model(name: str, calibration: dict[str, Tensor]) -> None:
    """A list of experts, of which a batch calls some not at all and some many times, is pruned like the fused ones."""
    model = ARCHITECTURES[name].build()
    plain, tokens = unfused(model), calibration["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, plain(tokens).logits, rtol=1e-4, atol=1e-4)
    for one in (model, plain):
        prune(one, tokens, method="wanda", sparsity=0.5, batch_size=1)
    fused, separate = matrices(model), {fused_name(key): matrix for key, matrix in matrices(plain).items()}
    assert fused.keys() == separate.keys()
    for key, matrix in fused.items():
        assert ((matrix == 0) == (separate[key] == 0)).float().mean() > 0.98, key


def test_padding_that_cannot_be_told_from_text_is_refused(calibration: dict[str, Tensor]) -> None:
    model = unfused(ARCHITECTURES["mixtral"].build())
    with pytest.raises(ValueError, match=r"mlp\.experts\.\d\.gate_up_proj reads 1 of the batch's .* without padding"):
        prune(model, calibration, method="wanda", sparsity=0.5)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_the_implementation_of_experts_does_not_matter(implementation: str, calibration: dict[str, Tensor]) -> None:
    found = []
    for chosen in ("eager", implementation):
        model = ARCHITECTURES["mixtral"].build()
        model.set_experts_implementation(chosen)
        walk = BlockWalk(model, calibration, batch_size=2)
        walk.advance(0)
        found.append(walk.collect(1, hessian=True))
    assert found[0].keys() == found[1].keys()
    for layer, own in found[0].items():
        torch.testing.assert_close(own.hessian, found[1][layer].hessian, rtol=1e-3, atol=1e-3)


@mixtures
@pytest.mark.parametrize("method", ["wanda", "ria", "sparsegpt", "ria+obs", "optiprune-auto"])
def test_an_expert_without_tokens_keeps_magnitude_order(name: str, method: str) -> None:
    """Two tokens reach at most four of five experts."""
    model = ARCHITECTURES[name].build()
    before = matrices(copy.deepcopy(model))
    report = prune(model, torch.tensor([[7], [9]]), method=method, sparsity=0.5).layers.set_index("name")
    unreached = report["dead_columns"] == report["cols"]
    assert unreached.any() and not unreached.all()
    assert ((report["tokens"] == 0) == unreached).all()
    assert (report["relative_error"].isna() == unreached).all()
    for full_name in report.index[unreached]:
        dense, pruned = before[full_name], matrices(model)[full_name]
        kept = pruned != 0
        assert "experts" in full_name and torch.equal(pruned[kept], dense[kept])
        assert dense[~kept].abs().max() <= dense[kept].abs().min()
        assert int((~kept).sum()) == round(report.loc[full_name, "target"] * dense.numel())


@pytest.mark.parametrize("allocation", ["owl", "dlp", "alpha", "global", "optiprune"])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_allocations_take_experts_without_tokens(allocation: str, method: str) -> None:
    model = ARCHITECTURES["qwen3-moe"].build()
    report = prune(model, torch.tensor([[7], [9]]), method=method, sparsity=0.5, allocation=allocation)
    assert report.sparsity == pytest.approx(0.5, abs=1e-3)


def test_layers_that_nothing_calls_are_refused(tiny_llama: nn.Module) -> None:
    """Whether nothing calls a layer, or it is called where no hook sees it, cannot be told apart."""
    tiny_llama.model.layers[0].spare = nn.Linear(16, 4)
    with pytest.raises(ValueError, match=r"model\.layers\.0\.spare was not seen to read a single token \(1 of 8"):
        prune(tiny_llama, torch.arange(48).reshape(4, 12), method="sparsegpt", sparsity=0.5, batch_size=1)


@pytest.mark.parametrize("first", [-1.0, 1.0])
def test_layers_that_only_some_batches_reach(first: float) -> None:
    """A batch stops early only where nothing after the stop could be missed."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.always, self.sometimes, self.also = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, inputs: Tensor) -> None:
            self.always(inputs)
            if inputs[0, 0] > 0:
                own = inputs + 1
                self.sometimes(own)
                self.also(own)

    block = Block()
    batches = [sign * torch.ones(2, 3) * size for size, sign in enumerate([first, -1.0, 1.0, -1.0, 1.0], start=1)]
    with Collector(prunable_layers(block), hessian=True, stop_early=True) as collector:
        for batch in batches:
            collector.start(None)
            with suppress(StopForward):
                block(batch)
    found = collector.results("block", 1)
    reached = [batch + 1 for batch in batches if batch[0, 0] > 0]
    torch.testing.assert_close(found["always"].hessian, sum(2 * batch.T @ batch for batch in batches))
    torch.testing.assert_close(found["sometimes"].hessian, sum(2 * batch.T @ batch for batch in reached))
    assert found["sometimes"] is found["also"] and found["sometimes"].n_tokens == 2 * len(reached)


def test_weights_fused_in_an_unknown_way_are_refused(tiny_llama: nn.Module) -> None:
    block = tiny_llama.model.layers[1]
    block.mlp.scale = nn.Parameter(torch.ones(1, 4, 16))  # not several matrices
    block.mlp.convolution = nn.Conv1d(16, 16, 3)
    BlockWalk(tiny_llama, torch.arange(24).reshape(2, 12))
    block.mlp.mixing = nn.Parameter(torch.ones(3, 4, 16))
    before = block.mlp.up_proj.weight.detach().clone()
    with pytest.raises(LookupError, match=r"model\.layers\.1\.mlp\.mixing .* \(3, 4, 16\)"):
        prune(tiny_llama, torch.arange(24).reshape(2, 12), method="magnitude", sparsity=0.5)
    assert torch.equal(block.mlp.up_proj.weight, before)
