"""The sweep of a recovery study: arms × sparsities × draws of one model, item by item, as tidy rows.

A draw has its own calibration sequences, its own training sequences and its own order of them; all arms of a draw share
them, and every training stage sees the same number of tokens. Finished arms are kept, so that a killed sweep goes on
where it was and gives the same rows. Draws go through joblib, as in `labutils.sweeps`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import delayed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.code import hash_code
from labutils.core.files import hash_json
from labutils.core.progress import progress
from labutils.core.provenance import find_versions, hash_tensors, hash_tokenizer
from labutils.core.separate_tasks import separate_tasks
from labutils.models.loading import load_model, model_name
from labutils.models.structure import find_blocks
from labutils.pruning.requests import has_own_registrations, with_registrations
from labutils.recovery.draws import Bench, Draw, Pools, Recipe, RecoverySizes, Way
from labutils.recovery.readings import Reading, read_model
from labutils.recovery.removal import count_blocks, find_feed_forward
from labutils.recovery.stages import OWN, TEXT, Stage, parse_arm, way_of
from labutils.runner.finished_runs import FinishedRuns

FORMAT = 2  # raise it when the same key comes to give other rows
CODE, TOLD = "labutils.recovery.study", ("labutils.pruning.forecast", "labutils.core.progress", "labutils.runner")


def recovery_sweep(
    source: str,
    *,
    arms: Sequence[str],
    sparsities: Sequence[float],
    draws: Sequence[int],
    text: str,
    readings: Sequence[Reading],
    recipes: Mapping[Way, Recipe],
    sizes: RecoverySizes = RecoverySizes(),  # noqa: B008 (frozen)
    pools: Pools | None = None,
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Carry out every arm at every sparsity in every draw, and read the result.

    >>> rows = recovery_sweep("lab-llama", arms=["wanda", "wanda → lora"], sparsities=[0.7], draws=range(2),
    ...     text="lab:review", readings=readings, recipes={("wanda → lora", 0.7): Recipe(1e-3)})

    Args:
        source: a model as for `load_model`.
        arms: see `labutils.recovery.stages`. One that prunes nothing has the sparsity 0.
        text: what calibrates and trains where an arm names no other data; its train split.
        recipes: how every arm that trains is trained, by the arm without its data and the sparsity; see `try_rates`.
        pools: further data that arms may name: its sequences in every draw, by the draw's number.
        loaded: what `load_model` gave for `source`, where it is at hand.
        folder: where finished arms are kept; None keeps nothing, and neither do scores and methods of one's own.

    Returns:
        a row per arm, sparsity, draw, evaluation and item: ``model, architecture, calibration, evaluation, arm, method,
        sparsity, draw, item, loss, unit, seconds, wall_seconds, trained, tokens``. `seconds` is processor time of
        everything that the arm did to the model, `wall_seconds` what one waited for it, `trained` a number of
        parameters, `tokens` what it trained on. The dense model is the method "dense", with sparsity 0 and draw −1.

    Raises:
        ValueError, LookupError: an arm or a recipe that is missing, or blocks and neurons that the model does not have,
            before anything is computed; and as the stages do.
        Diverged: a training at a rate that is too high.
    """
    draws = list(draws)
    if isinstance(arms, str) or not arms or not draws or not sparsities:
        raise ValueError(f"a sweep needs lists of arms, sparsities and draws, not {arms!r}, {sparsities!r}, {draws!r}")
    jobs = [(arm, sparsity) for arm in arms for sparsity in (sparsities if prunes(arm) else [0.0])]
    pools = pools or {}
    _check_arms(jobs, recipes, pools, draws)
    model, tokenizer = loaded or load_model(source)
    _check_removals(jobs, model)
    bench = Bench(model, tokenizer, readings, text, sizes, recipes, pools)
    finished = finished_arms(folder)
    common = common_key(bench)
    about = {"model": model_name(source), "architecture": model.config.model_type, "calibration": text}
    key = {**common, "arm": "dense"}
    if not finished.has_frames(key):
        dense = read_model(model, tokenizer, readings)
        finished.write_frames(key, {"rows": dense})
    else:
        dense = finished.read_frames(key)["rows"]
    named = {"arm": "dense", "method": "dense", "sparsity": 0.0, "draw": -1}
    named |= dict.fromkeys(("seconds", "wall_seconds"), 0.0) | dict.fromkeys(("trained", "tokens"), 0)
    one_draw = with_registrations(_one_draw)
    run = separate_tasks()(delayed(one_draw)(bench, jobs, draw, finished, common) for draw in draws)
    frames = progress(run, total=len(draws), description=f"recoveries of {about['model']}", unit="draw")
    return pd.concat([dense.assign(**named), *frames], ignore_index=True).assign(**about)


def finished_arms(folder: Path | None) -> FinishedRuns:
    """Where finished arms are kept; nowhere with scores and methods of one's own, whose code no key holds."""
    return FinishedRuns(None if has_own_registrations() else folder, FORMAT)


def prunes(arm: str) -> bool:
    """Whether an arm has a sparsity.

    >>> prunes("wanda → lora"), prunes("lora")
    (True, False)
    """
    return any(stage.prunes for stage in parse_arm(arm))


def _check_arms(
    jobs: Sequence[tuple[str, float]], recipes: Mapping[Way, Recipe], pools: Pools, draws: Sequence[int]
) -> None:
    for arm, sparsity in jobs:
        stages = parse_arm(arm)
        if any(stage.trains for stage in stages) and (way_of(arm), sparsity) not in recipes:
            known = ", ".join(f"{way} at {share:g}" for way, share in recipes) or "none"
            raise LookupError(f"arm {arm!r}: no learning rate at sparsity {sparsity:g}; there are {known}.")
        for stage in stages:
            if stage.data not in (TEXT, OWN, *pools):
                raise LookupError(f"arm {arm!r}: no pool {stage.data!r}; there are {', '.join([TEXT, OWN, *pools])}.")
            if stage.data in pools and len(pools[stage.data]) <= max(draws):
                raise ValueError(
                    f"pool {stage.data!r} has {len(pools[stage.data])} draws, draw {max(draws)} is wanted."
                )


def _check_removals(jobs: Sequence[tuple[str, float]], model: PreTrainedModel) -> None:
    for arm, sparsity in jobs:
        names = [stage.name for stage in parse_arm(arm)]
        if "blocks" in names:
            count_blocks(model, sparsity)
        if "neurons" in names:
            for block in find_blocks(model)[1]:
                find_feed_forward(block)


def model_key(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, readings: Sequence[Reading], code: str
) -> dict[str, Any]:
    """What rows of a model depend on beside what was done to it; `code` is the module that makes them."""
    return {
        "weights": hash_tensors(model.state_dict()),
        "config": hash_json(model.config.to_json_string()),
        "tokenizer": hash_tokenizer(tokenizer),
        "readings": hash_json([reading.fingerprint() for reading in readings]),
        "code": hash_code(code, without=TOLD),
        "versions": find_versions("torch", "transformers", "peft"),
        "device": str(model.device.type),
        "threads": torch.get_num_threads(),
    }


def common_key(bench: Bench) -> dict[str, Any]:
    """What all arms of a sweep depend on."""
    return model_key(bench.model, bench.tokenizer, bench.readings, CODE) | {"sizes": asdict(bench.sizes)}


def _one_draw(
    bench: Bench, jobs: list[tuple[str, float]], number: int, finished: FinishedRuns, common: dict
) -> pd.DataFrame:
    """All arms of one draw; each is read from what is kept, or carried out and kept.

    Arms that begin with the same pruning are carried out one after another, since only the last one is held.
    """
    draw, frames = Draw(bench, number), {}
    order = sorted(jobs, key=lambda job: (str(parse_arm(job[0])[0]), job[1]))
    for arm, sparsity in progress(order, total=len(order), description=f"draw {number}", unit="arm"):
        recipe = bench.recipes.get((way_of(arm), sparsity))
        rows = kept_arm(draw, finished, common, arm, sparsity, recipe)
        named = {"arm": arm, "method": _method(parse_arm(arm)), "sparsity": sparsity, "draw": number}
        frames[arm, sparsity] = rows.assign(**named)
    return pd.concat([frames[job] for job in jobs], ignore_index=True)


def kept_arm(
    draw: Draw, finished: FinishedRuns, common: dict, arm: str, sparsity: float, recipe: Recipe | None
) -> pd.DataFrame:
    """The rows of one arm, from what is kept, or carried out and kept."""
    stages = parse_arm(arm)
    key = {**common, "arm": arm, "sparsity": sparsity, "data": draw.data_key(stages), "draw": draw.number}
    key["recipe"] = asdict(recipe) if recipe and any(stage.trains for stage in stages) else None
    if not finished.has_frames(key):
        finished.write_frames(key, {"rows": (rows := draw.carry_out(stages, sparsity, recipe))})
        return rows
    return finished.read_frames(key)["rows"]


def _method(stages: list[Stage]) -> str:
    return next((stage.name for stage in stages if stage.prunes), "tuned")
