"""A score, a mask search and a reconstruction in one name: pruned, in grids, streamed, forecast, with patterns."""

import copy
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES
from joblib import Parallel, delayed
from layers import hessian_of, random_inputs, random_weight
from test_grid import assert_grid_equals_calls, matrices
from torch import nn

import labutils as lab
from labutils.pruning import (
    MaskedLayer,
    MaskSearch,
    Reconstruction,
    list_methods,
    matrix_method,
    temporary_registrations,
)
from labutils.pruning.matrices import ScoreMethod, prune_matrix
from labutils.pruning.methods import method_kind
from labutils.pruning.reconstruction import factor_hessian, relative_output_error
from labutils.pruning.requests import with_registrations
from labutils.pruning.statistics import Statistics

NAMES = [
    "wanda+ls", "ria+admm", "magnitude+ls", "wanda+swaps", "ri+swaps+ls", "wanda+dsnot", "wanda+dsnot+obs", "admm",
    "alps", "rgs", "wanda+match", "sparsegpt-mask+ls", "rose", "sparsellm", "wanda+swaps-ls+ls",
]  # fmt: skip


def statistics_of(inputs: torch.Tensor) -> Statistics:
    return Statistics(hessian_of(inputs), inputs.norm(dim=0), inputs[:8], len(inputs), inputs.sum(dim=0), 4)


def test_names() -> None:
    assert ScoreMethod("wanda", "swaps", "ls").name == "wanda+swaps+ls"
    assert method_kind("wanda+swaps-ls+ls")().method == ScoreMethod("wanda", "swaps-ls", "ls")
    assert method_kind("wanda+none")().name == "wanda" and matrix_method("wanda+none") == matrix_method("wanda")
    assert matrix_method("magnitude+ls").reads_inputs and not matrix_method("magnitude").reads_inputs
    assert matrix_method("wanda+swaps").needs_factor and not matrix_method("wanda+swaps").needs_inverse
    assert not matrix_method("wanda+dsnot").needs_hessian and matrix_method("wanda+dsnot+ls").needs_factor
    for name in ("wanda+ls+swaps", "wanda+ls+ls", "wanda+", "+ls", "ls", "swaps", "wanda+lss", "sparsegpt+ls"):
        with pytest.raises(LookupError, match="There is no pruning method"):
            method_kind(name)
    with pytest.raises(LookupError, match=r"Did you mean 'wanda\+swaps'\?.*in this order"):
        method_kind("wanda+swap")


def test_listed() -> None:
    table = list_methods().set_index(["kind", "name"])["what"]
    assert set(table["reconstruction"].index) == {"none", "obs", "ls", "admm", "match", "regional"}
    assert set(table["search"].index) == {"swaps", "swaps-ls", "dsnot"}
    assert {"admm", "alps"} <= set(table["method"].index)
    assert all(table)


@pytest.mark.parametrize("pattern", [None, (2, 4), (1, 4)])
def test_the_layers_error_by_what_follows_the_score(pattern: tuple[int, int] | None) -> None:
    """Least squares is the best on its mask, and exchanges never raise the error that they lower."""
    for seed in range(4):
        weight, own = random_weight(12, 16, seed), statistics_of(random_inputs(60, 16, seed))
        factor = factor_hessian(own.hessian, damping=1e-8)  # hardly any, so that the damped error is the error

        def error(name: str) -> float:
            method = matrix_method(name)
            result = prune_matrix(weight, own, method, n_drop=96, pattern=pattern, factor=factor)  # noqa: B023
            assert int((~result.mask).sum()) == (144 if pattern == (1, 4) else 96)
            assert not pattern or (result.mask.reshape(12, -1, pattern[1]).sum(dim=2) == pattern[0]).all()
            return relative_output_error(weight, result.weight, own.hessian)  # noqa: B023

        for score in ("magnitude", "wanda", "ria"):
            found = {step: error(f"{score}{step}") for step in ("", "+obs", "+ls", "+admm", "+swaps", "+swaps+ls")}
            assert all(found["+ls"] <= found[step] * (1 + 1e-6) for step in ("", "+obs", "+admm"))
            assert found["+swaps"] <= found[""] and found["+swaps+ls"] <= found["+swaps"]
            assert error(f"{score}+swaps-ls+ls") <= found["+ls"] * (1 + 1e-6)
            assert found["+admm"] < found[""]  # obs promises nothing: it does not return to a column


@pytest.mark.parametrize("name", NAMES)
def test_pruned_by_every_one(tiny_llama: nn.Module, tokens: torch.Tensor, name: str) -> None:
    dense = copy.deepcopy(tiny_llama)
    report = lab.prune(tiny_llama, tokens, method=name, sparsity=0.5)
    assert report.sparsity == pytest.approx(0.5, abs=2e-3) and report.options["method"] == name
    assert report.layers["damping"].notna().all() == matrix_method(name).needs_factor
    plain = lab.prune(dense, tokens, method=name.partition("+")[0] if "+" in name else "wanda", sparsity=0.5)
    first = report.layers["block"] == 0  # later blocks read what the earlier ones made of the tokens
    if not any(
        part in name for part in ("dsnot", "rgs", "match", "sparsellm")
    ):  # these lower other things than a layer's error
        better = report.layers["relative_error"][first] <= plain.layers["relative_error"][first] * (1 + 1e-6)
        assert better.all()


def test_in_a_grid(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    methods = ["wanda", "wanda+ls", "ri+swaps+ls", "ri+swaps-ls+ls", "wanda+dsnot", "alps"]
    rows = assert_grid_equals_calls(
        tiny_llama, tokens, methods=methods, sparsities=[0.5], patterns=["unstructured", "2:4"]
    )
    assert len(rows) == 2 * len(methods) and (rows["reached"] - 0.5).abs().max() < 2e-3


def test_with_permuted_channels(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    for name in NAMES:
        pruned = copy.deepcopy(tiny_llama)
        report = lab.prune(pruned, tokens, method=name, sparsity=0.5, pattern="2:4", permute=True)
        for layer, order in report.permutations.items():
            groups = (matrices(pruned)[layer][:, order] != 0).reshape(-1, 4).sum(dim=1)
            assert (groups <= 2).all(), (name, layer)


def test_experts_that_no_token_reached(tokens: torch.Tensor) -> None:
    for name in ("wanda+swaps+ls", "wanda+dsnot", "alps"):
        report = lab.prune(ARCHITECTURES["mixtral"].build(), tokens[:1, :3], method=name, sparsity=0.5)
        assert (report.layers["tokens"] == 0).any() and report.sparsity == pytest.approx(0.5, abs=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_streamed(tiny_llama: nn.Module, tokens: torch.Tensor, name: str, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path / "dense")
    lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", tokens, method=name, sparsity=0.5, device="cpu")
    lab.prune(tiny_llama, tokens, method=name, sparsity=0.5)
    loaded = lab.load_pruned(tmp_path / "pruned").model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in tiny_llama.state_dict().items())


def test_forecast_grows_with_the_operations_of_the_steps(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    """Its stages and its memory; what a step takes is told by its `operations` and `memory`."""
    for name in ("wanda+ls", "wanda+swaps", "wanda+swaps-ls", "wanda+dsnot", "alps", "rgs", "wanda+match"):
        found, method = lab.forecast(tiny_llama, tokens, method=name, sparsity=0.5), matrix_method(name)
        assert set(found.stages["stage"]) >= {"collect", "prune", "advance"}
        assert method.operations(64, 32) >= 0 and method.memory(64, 32) >= 0
        if method.needs_hessian:
            assert method.operations(64, 64) > 3 * method.operations(64, 32) > 0
    peaks = {name: lab.forecast(tiny_llama, tokens, method=name, sparsity=0.5).memory for name in ("wanda", "wanda+ls")}
    assert peaks["wanda+ls"] > peaks["wanda"]


def test_steps_of_ones_own(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with temporary_registrations():

        @lab.pruning.register_search("mirrored")
        class Mirrored(MaskSearch):
            """The inputs from right to left."""

            needs_hessian = reads_inputs = False

            def search(self, layer: object) -> torch.Tensor:
                return layer.mask.flip(1)

        @lab.register_reconstruction("doubled")
        class Doubled(Reconstruction):
            """Twice the weights."""

            needs_hessian = needs_factor = reads_inputs = False

            def reconstruct(self, layer: object) -> torch.Tensor:
                return 2 * layer.weight * layer.mask

        dense = copy.deepcopy(tiny_llama)
        table = list_methods().set_index(["kind", "name"])
        assert table.loc[("reconstruction", "doubled"), "what"] == "Twice the weights."
        known = Parallel(n_jobs=2)([delayed(with_registrations(list_methods))()] * 2)[1]["name"].tolist()
        assert "mirrored" in known and "doubled" in known
        lab.prune(tiny_llama, tokens, method="magnitude+mirrored+doubled", sparsity=0.5)
        for name, matrix in matrices(dense).items():
            plain = prune_matrix(matrix, None, matrix_method("magnitude"), n_drop=matrix.numel() // 2)
            assert torch.equal(matrices(tiny_llama)[name], 2 * matrix * plain.mask.flip(1))
        rows = assert_grid_equals_calls(
            dense, tokens, methods=["magnitude+doubled", "wanda+mirrored"], sparsities=[0.3, 0.5]
        )
        assert len(rows) == 4
        for register in (lab.register_reconstruction, lab.pruning.register_search):
            for taken in ("ls", "swaps", "doubled"):
                with pytest.raises(ValueError, match="already"):
                    register(taken)
            with pytest.raises(ValueError, match="stands between names"):
                register("a+b")
        with pytest.raises(ValueError, match="stands between names"):
            lab.register_score("a+b", "row")
    assert "doubled" not in list_methods()["name"].tolist()


def test_an_abstract_step_says_what_it_lacks() -> None:
    layer = MaskedLayer(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool), None, None, None, 128)
    with pytest.raises(NotImplementedError, match="must define `reconstruct`"):
        Reconstruction().reconstruct(layer)
    with pytest.raises(NotImplementedError, match="must define `search`"):
        MaskSearch().search(layer)
