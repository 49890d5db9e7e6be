"""prune_grid: the models of separate calls bit for bit, from shared work."""

import copy
import itertools

import pandas as pd
import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn

from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning import matrices as matrix_methods
from labutils.pruning import prune, prune_grid
from labutils.pruning.calibration import BlockWalk

METHODS = ["magnitude", "wanda", "ri", "ria", "sparsegpt", "ria+obs", "magnitude+obs", "optiprune", "optiprune-auto"]
SPARSITIES = [0.3, 0.5, 0.7]


def matrices(model: nn.Module) -> dict[str, torch.Tensor]:
    prefix, blocks = find_blocks(model)
    return {
        f"{prefix}.{i}.{name}": weight_matrix(layer).clone()
        for i, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    }


def assert_grid_equals_calls(model: nn.Module, tokens: object, **grid: object) -> pd.DataFrame:
    """Every row and every weight, against a fresh copy that `prune` prunes."""
    models: list[dict] = []

    def keep(pruned: nn.Module) -> dict:
        models.append(matrices(pruned))
        return {"number": len(models) - 1}

    dense = copy.deepcopy(model)
    rows = pd.DataFrame(prune_grid(model, tokens, evaluate=keep, **grid))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), dense.state_dict().values(), strict=True))
    options = {key: value for key, value in grid.items() if key not in ("methods", "sparsities", "allocations")}
    for row in rows.itertuples():
        twin, permute = copy.deepcopy(dense), row.pattern != "unstructured" and bool(grid.get("permute"))
        given = {**options, "pattern": row.pattern, "permute": permute}
        given.pop("patterns", None)
        if row.method != "optiprune":
            given.pop("threshold_on", None)
        report = prune(twin, tokens, method=row.method, sparsity=row.sparsity, allocation=row.allocation, **given)
        assert row.reached == report.sparsity, row
        for name, matrix in matrices(twin).items():
            assert torch.equal(matrix, models[row.number][name]), (row.method, row.allocation, row.sparsity, name)
    return rows


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_bert"])
def test_every_method_at_its_own_allocation(name: str, tokens: torch.Tensor, request: pytest.FixtureRequest) -> None:
    rows = assert_grid_equals_calls(request.getfixturevalue(name), tokens, methods=METHODS, sparsities=SPARSITIES)
    assert rows[["method", "sparsity"]].values.tolist() == [list(c) for c in itertools.product(METHODS, SPARSITIES)]


@pytest.mark.parametrize(
    "allocation", ["uniform", "owl", "alpha", "dlp", "arithmetic", "global", "global-raw", "optiprune", "measured"]
)
def test_every_allocation(tiny_llama: nn.Module, tokens: torch.Tensor, allocation: str) -> None:
    methods = ["magnitude", "wanda", "ri", "sparsegpt", "ria+obs", "optiprune"]
    assert_grid_equals_calls(tiny_llama, tokens, methods=methods, sparsities=[0.4, 0.6], allocations=[allocation])


@pytest.mark.parametrize("permute", [False, True])
def test_patterns_are_run_at_their_own_sparsity(tiny_llama: nn.Module, tokens: torch.Tensor, permute: bool) -> None:
    rows = assert_grid_equals_calls(
        tiny_llama, tokens, methods=["magnitude", "ria", "ria+obs", "sparsegpt", "optiprune-auto"], sparsities=[0.3],
        patterns=["unstructured", "2:4", "1:4"], allocations=[None, "owl"], permute=permute,
    )  # fmt: skip
    assert rows.groupby("pattern")["sparsity"].unique().map(list).to_dict() == {
        "1:4": [0.75], "2:4": [0.5], "unstructured": [0.3],
    }  # fmt: skip
    assert len(rows) == 5 * (2 + 1 + 1)


@pytest.mark.parametrize("options", [{"group": "row"}, {"group": "matrix"}, {"batch_size": 3, "damping": 0.1}])
def test_options_and_padding(tiny_llama: nn.Module, tokens: torch.Tensor, options: dict) -> None:
    mask = torch.ones_like(tokens)
    mask[2, 15:] = 0
    inputs = {"input_ids": tokens, "attention_mask": mask}
    methods = ["magnitude", "ri", "wanda", "ria+obs"]
    assert_grid_equals_calls(tiny_llama, inputs, methods=methods, sparsities=SPARSITIES, **options)


def test_prunings_that_read_the_dense_model(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    assert_grid_equals_calls(tiny_llama, tokens, methods=METHODS, sparsities=[0.4, 0.6], sequential=False)
    assert_grid_equals_calls(
        tiny_llama, tokens, methods=["optiprune", "sparsegpt"], sparsities=[0.5], allocations=["owl", "global"],
        threshold_on="layer", sequential=False,
    )  # fmt: skip


@pytest.mark.parametrize("sequential", [True, False])
def test_experts_that_see_no_token_are_told_from_those_that_do(tokens: torch.Tensor, sequential: bool) -> None:
    """What reaches an expert depends on the blocks before it, so that even scores of weights need tokens there."""
    rows = assert_grid_equals_calls(
        ARCHITECTURES["mixtral"].build(), tokens[:1, :3], methods=["magnitude", "ri", "ria+obs"],
        sparsities=[0.3, 0.6], sequential=sequential,
    )  # fmt: skip
    assert len(rows) == 6


def test_nothing_is_computed_twice(
    tiny_llama: nn.Module, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block's statistics once for all, no tokens for scores of weights, the same model once."""
    collected: list[tuple] = []
    own = BlockWalk.collect

    def collect(self: BlockWalk, index: int, *, hessian: bool) -> dict:
        collected.append((index, hessian))
        return own(self, index, hessian=hessian)

    monkeypatch.setattr(BlockWalk, "collect", collect)
    grid = {"evaluate": lambda pruned: {}, "sparsities": [0.2, 0.3, 0.6]}
    list(prune_grid(tiny_llama, tokens, methods=["magnitude", "ri"], **grid))
    assert collected == []
    list(prune_grid(tiny_llama, tokens, methods=["wanda", "ria", "sparsegpt", "ria+obs"], **grid))
    assert collected.count((0, False)) == collected.count((0, True)) == 1
    assert collected.count((1, False)) == collected.count((2, True)) == 2 * 3
    collected.clear()
    evaluated: list[int] = []
    grid["evaluate"] = lambda pruned: {"call": evaluated.append(0) or len(evaluated)}
    rows = list(prune_grid(tiny_llama, tokens, methods=["ria", "optiprune"], **grid))
    assert [row["call"] for row in rows] == [1, 2, 3, 1, 2, 4]  # optiprune prunes by ria below one half
    assert collected.count((2, False)) == 3 and collected.count((2, True)) == 1


def test_a_grid_on_the_dense_model_runs_it_once_for_each_kind_of_statistics(
    tiny_llama: nn.Module, tokens: torch.Tensor
) -> None:
    """Beside the pass of every grid in which blocks are asked what they are called with, and those of one sequence."""
    runs: list[int] = []
    for index, block in enumerate(find_blocks(tiny_llama)[1]):
        block.register_forward_pre_hook(lambda _, args, index=index: runs.extend([index] * (len(args[0]) > 1)))

    def passes(*methods: str) -> int:
        runs.clear()
        grid = {"evaluate": lambda pruned: {}, "sparsities": SPARSITIES, "sequential": False}
        list(prune_grid(tiny_llama, tokens, methods=methods, **grid))
        assert runs == [0, 1, 2] * (len(runs) // 3)
        return len(runs) // 3 - 1

    assert passes("magnitude", "ri") == 0
    assert passes("magnitude", "wanda", "ria") == 1
    assert passes("wanda", "sparsegpt", "ria+obs") == 2


def test_out_of_memory_while_the_dense_model_is_read_becomes_advice(
    tiny_llama: nn.Module, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(BlockWalk, "collect_and_advance", fail)
    grid = prune_grid(
        tiny_llama, tokens, methods=["wanda"], sparsities=[0.5], sequential=False, evaluate=lambda pruned: {}
    )
    with pytest.raises(MemoryError, match="Out of memory: .* To use less: "):
        list(grid)


def test_a_request_that_cannot_be_met_stops_before_anything_is_evaluated(
    tiny_llama: nn.Module, tokens: torch.Tensor
) -> None:
    def refuse(pruned: nn.Module) -> dict:
        raise AssertionError("evaluated")

    for bad in ({"allocations": ["uniform", "owll"]}, {"patterns": ["unstructured", "3:5"]}, {"methods": ["wandaa"]}):
        given = {"methods": ["magnitude"], "sparsities": [0.5], **bad}
        with pytest.raises((LookupError, ValueError), match="owl|does not divide|wanda"):
            list(prune_grid(tiny_llama, tokens, evaluate=refuse, **given))


def test_a_grid_of_which_nothing_is_left_is_refused(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    given = {"methods": ["magnitude"], "sparsities": [0.5], "patterns": ["2:4"], "evaluate": lambda pruned: {}}
    with pytest.raises(ValueError, match="Nothing is left to prune"):
        list(prune_grid(tiny_llama, tokens, allocations=["owl"], **given))


def test_an_option_belongs_to_one_of_the_members(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    grid = {"methods": ["magnitude", "optiprune"], "sparsities": [0.6], "evaluate": lambda pruned: {}}
    rows = list(prune_grid(tiny_llama, tokens, allocations=[None, "owl"], owl_lambda=0.05, threshold=0.7, **grid))
    assert [row["allocation"] for row in rows] == ["uniform", "owl", "optiprune", "owl"]
    with pytest.raises(ValueError, match="epsilon is an option of allocation 'alpha'"):
        list(prune_grid(tiny_llama, tokens, allocations=["owl"], epsilon=0.1, **grid))


def test_a_failing_measurement_or_pruning_leaves_the_model_dense(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        tiny_llama.model.layers[2].mlp.up_proj.weight.mul_(1e38)  # activations overflow in the last block
    before = matrices(tiny_llama)
    rows = prune_grid(tiny_llama, tokens, methods=["magnitude", "wanda"], sparsities=[0.5], evaluate=lambda m: {"a": 1})
    assert next(rows)["method"] == "magnitude"
    with pytest.raises(ValueError, match=r"layers\.2\.mlp\.down_proj"):
        next(rows)
    assert all(torch.equal(before[name], matrix) for name, matrix in matrices(tiny_llama).items())


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_a_grid_has_no_report_and_counts_no_ties(
    tiny_llama: nn.Module, tokens: torch.Tensor, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[float] = []
    own = matrix_methods.tied_share
    monkeypatch.setattr(matrix_methods, "tied_share", lambda *a, **k: counted.append(own(*a, **k)) or counted[-1])
    methods = ["magnitude", "ria"]
    rows = list(
        prune_grid(
            tiny_llama, tokens, methods=methods, sparsities=[0.5], patterns=[pattern], evaluate=lambda _: {},
            permute=pattern == "2:4",
        )
    )  # fmt: skip
    assert len(rows) == 2 and counted == []
    report = prune(tiny_llama, tokens, method="ria", sparsity=0.5, pattern=pattern)
    assert report.layers["ties"].tolist() == pytest.approx(counted) and len(counted) > 0
