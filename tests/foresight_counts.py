"""What a run has kept beside what was foreseen: prunings, tables, steps of training."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from foresight_meter import count_study

from labutils.core.files import hash_json
from labutils.foresight.costing import FILE_BYTES, dense_key, sweep_keys
from labutils.foresight.loss_notebooks import loss_sweeps
from labutils.foresight.plans import plan_work
from labutils.foresight.work import Work, model_of
from labutils.runner.planning import Study
from labutils.yardsticks.damage import parse_arm as parse_damage


def kept_prunings(run: Path) -> Counter:
    """How many prunings of each request lie in a run's folder, of a calibration and of none; None: the dense model."""
    keys = [json.loads(path.read_text())["key"] for path in (run / "prunings" / "runs").glob("*.json")]
    return Counter(
        (hash_json(key["request"]) if key["request"] else None, bool(key.get("calibration"))) for key in keys
    )


def foreseen_prunings(studies: Iterable[Study]) -> Counter:
    """The same of the prunings that are foreseen, each once for all studies."""
    keys = set()
    for work in (work for study in studies for work in _works(study)):
        for sweep in filter(lambda sweep: sweep.kept, work.sweeps):
            keys |= {dense_key(work.model, sweep)}
            keys |= {key for draw in sweep.draws for key, _ in sweep_keys(work.model, sweep, draw)}
    return Counter((request, draw is not None) for _, _, request, draw in keys)


def _works(study: Study) -> tuple[Work, ...]:
    if study.stem != "11_cost":
        return plan_work(study.stem, study.parameters).works
    # It is not forecast, since it measures time, but leaves the prunings of a sweep in either way.
    p, grid = study.parameters, ("methods", "sparsities", "n_calibration")
    ways = [loss_sweeps(p, [p["source"]], *(p[name] for name in grid), sequential=way) for way in (True, False)]
    return (Work(model_of(p), tuple(sum(ways, []))),)


def check_counts(run: Path, studies: Iterable[Study]) -> None:
    """Tables that notebooks 09, 13, 13b and 14 of a run have kept are as many as were foreseen, and what they tell."""
    checks = {"09_what_perplexity_hides": _yardsticks, "13_smaller_for_real": _smaller,
              "13b_experts_and_paths": _experts, "14_what_heals": _healing}  # fmt: skip
    for study in studies:
        if study.stem in checks:
            found, foreseen = checks[study.stem](run, study), count_study(study)
            told = {name: getattr(foreseen, name) for name in found}
            assert told == found, (study.stem, told, found)


def _keys(run: Path, folder: str) -> dict[Path, dict]:
    return {path: json.loads(path.read_text())["key"] for path in (run / folder / "runs").glob("*.json")}


def _yardsticks(run: Path, study: Study) -> dict[str, int]:
    """Every arm that was read, and the dense models."""
    arms = [key["arm"] for key in _keys(run, "yardsticks").values() if "arm" in key]
    prunings = sum(step.prunes for arm in arms for step in parse_damage(arm))
    n_models = len(study.parameters["models"]) * max(1, study.parameters["n_copies"])
    return {"evaluations": len(arms) + n_models, "prunings": prunings}


def _smaller(run: Path, study: Study) -> dict[str, int]:
    """Every smaller model, those that are timed included; each model with each block skipped, by each yardstick."""
    p, keys = study.parameters, _keys(run, "smaller")
    made = sum("sweep" in key or "answers" in key for key in keys.values())
    profiles = [path.with_suffix("") / "rows.parquet" for path, key in keys.items() if "yardstick" in key]
    skipped = sum(1 + pd.read_parquet(path)["block"].nunique() for path in profiles)
    dense = len(p["models"]) * (2 + len(p["question_tasks"]))
    timed = 2 * len(p["n_blocks"]) * len(p["models"])
    return {"evaluations": made + skipped + dense, "prunings": made + timed}


def _experts(run: Path, study: Study) -> dict[str, int]:
    """Every arm of a mixture at all sparsities, every path, every model with fewer blocks; and the dense models."""
    keys = _keys(run, "smaller").values()
    arms, paths = [key for key in keys if "mixture" in key], [key["paths"] for key in keys if "routes" in key]
    ways = [key["way"] for key in keys if "way" in key]
    pruned, choices = sum(len(key["sparsities"]) for key in arms), sum("gone" in key["mixture"] for key in arms)
    read = pruned + len(study.parameters["mixtures"]) + sum(1 + len(each) for each in paths) + len(ways)
    return {"evaluations": read, "prunings": pruned + choices + sum(way != "dense" for way in ways),
            "disk": len([*arms, *paths, *ways]) * FILE_BYTES}  # fmt: skip


def _healing(run: Path, study: Study) -> dict[str, int]:
    """Steps of all arms, and of the small model that scores data."""
    p, steps = study.parameters, 0
    for path, key in _keys(run, "recoveries").items():
        if "arm" in key:
            tokens = pd.read_parquet(path.with_suffix("") / "rows.parquet").get("tokens", pd.Series([0]))
            steps += 0 if "reestimate" in key["arm"] else int(tokens.iloc[0]) // (8 * p["seq_len"])
    return {"steps": steps + p["small_tokens"] // 2048 if p["pool"] and p["reference"] else steps}


def kept_arms(run: Path) -> int:
    """Tables of arms of notebook 14, dense models included, and of masks."""
    return len(_keys(run, "recoveries"))


def foreseen_arms(study: Study) -> int:
    return sum(work.files for work in plan_work(study.stem, study.parameters).works)
