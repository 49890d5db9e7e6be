"""The ratios that the benchmarks found, as one table: what was measured, what is aimed at, and the floor where one is.

A floor is what no way of doing the same work on the same packages can do without, measured in the same run: a pass that
must be made, weights that must be held.
"""

from collections.abc import Iterator

import pandas as pd

from labutils.costs.results import NOT_SET, peer_results, read_benchmark

CROSSED_AIM, CHOICE_AIM, LABELS_AIM, PERPLEXITY_AIM, NEURONS_AIM = 0.20, 0.60, 0.25, 0.90, 0.80
SEARCH_AIM = 0.45
GRID_AIMS = {True: 0.45, False: 1 / 3}  # in sequence, or by the dense model
MANY_LABELS = ("ag_news", "trec")  # four and six
Ratio = tuple[str, float, float, float]  # what, the ratio, the aim, the floor


def ratio_results() -> pd.DataFrame:
    """What every benchmark compared: one row for each ratio.

    >>> ratio_results()[["what", "ratio", "aim", "floor"]]

    Columns: `what` is compared with what, `ratio` (of processor time, where `what` names nothing else), `aim` (NaN
    where none was set), `floor` (of the ratio; NaN where none was measured), `date`, `machine`.
    """
    rows = []
    for name, ratios in READERS.items():
        if found := read_benchmark(name):
            about = {"date": found["date"], "machine": found["processor"]}
            rows += [dict(zip(("what", "ratio", "aim", "floor"), one, strict=True)) | about for one in ratios(found)]
    return pd.DataFrame([*_of_peers(), *rows])


def missed_aims(ratios: pd.DataFrame) -> pd.DataFrame:
    """The rows whose ratio is above the aim.

    >>> missed_aims(ratio_results())[["what", "ratio", "aim"]]

    Args:
        ratios: rows of `ratio_results`.
    """
    return ratios[ratios["ratio"] > ratios["aim"]] if len(ratios) else ratios


def _of_peers() -> Iterator[dict[str, object]]:
    for row in peer_results().itertuples():
        about = {"date": row.date, "machine": row.machine}
        beside = f"llm-compressor, {row.model}"
        yield {"what": f"{row.method} / {beside}", "ratio": row.ratio, "aim": row.aim, "floor": row.floor, **about}
        yield {
            "what": f"peak memory of {row.method} / {beside}", "ratio": row.ours_megabytes / row.theirs_megabytes,
            "aim": row.memory_aim, "floor": row.floor_megabytes / row.theirs_megabytes, **about,
        }  # fmt: skip


def _of_forward(found: dict) -> Iterator[Ratio]:
    for method, clocks in found["median_over_pairs"].items():
        yield f"{method} / two bare forward passes", clocks["processor"]["ratio"], NOT_SET, NOT_SET


def _of_grid(found: dict) -> Iterator[Ratio]:
    for case in found["cases"]:
        way = case["allocation"] + (", in sequence" if case["sequential"] else ", by the dense model")
        what = f"prune_grid / separate calls, {way}, {case['parameters'] / 1e6:.0f} M parameters"
        floor = case["floor"] if case["sequential"] else NOT_SET
        yield what, case["ratio"]["processor"], GRID_AIMS[case["sequential"]], floor


def _of_neurons(found: dict) -> Iterator[Ratio]:
    ratio = found["median_over_pairs"]["processor"]["ratio"]
    yield "all neurons × words / one forward pass", ratio, NEURONS_AIM, NOT_SET


def _of_statsmodels(found: dict) -> Iterator[Ratio]:
    yield "multilevel model / statsmodels", found["median_over_pairs"]["processor"]["ratio"], NOT_SET, NOT_SET


def _of_lme4(found: dict) -> Iterator[Ratio]:
    for model, case in found["median_over_pairs"].items():
        aim = CROSSED_AIM if "InstEval" in model else NOT_SET
        yield f"multilevel model / lme4: {model}, {case['rows']:,} rows", case["ratio"], aim, NOT_SET


def _of_python(found: dict) -> Iterator[Ratio]:
    for model, case in found["median_over_pairs"].items():
        for package, one in case["against"].items():
            what = f"multilevel model / {package}: {model}, {case['rows']:,} rows"
            yield what, one["ratio"], one.get("aim", NOT_SET), NOT_SET


def _of_scoring(found: dict) -> Iterator[Ratio]:
    tasks, peer = found["tasks"], "lm-evaluation-harness"
    floor = found.get("geometric_mean_floor_to_theirs", NOT_SET)
    passes = tasks["perplexity"].get("floor_to_theirs", NOT_SET)
    ratio = found["geometric_mean_ratio_to_theirs"]
    yield f"choice tasks, geometric mean of four / {peer}", ratio, CHOICE_AIM, floor
    yield f"perplexity / {peer}", tasks["perplexity"]["ratio_to_theirs"], PERPLEXITY_AIM, passes
    for name in MANY_LABELS:
        if name in tasks:
            what = f"task with many labels, {name} / the build before"
            yield what, tasks[name]["ratio_to_before"], LABELS_AIM, NOT_SET


def _of_reconstruction(found: dict) -> Iterator[Ratio]:
    for method, case in found["over_sparsegpt"].items():
        yield f"{method} / sparsegpt, 110M", case["ratio"], case["limit"], NOT_SET
        what = f"peak memory of {method} / sparsegpt, 110M"
        yield what, case["memory_ratio"], case["memory_limit"], NOT_SET


def _of_search(found: dict) -> Iterator[Ratio]:
    what = f"blocks run by the greedy search for {found['gone']} of {found['blocks']} blocks / every candidate in full"
    yield what, found["share_of_runs"], SEARCH_AIM, NOT_SET


READERS = {
    "prune_against_forward": _of_forward,
    "grid_against_calls": _of_grid,
    "reconstruction_cost": _of_reconstruction,
    "depth_search": _of_search,
    "neuron_words_against_forward": _of_neurons,
    "task_scoring": _of_scoring,
    "multilevel_against_statsmodels": _of_statsmodels,
    "multilevel_against_lme4": _of_lme4,
    "multilevel_against_python": _of_python,
}
