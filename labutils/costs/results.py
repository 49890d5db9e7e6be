"""The benchmarks' own result files as tables: every figure with the machine and the date it was measured on."""

import json

import pandas as pd

from labutils.core import paths

RESULTS = paths.REPOSITORY / "benchmarks" / "results"
PEERS = "against_llm_compressor"
PEER_AIMS = {("110M", "wanda"): 0.58, ("110M", "sparsegpt"): 0.45}  # of its processor time
MEMORY_AIM = 0.80  # of its peak memory, for the same
NOT_SET = float("nan")


def read_benchmark(name: str) -> dict | None:
    """What a benchmark wrote, or None where it has not been run in this copy of the collection.

    >>> read_benchmark("gpu_pruning")["accelerator"]
    """
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def peer_results() -> pd.DataFrame:
    """Pruning beside llm-compressor: one row per model size and method, empty where it was not measured.

    >>> peer_results()[["model", "method", "ratio", "aim"]]

    Columns: `model` (size), `method`, `ratio` (processor time, ours / theirs), `floor` (of that ratio: the passes, with
    the sums that scores are made of), `ours_seconds`, `theirs_seconds`, `ours_megabytes`, `theirs_megabytes` (peak of
    the whole process), `floor_megabytes` (our packages and one copy of the weights), `masks_equal` (share), `aim` and
    `memory_aim` (of the two ratios; NaN where none was set), `repeats`, `date`, `machine`.
    """
    rows = []
    for entry in (read_benchmark(PEERS) or {}).values():
        if not entry["pairs"]:  # begun, and not timed yet
            continue
        key = entry["size"], entry["method"]
        seconds, memory = entry["seconds"]["processor"], entry["peak_megabytes"]
        rows.append(
            {
                "model": entry["size"], "method": entry["method"], "ratio": entry["processor_ratio"],
                "floor": entry.get("processor_floor", NOT_SET),
                "ours_seconds": seconds["ours"], "theirs_seconds": seconds["theirs"], "ours_megabytes": memory["ours"],
                "theirs_megabytes": memory["theirs"], "floor_megabytes": entry.get("floor_megabytes", NOT_SET),
                "masks_equal": entry["masks_equal"], "aim": PEER_AIMS.get(key, NOT_SET),
                "memory_aim": MEMORY_AIM if key in PEER_AIMS else NOT_SET,
                "repeats": entry["repeats"], "date": entry["date"], "machine": entry["processor"],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


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
