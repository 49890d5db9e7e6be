"""The searched allocation: its fitness against slow loops, totals to the weight, and the dense model given back."""

import copy
import itertools

import pandas as pd
import pytest
import torch
from slow_divergences import slow_divergence, slow_outputs
from torch import nn

import labutils as lab
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning import prune, prune_grid
from labutils.pruning.allocation_rules import integer_budgets
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.level_reading import LeveledMatrix, MatrixReader

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_bert"]
SMALL = {"allocation": "evopress", "generations": 4, "offspring": 3, "levels": 3}


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids, mask = torch.randint(3, 64, (7, 20), generator=generator), torch.ones(7, 20, dtype=torch.int64)
    mask[2, 11:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sequences a part, so that there are several."""
    monkeypatch.setattr("labutils.pruning.level_reading.PART_TOKENS", 40)


def matrices(model: nn.Module) -> list[torch.Tensor]:
    return [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]


def zeros(model: nn.Module) -> list[int]:
    return [int((matrix == 0).sum()) for matrix in matrices(model)]


@pytest.mark.parametrize(("name", "method"), [*((name, "wanda") for name in MODELS), ("tiny_llama", "sparsegpt")])
def test_the_fitness_is_the_divergence_of_what_is_left(
    name: str, method: str, inputs: dict, small_parts: None, request: pytest.FixtureRequest
) -> None:
    """With every matrix pruned by what the dense model reads, the model is the one that the search has read."""
    dense = request.getfixturevalue(name)
    before, searched, uniform = slow_outputs(dense, inputs), copy.deepcopy(dense), copy.deepcopy(dense)
    asked = {"method": method, "sparsity": 0.6, "sequential": False}
    path = prune(searched, inputs, **asked, **SMALL).candidates
    prune(uniform, inputs, **asked, allocation="uniform")
    left, start = (slow_divergence(before, slow_outputs(model, inputs)) for model in (searched, uniform))
    assert path["fitness"].iloc[0] == pytest.approx(start, rel=1e-3)
    assert path["fitness"].iloc[-1] == pytest.approx(left, rel=1e-3)
    assert path["taken"].any() and left < start
    assert all(a >= b for a, b in itertools.pairwise(path["fitness"]))


@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.77, 0.95])
def test_the_total_is_kept_to_the_weight_and_levels_are_the_same_for_all(
    tiny_llama: nn.Module, inputs: dict, sparsity: float
) -> None:
    sizes = [matrix.numel() for matrix in matrices(tiny_llama)]
    uniform = integer_budgets(sizes, [sparsity] * len(sizes), sparsity)
    report = prune(tiny_llama, inputs, method="magnitude", sparsity=sparsity, **SMALL)
    dropped = zeros(tiny_llama)
    assert sum(dropped) == round(sparsity * sum(sizes)) == round(report.sparsity * sum(sizes))
    step = round(0.5 * min(sparsity, 1 - sparsity) * sum(sizes) / len(sizes) / 3)
    levels = [(own - start) / step for own, start in zip(dropped, uniform, strict=True)]
    assert all(level == round(level) and abs(level) <= 3 for level in levels) and sum(levels) == 0
    assert sum(level != 0 for level in levels) == report.candidates["moved"].iloc[-1] > 0


def test_a_seed_decides_and_the_batch_size_does_not(tiny_llama: nn.Module, inputs: dict, small_parts: None) -> None:
    def run(**asked: object) -> tuple[list[int], pd.DataFrame]:
        model = copy.deepcopy(tiny_llama)
        path = prune(model, inputs, method="wanda", sparsity=0.5, **SMALL, **asked).candidates
        return zeros(model), path

    first, again, other, batched = run(), run(), run(seed=1), run(batch_size=3)
    assert first[0] == again[0] and first[1].equals(again[1])
    assert not first[1]["challenger"].equals(other[1]["challenger"])
    pd.testing.assert_frame_equal(first[1], batched[1], rtol=1e-4)


def test_candidates_share_what_they_have_in_common(
    tiny_llama: nn.Module, inputs: dict, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read as if the model were put together for it alone, and blocks in common are run once."""
    before, blocks = slow_outputs(tiny_llama, inputs), find_blocks(tiny_llama)[1]
    dense = copy.deepcopy(tiny_llama)
    places = [(block, weight_matrix(layer)) for block in range(3) for layer in prunable_layers(blocks[block]).values()]
    units = [LeveledMatrix(block, place, {0: place.clone(), 1: place * 0.5, 2: place * 0.2}) for block, place in places]
    reader = MatrixReader(BlockWalk(tiny_llama, inputs), units)
    last, n = len(units) - 1, len(units)
    candidates = [tuple(2 if unit in raised else 1 for unit in range(n)) for raised in ((), (last,), (0,), (last - 1,))]
    runs: list[int] = []
    step = reader.step
    monkeypatch.setattr(reader, "step", lambda index, *own: runs.append(index) or step(index, *own))
    found = reader.read(candidates, range(reader.n_parts))
    assert [runs.count(block) for block in range(3)] == [2 * 4, 2 * 4, 4 * 4]  # of four parts
    for levels, value in zip(candidates, found, strict=True):
        model = copy.deepcopy(dense)
        with torch.no_grad():
            for matrix, unit, level in zip(matrices(model), units, levels, strict=True):
                matrix.copy_(unit.weights[level])
        assert value == pytest.approx(slow_divergence(before, slow_outputs(model, inputs)), rel=1e-3)
    assert sum(reader.read([candidates[2]], [part])[0] for part in range(4)) == pytest.approx(found[2], rel=1e-5)


@pytest.mark.parametrize("method", ["gblm", "wanda+ls", "magnitude", "rgs"])
def test_any_method_can_be_searched(tiny_llama: nn.Module, inputs: dict, method: str) -> None:
    report = prune(tiny_llama, inputs, method=method, sparsity=0.5, **SMALL)
    assert report.candidates["fitness"].iloc[-1] <= report.candidates["fitness"].iloc[0]
    assert report.options["allocation"] == "evopress" and report.options["levels"] == 3
    assert sum(zeros(tiny_llama)) == round(0.5 * sum(matrix.numel() for matrix in matrices(tiny_llama)))


def test_a_grid_finds_what_single_prunings_find(tiny_llama: nn.Module, inputs: dict) -> None:
    found, before = [], copy.deepcopy(tiny_llama.state_dict())
    options = {"generations": 2, "offspring": 2, "levels": 3}
    for _ in prune_grid(
        tiny_llama, inputs, methods=["wanda"], sparsities=[0.4, 0.6], allocations=["evopress"],
        evaluate=lambda model: found.append(zeros(model)) or {}, **options,
    ):  # fmt: skip
        pass
    assert all(torch.equal(value, before[name]) for name, value in tiny_llama.state_dict().items())
    for sparsity, own in zip((0.4, 0.6), found, strict=True):
        model = copy.deepcopy(tiny_llama)
        prune(model, inputs, method="wanda", sparsity=sparsity, allocation="evopress", **options)
        assert zeros(model) == own


def test_nothing_to_remove_needs_no_search(tiny_llama: nn.Module, inputs: dict) -> None:
    report = prune(tiny_llama, inputs, method="wanda", sparsity=0.0, **SMALL)
    assert report.sparsity == 0 and report.candidates is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"levels": 500}, "less than one weight between two levels of matrices of 3.. weights. Take fewer levels"),
        ({"levels": 0}, "levels=0 must be at least 1"),
        ({"generations": 0}, "generations=0 must be at least 1"),
        ({"offspring": 1.5}, "offspring=1.5 must be a whole number"),
        ({"level_range": 1.5}, "level_range=1.5 must be above 0 and at most 1"),
        ({"allocation": "owl"}, "is an option of allocation 'evopress'"),
    ],
)
def test_what_cannot_be_searched_is_refused_and_changes_nothing(
    tiny_llama: nn.Module, inputs: dict, asked: dict, message: str
) -> None:
    before = copy.deepcopy(tiny_llama.state_dict())
    with pytest.raises(ValueError, match=message):
        prune(tiny_llama, inputs, **{"method": "wanda", "sparsity": 0.5, **SMALL, **asked})
    assert all(torch.equal(value, before[name]) for name, value in tiny_llama.state_dict().items())


def test_a_search_that_fails_half_way_leaves_the_model_dense(
    tiny_llama: nn.Module, inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = copy.deepcopy(tiny_llama.state_dict()), MatrixReader.read

    def failing(reader: MatrixReader, candidates: list, parts: object) -> list[float]:
        read(reader, candidates, parts)
        raise KeyboardInterrupt

    monkeypatch.setattr(MatrixReader, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        prune(tiny_llama, inputs, method="wanda", sparsity=0.5, restorable=False, **SMALL)
    assert all(torch.equal(value, before[name]) for name, value in tiny_llama.state_dict().items())


def test_the_forecast_counts_the_search(tiny_llama: nn.Module) -> None:
    asked = {"method": "wanda", "sparsity": 0.5}
    plain = lab.forecast(tiny_llama, (8, 16), **asked)
    few, many = (
        lab.forecast(tiny_llama, (8, 16), **asked, allocation="evopress", levels=levels, generations=generations)
        for levels, generations in ((2, 5), (8, 50))
    )
    searching = [found.stages.set_index("stage").loc["search"] for found in (few, many)]
    assert "search" not in set(plain.stages["stage"])
    assert 5 * searching[0]["seconds"] < searching[1]["seconds"] < many.seconds
    copies = sum(matrix.nbytes for matrix in matrices(tiny_llama))
    assert searching[1]["bytes"] - searching[0]["bytes"] == 12 * copies
