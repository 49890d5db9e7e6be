"""Costs: what is measured is what was done; tables of the benchmarks say what their files say."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import can_reset_peak
from IPython.display import Markdown

import labutils as lab
from labutils import costs
from labutils.core import paths
from labutils.core.profiling import Cost, describe_processor, measure_cost
from labutils.core.usage import peak_resident_megabytes
from labutils.costs import results
from labutils.runner.notebooks import read_notebook

METHODS = ["magnitude", "sparsegpt"]
RESULT_TABLES = ("peer_results", "streaming_results", "kernel_results", "ratio_results", "forecast_results")
PEER = {
    "size": "110M", "method": "wanda", "processor_ratio": 0.7, "processor_floor": 0.5,
    "seconds": {"processor": {"ours": 3.5, "theirs": 5.0}},
    "peak_megabytes": {"ours": 600.0, "theirs": 800.0}, "floor_megabytes": 500.0, "masks_equal": 1.0, "repeats": 3,
    "date": "2030-01-02", "processor": "abacus", "pairs": [{}],
}  # fmt: skip


def test_seconds() -> None:
    cost = measure_cost(lambda: time.sleep(0.05))
    assert 0.05 <= cost.wall < 1 and cost.processor < 0.05


@pytest.mark.skipif(not can_reset_peak(), reason="this system does not let the peak memory be measured anew")
def test_peak_memory_is_that_of_the_work_alone() -> None:
    """Memory that was held before, and freed, does not count; what is held for a moment does."""
    torch.ones(30_000_000)
    small = measure_cost(lambda: torch.ones(1_000_000))
    large = measure_cost(lambda: torch.ones(30_000_000))
    assert small.peak_megabytes < 60
    assert 118 <= large.peak_megabytes < 160
    assert peak_resident_megabytes() >= large.peak_megabytes


def test_the_processor_has_a_name() -> None:
    assert describe_processor()


def test_pruning_costs_has_every_kind_in_every_repeat(tiny_llama, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    tokens = torch.randint(0, 64, (4, 12))
    rows = costs.pruning_costs(tiny_llama, tokens, methods=METHODS, sparsities=[0.3, 0.6], repeats=2, name="tiny")
    kinds = rows.groupby("repeat")[["method", "sparsity"]].apply(lambda part: sorted(map(tuple, part.to_numpy())))
    wanted = sorted([("one pass", 0.0), *((method, sparsity) for method in METHODS for sparsity in (0.3, 0.6))])
    assert kinds.tolist() == [wanted, wanted]
    block = 4 * 16 * 16 + 3 * 16 * 24
    assert set(rows["parameters"]) == {3 * block} and set(rows["model"]) == {"tiny"}
    assert (rows["wall"] > 0).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_llama.state_dict().items())


def test_size_costs_grow_with_the_width() -> None:
    rows = costs.size_costs([32, 64], (2, 8), methods=["wanda"], sparsity=0.5, repeats=1)
    assert rows.groupby("model", sort=False)["parameters"].first().is_monotonic_increasing
    model = costs.random_llama(64)
    assert model.config.intermediate_size == 192 and model.config.num_attention_heads == 2
    assert rows["parameters"].max() == 4 * (4 * 64 * 64 + 3 * 64 * 192)


def test_sparse_products() -> None:
    rows = costs.sparse_product_times([0.5, 0.99], width=256, n_tokens=8, repeats=2)
    assert (rows["dense_megabytes"] == 256 * 256 * 4 / 1e6).all()
    few, many = rows.set_index("sparsity")["sparse_megabytes"].loc[[0.99, 0.5]]
    assert few < rows["dense_megabytes"][0] < many
    assert rows["ratio"].tolist() == pytest.approx((rows["sparse_ms"] / rows["dense_ms"]).tolist())


def test_from_where_on_it_pays() -> None:
    """One lucky measurement below does not count."""
    times = pd.DataFrame({"sparsity": [0.99, 0.5, 0.7, 0.9], "a": [1.0, 9.0, 1.0, 5.0], "b": [2.0, 5.0, 2.0, 4.0]})
    assert costs.pays_from(times, "a", "b") == 0.99
    assert costs.pays_from(times.assign(a=[1.0, 9.0, 1.0, 3.0]), "a", "b") == 0.7
    assert costs.pays_from(times.assign(a=9.0), "a", "b") is None


@pytest.fixture
def result_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


def test_benchmarks_that_were_not_run(result_folder: Path) -> None:
    assert costs.read_benchmark("gpu_pruning") is None
    assert [len(getattr(costs, table)()) for table in RESULT_TABLES] == [0] * 5


def test_the_notebook_says_what_was_not_measured(result_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells that read result files, on a copy of the collection without any; and on the files that came with it."""
    readers = [
        f"lab.costs.{name}(" for name in (*RESULT_TABLES, "aim_points", "missed_aims", "peer_bars", "kernel_curves")
    ]
    cells = read_notebook(paths.REPOSITORY / "notebooks" / "11_cost.ipynb").cells
    chosen = [
        cell.source for cell in cells if cell.cell_type == "code" and any(name in cell.source for name in readers)
    ]
    assert len(chosen) == 8
    for _ in range(2):
        names: dict = {"lab": lab, "pd": pd, "Markdown": Markdown}
        for source in chosen:
            exec(source, names)
        assert len(names["ratios"]) == len(costs.ratio_results())
        monkeypatch.undo()


def test_peers(result_folder: Path) -> None:
    (result_folder / "against_llm_compressor.json").write_text(
        json.dumps({"110M wanda": PEER, "15M wanda": {**PEER, "size": "15M", "pairs": []}})
    )
    (row,) = costs.peer_results().to_dict("records")
    assert row == {
        "model": "110M", "method": "wanda", "ratio": 0.7, "floor": 0.5, "ours_seconds": 3.5, "theirs_seconds": 5.0,
        "ours_megabytes": 600.0, "theirs_megabytes": 800.0, "floor_megabytes": 500.0, "masks_equal": 1.0,
        "aim": 0.58, "memory_aim": 0.8, "repeats": 3, "date": "2030-01-02", "machine": "abacus",
    }  # fmt: skip


def test_ratios(result_folder: Path) -> None:
    about = {"date": "2030-01-02", "processor": "abacus"}
    ratio = {"processor": {"ratio": 0.9}}
    case = {"allocation": "owl", "sequential": True, "parameters": 2_000_000, "floor": 0.3,
            "ratio": {"processor": 0.4, "wall": 0.5}}  # fmt: skip
    parallel = {**case, "sequential": False, "ratio": {"processor": 0.2}}
    files = {
        "prune_against_forward": {"median_over_pairs": {"wanda": ratio, "sparsegpt": ratio}},
        "neuron_words_against_forward": {"median_over_pairs": ratio}, "grid_against_calls": {"cases": [case, parallel]},
        "reconstruction_cost": {
            "over_sparsegpt": {"wanda+ls": {"ratio": 2.2, "limit": 2.5, "memory_ratio": 1.1, "memory_limit": 1.5}}
        },
        "depth_search": {"gone": 6, "blocks": 30, "share_of_runs": 0.4},
        "multilevel_against_lme4": {"median_over_pairs": {"InstEval": {"rows": 73421, "ratio": 0.15}}},
        "multilevel_against_python": {
            "median_over_pairs": {
                "cake": {"rows": 270, "against": {"mixedlm": {"ratio": 0.8, "aim": 1.0}, "lme_python": {"ratio": 3.0}}}
            }
        },
        "task_scoring": {
            "geometric_mean_ratio_to_theirs": 0.7,
            "geometric_mean_floor_to_theirs": 0.4,
            "tasks": {
                "perplexity": {"ratio_to_theirs": 1.1, "floor_to_theirs": 1.0},
                "trec": {"ratio_to_before": 0.2},
            },
        },
    }  # fmt: skip
    for name, content in files.items():
        (result_folder / f"{name}.json").write_text(json.dumps(about | content))
    (result_folder / "against_llm_compressor.json").write_text(json.dumps({"110M wanda": PEER}))
    found = costs.ratio_results().set_index("what")
    assert set(found["machine"]) == {"abacus"}
    assert found[["ratio", "aim", "floor"]].fillna(-1).to_dict("tight")["data"] == [
        [0.7, 0.58, 0.5], [0.75, 0.8, 0.625], [0.9, -1, -1], [0.9, -1, -1], [0.4, 0.45, 0.3], [0.2, 1 / 3, -1],
        [2.2, 2.5, -1], [1.1, 1.5, -1], [0.4, 0.45, -1], [0.9, 0.8, -1], [0.7, 0.6, 0.4], [1.1, 0.9, 1.0],
        [0.2, 0.25, -1], [0.15, 0.2, -1], [0.8, 1.0, -1], [3.0, -1, -1],
    ]  # fmt: skip
    assert [found.index[place] for place in (0, 1, 4, 5, 7, 13, 14)] == [
        "wanda / llm-compressor, 110M", "peak memory of wanda / llm-compressor, 110M",
        "prune_grid / separate calls, owl, in sequence, 2 M parameters",
        "prune_grid / separate calls, owl, by the dense model, 2 M parameters",
        "peak memory of wanda+ls / sparsegpt, 110M", "multilevel model / lme4: InstEval, 73,421 rows",
        "multilevel model / mixedlm: cake, 270 rows",
    ]  # fmt: skip
    missed = costs.missed_aims(costs.ratio_results())
    assert missed["ratio"].tolist() == [0.7, 0.9, 0.7, 1.1]
    axis = costs.aim_points(costs.ratio_results(), title="t").axes[0]
    assert len(axis.get_yticks()) == 13 == sum(len(line.get_xdata()) for line in axis.lines[:2])
    assert axis.lines[1].get_xdata().tolist() == missed["ratio"].tolist()[::-1]


def test_forecasts(result_folder: Path) -> None:
    measured = {"seconds": {"measured": 2.0, "ratio": 1.1}, "megabytes": {"measured": 100.0, "ratio": 0.9}}
    found = {"date": "2030-01-02", "processor": "abacus", "cases": [{"size": "6 M", "method": "wanda", **measured}]}
    (result_folder / "forecast_against_measured.json").write_text(json.dumps(found))
    (row,) = costs.forecast_results().to_dict("records")
    assert row == {
        "model": "6 M", "method": "wanda", "seconds": 2.0, "megabytes": 100.0, "seconds_ratio": 1.1,
        "megabytes_ratio": 0.9, "date": "2030-01-02", "machine": "abacus",
    }  # fmt: skip


def test_kernels_that_failed_are_left_out(result_folder: Path) -> None:
    ran = {"out": 8, "in": 8, "n": 1, "backend": "cutlass", "dense_ms": 2.0, "sparse_ms": 1.0, "ratio": 0.5}
    found = {"accelerator": "chip", "date": "2030-01-02", "kernels": [ran, {"backend": "cusparselt", "failed": "no"}]}
    (result_folder / "gpu_pruning.json").write_text(json.dumps(found))
    (row,) = costs.kernel_results().to_dict("records")
    assert row == {**ran, "machine": "chip", "date": "2030-01-02"}


def test_stored_results_can_be_read() -> None:
    """Those that came with the collection."""
    for entry in costs.peer_results().to_dict("records"):
        assert 0 < entry["masks_equal"] <= 1 and entry["machine"] and entry["date"]
        assert entry["ratio"] == pytest.approx(entry["ours_seconds"] / entry["theirs_seconds"], rel=0.2)
    for row in costs.streaming_results().to_dict("records"):
        assert row["bit_equal"] is not False and row["peak_megabytes"] > 0


def test_figures() -> None:
    parts = [("one pass", 0.0), ("wanda", 0.5), ("sparsegpt", 0.5)]
    rows = pd.DataFrame(
        [
            {"model": "m", "parameters": size, "method": method, "sparsity": sparsity, "repeat": repeat,
             **Cost(1.0, 1.0 + repeat, 10.0)._asdict()}
            for size in (100, 1000) for method, sparsity in parts for repeat in range(3)
        ]
    )  # fmt: skip
    curves = costs.cost_curves(rows[rows["parameters"] == 100], title="t")
    assert [axis.get_xlabel() for axis in curves.axes] == ["sparsity (share of zeros)"] * 2
    assert costs.size_curves(rows, title="t").axes[0].get_xscale() == "log"
    peers = pd.DataFrame([{"model": "15M", "method": "wanda", "ratio": 0.7, "ours_megabytes": 1.0,
                           "theirs_megabytes": 2.0, "aim": 0.6, "memory_aim": 0.8}])  # fmt: skip
    bars = costs.peer_bars(peers, title="t").axes
    assert [axis.patches[0].get_width() for axis in bars] == [0.7, 0.5]
    times = costs.sparse_product_times([0.5], width=32, n_tokens=2, repeats=1)
    assert len(costs.sparse_product_curves(times, title="t").axes) == 2
    kernels = pd.DataFrame([{"out": 8, "in": 8, "n": n, "backend": "cutlass", "dense_ms": 2.0, "sparse_ms": 1.0,
                             "ratio": 0.5} for n in (1, 64)])  # fmt: skip
    assert costs.kernel_curves(kernels, title="t").axes[0].lines[0].get_ydata().tolist() == [0.5, 0.5]
    losses = pd.DataFrame({"arm": ["pruned", "tuned"] * 4, "item": [0, 0, 1, 1, 2, 2, 3, 3], "draw": 0, "unit": "nats",
                           "added": [0.2, 0.1, 0.4, 0.2, 0.3, 0.1, 0.5, 0.3]})  # fmt: skip
    assert [text.get_text() for text in costs.added_loss_strips(losses, title="t").axes[0].get_yticklabels()] == [
        "pruned", "tuned",
    ]  # fmt: skip


def test_forecast_points_show_the_fastest_repeat() -> None:
    columns = ["method", "sparsity", "wall", "forecast_seconds", "peak_megabytes", "forecast_megabytes"]
    measured = [
        ("one pass", 0.0, 1.0, None, 1.0, None),
        ("wanda", 0.5, 3.0, 2.5, 10.0, 25.0),
        ("wanda", 0.5, 2.0, 2.5, 30.0, 25.0),
    ]
    rows = pd.DataFrame(measured, columns=columns).assign(model="m")
    seconds, megabytes = (axis.lines[0].get_xydata().tolist() for axis in costs.forecast_points(rows, title="t").axes)
    assert seconds == [[2.5, 2.0]] and megabytes == [[25.0, 20.0]]


def test_they_are_public() -> None:
    assert lab.costs.pruning_costs is costs.pruning_costs and lab.core.measure_cost is measure_cost


def test_a_model_that_cannot_be_forecast_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise LookupError("its cost cannot be told before")

    monkeypatch.setattr("labutils.costs.prunings.forecast", refuse)
    tokens = torch.randint(0, 64, (2, 8))
    model = costs.random_llama(32, blocks=1, vocabulary=64)
    rows = costs.pruning_costs(model, tokens, methods=["wanda"], sparsities=[0.5], repeats=1)
    pruned = rows[rows["method"] == "wanda"]
    assert pruned["forecast_seconds"].isna().all() and (pruned["processor"] > 0).all()
