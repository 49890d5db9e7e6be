"""The benchmarks' own result files as tables: every figure with the machine and the date it was measured on."""

import json

import pandas as pd

from labutils.core import paths

RESULTS = paths.REPOSITORY / "benchmarks" / "results"
PEERS = "against_llm_compressor"
NO_AIM = float("nan")
CROSSED_AIM, CHOICE_AIM, LABELS_AIM, PERPLEXITY_AIM = 0.20, 0.60, 0.25, 0.90
MANY_LABELS = ("ag_news", "trec")  # four and six


def read_benchmark(name: str) -> dict | None:
    """What a benchmark wrote, or None where it has not been run in this copy of the collection.

    >>> read_benchmark("gpu_pruning")["accelerator"]
    """
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def peer_results() -> pd.DataFrame:
    """Pruning beside llm-compressor: one row per model size and method, empty where it was not measured.

    >>> peer_results()[["model", "method", "ratio", "aim"]]

    Columns: `model` (size), `method`, `ratio` (processor time, ours / theirs), `ours_seconds`, `theirs_seconds`,
    `ours_megabytes`, `theirs_megabytes` (peak of the whole process), `masks_equal` (share), `aim`, `repeats`, `date`,
    `machine`.
    """
    rows = []
    for entry in (read_benchmark(PEERS) or {}).values():
        if not entry["pairs"]:  # begun, and not timed yet
            continue
        seconds, memory = entry["seconds"]["processor"], entry["peak_megabytes"]
        rows.append(
            {
                "model": entry["size"], "method": entry["method"], "ratio": entry["processor_ratio"],
                "ours_seconds": seconds["ours"], "theirs_seconds": seconds["theirs"], "ours_megabytes": memory["ours"],
                "theirs_megabytes": memory["theirs"], "masks_equal": entry["masks_equal"], "aim": entry["aim"],
                "repeats": entry["repeats"], "date": entry["date"], "machine": entry["processor"],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def other_results() -> pd.DataFrame:
    """The ratios of the other benchmarks: one row for each that was run.

    >>> other_results()[["what", "ratio", "date"]]

    Columns: `what` is compared with what, `ratio` (processor time), `aim` (NaN where none was set), `date`, `machine`.
    """
    rows = []

    def add(name: str, what: str, ratio: float, aim: float = NO_AIM) -> None:
        found = read_benchmark(name)
        about = {"date": found["date"], "machine": found["processor"]}
        rows.append({"what": what, "ratio": ratio, "aim": aim, **about})

    if found := read_benchmark("prune_against_forward"):
        for method, clocks in found["median_over_pairs"].items():
            add("prune_against_forward", f"{method} / two bare forward passes", clocks["processor"]["ratio"])
    for case in (read_benchmark("grid_against_calls") or {"cases": []})["cases"]:
        way = case["allocation"] + (", in sequence" if case["sequential"] else ", by the dense model")
        what = f"prune_grid / separate calls, {way}, {case['parameters'] / 1e6:.0f} M parameters"
        add("grid_against_calls", what, case["ratio"]["processor"], 1 / 3)
    if found := read_benchmark("neuron_words_against_forward"):
        ratio = found["median_over_pairs"]["processor"]["ratio"]
        add("neuron_words_against_forward", "all neurons × words / one forward pass", ratio, 1.5)
    if found := read_benchmark("multilevel_against_statsmodels"):
        ratio = found["median_over_pairs"]["processor"]["ratio"]
        add("multilevel_against_statsmodels", "multilevel model / statsmodels", ratio)
    if found := read_benchmark("multilevel_against_lme4"):
        for model, case in found["median_over_pairs"].items():
            what = f"multilevel model / lme4: {model}, {case['rows']:,} rows"
            add("multilevel_against_lme4", what, case["ratio"], *([CROSSED_AIM] if "InstEval" in model else []))
    if found := read_benchmark("multilevel_against_python"):
        for model, case in found["median_over_pairs"].items():
            for package, one in case["against"].items():
                what = f"multilevel model / {package}: {model}, {case['rows']:,} rows"
                add("multilevel_against_python", what, one["ratio"], one.get("aim", float("nan")))
    if found := read_benchmark("task_scoring"):
        for what, ratio, aim in _scoring_ratios(found):
            add("task_scoring", what, ratio, aim)
    for method, case in (read_benchmark("reconstruction_cost") or {"over_sparsegpt": {}})["over_sparsegpt"].items():
        add("reconstruction_cost", f"{method} / sparsegpt, 110 M parameters", case["ratio"], case["limit"])
    return pd.DataFrame(rows)


def _scoring_ratios(found: dict) -> list[tuple[str, float, float]]:
    """What scoring of tasks is compared with, the ratio, and the aim."""
    tasks = found["tasks"]
    labels = [
        (f"task with many labels, {name} / the build before", tasks[name]["ratio_to_before"], LABELS_AIM)
        for name in MANY_LABELS
        if name in tasks
    ]
    peer = "lm-evaluation-harness"
    floor = f"what no scoring with this model can do without / {peer}"
    floors = [] if "floor_to_theirs" not in tasks["perplexity"] else [
        (f"{floor}, choice tasks", found["geometric_mean_floor_to_theirs"], NO_AIM),
        (f"{floor}, perplexity", tasks["perplexity"]["floor_to_theirs"], NO_AIM),
    ]  # fmt: skip
    return [
        (f"choice tasks, geometric mean of four / {peer}", found["geometric_mean_ratio_to_theirs"], CHOICE_AIM),
        (f"perplexity / {peer}", tasks["perplexity"]["ratio_to_theirs"], PERPLEXITY_AIM),
        *floors,
        *labels,
    ]


def forecast_results() -> pd.DataFrame:
    """Forecasts beside what was then measured, processes of their own: one row per size and method, empty without.

    >>> forecast_results()[["model", "method", "seconds_ratio", "megabytes_ratio"]]

    Columns: `model` (size), `method`, `seconds` and `megabytes` (measured), `seconds_ratio` and `megabytes_ratio`
    (forecast / measured), `date`, `machine`.
    """
    if (found := read_benchmark("forecast_against_measured")) is None:
        return pd.DataFrame()
    about = {"date": found["date"], "machine": found["processor"]}
    kinds = ("seconds", "megabytes")
    return pd.DataFrame(
        [
            {
                "model": case["size"], "method": case["method"],
                **{kind: case[kind]["measured"] for kind in kinds},
                **{f"{kind}_ratio": case[kind]["ratio"] for kind in kinds}, **about,
            }
            for case in found["cases"]
        ]
    )  # fmt: skip


def streaming_results() -> pd.DataFrame:
    """Pruning from disk to disk and in memory: one row each, empty where it was not measured.

    >>> streaming_results()[["way", "peak_megabytes", "seconds"]]

    The seconds of a run that was stopped and gone on with are NaN.
    """
    if (found := read_benchmark("streaming_memory")) is None:
        return pd.DataFrame()
    about = {
        "file_megabytes": found["file_megabytes"], "bit_equal": found["bit_equal"], "date": found["date"],
        "machine": found["processor"],
    }  # fmt: skip
    ways = {"from disk to disk": found["disk"], "in memory": found.get("memory")}
    return pd.DataFrame(
        [
            {
                "way": way,
                "peak_megabytes": cost["peak_megabytes"],
                "seconds": float("nan") if cost["resumed"] else cost["processor"],
                **about,
            }
            for way, cost in ways.items()
            if cost is not None
        ]
    )


def kernel_results() -> pd.DataFrame:
    """2:4 kernels beside dense products on a GPU: one row per shape and backend that ran, empty where none did.

    >>> kernel_results()[["out", "in", "n", "ratio"]]

    Columns: `out, in, n` (tokens), `backend, dense_ms, sparse_ms, ratio, relative_difference`, `machine`, `date`.
    """
    found = read_benchmark("gpu_pruning") or {}
    ran = [row for row in found.get("kernels", []) if "failed" not in row]
    return pd.DataFrame([{**row, "machine": found.get("accelerator"), "date": found["date"]} for row in ran])
