"""The sweep of a recovery study: arms × sparsities × draws of one model, item by item, as tidy rows.

A draw has its own calibration sequences, its own training sequences and its own order of them; all arms of a draw share
them, and every training stage sees the same number of tokens. Finished arms are kept, so that a killed sweep goes on
where it was and gives the same rows. Draws go through joblib, as in `labutils.sweeps`.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int64
from joblib import delayed
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.code import hash_code
from labutils.core.files import hash_json
from labutils.core.progress import progress
from labutils.core.provenance import find_versions, hash_tensors, hash_tokenizer
from labutils.core.separate_tasks import separate_tasks
from labutils.data.corpora import load_tokens
from labutils.models.loading import load_model, model_name
from labutils.models.structure import find_blocks
from labutils.pruning.pipeline import prune
from labutils.pruning.requests import has_own_registrations, with_registrations
from labutils.recovery.gradual import prune_while_tuning
from labutils.recovery.own_text import own_continuations
from labutils.recovery.penalised import tune_with_penalty
from labutils.recovery.places import assert_kept, kept_places
from labutils.recovery.readings import Reading, read_model
from labutils.recovery.recovering import Recovered, recover
from labutils.recovery.reestimating import reestimate
from labutils.recovery.removal import Neurons, choose_blocks, choose_neurons, silence_blocks, silence_neurons
from labutils.recovery.stages import GRADUAL, OWN, TEXT, Stage, parse_arm
from labutils.runner.finished_runs import FinishedRuns

FORMAT = 1  # raise it when the same key comes to give other rows
TRAINING_SEEDS = 1_000_000  # what is trained on is drawn by seeds from here on, apart from what calibrates
CODE, TOLD = ("labutils.recovery.study",), ("labutils.pruning.forecast", "labutils.core.progress", "labutils.runner")
Pools = Mapping[str, Sequence[Tensor]]  # name → the sequences of every draw


@dataclass(frozen=True)
class RecoverySizes:
    """How much a recovery gets.

    Attributes:
        n_calibration: sequences that pruning reads, and re-estimation.
        n_training: sequences that training draws its batches from.
        strength: of the penalty of "penalty" stages.
        prompt_len: tokens of a training sequence that the dense model continues, for the data "own".
    """

    n_calibration: int = 24
    n_training: int = 256
    seq_len: int = 128
    steps: int = 100
    batch_size: int = 8
    rank: int = 8
    strength: float = 1e-3
    prompt_len: int = 32


@dataclass
class Bench:
    """A dense model and what its arms are read on; `rates` gives the learning rate of a stage without its data."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    readings: Sequence[Reading]
    text: str
    sizes: RecoverySizes
    rates: Mapping[str, float]
    pools: Pools = field(default_factory=dict)


def recovery_sweep(
    source: str,
    *,
    arms: Sequence[str],
    sparsities: Sequence[float],
    draws: Sequence[int],
    text: str,
    readings: Sequence[Reading],
    rates: Mapping[str, float],
    sizes: RecoverySizes = RecoverySizes(),  # noqa: B008 (frozen)
    pools: Pools | None = None,
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Carry out every arm at every sparsity in every draw, and read the result.

    >>> rows = recovery_sweep("lab-llama", arms=["wanda", "wanda → lora"], sparsities=[0.7], draws=range(2),
    ...     text="lab:review", readings=readings, rates={"lora": 1e-3})

    Args:
        source: a model as for `load_model`.
        arms: see `labutils.recovery.stages`. One that prunes nothing has the sparsity 0.
        text: what calibrates and trains where an arm names no other data; its train split.
        rates: learning rates, by the training stage without its data ("lora", "all/logits").
        pools: further data that arms may name: its sequences in every draw, by the draw's number.
        loaded: what `load_model` gave for `source`, where it is at hand.
        folder: where finished arms are kept; None keeps nothing, and neither do scores and methods of one's own.

    Returns:
        a row per arm, sparsity, draw, evaluation and item: ``model, architecture, calibration, evaluation, arm, method,
        sparsity, draw, item, loss, unit, seconds, trained, tokens``. `seconds` is processor time of everything that the
        arm did to the model, `trained` a number of parameters, `tokens` what it trained on. The dense model is the
        method "dense", with sparsity 0 and draw −1.

    Raises:
        ValueError, LookupError: an arm or a rate that is missing, before anything is computed; and as the stages do.
    """
    draws = list(draws)
    if isinstance(arms, str) or not arms or not draws or not sparsities:
        raise ValueError(f"a sweep needs lists of arms, sparsities and draws, not {arms!r}, {sparsities!r}, {draws!r}")
    pools = pools or {}
    _check_arms(arms, rates, pools, draws)
    model, tokenizer = loaded or load_model(source)
    bench = Bench(model, tokenizer, readings, text, sizes, rates, pools)
    finished = FinishedRuns(None if has_own_registrations() else folder, FORMAT)
    common = _common_key(bench)
    about = {"model": model_name(source), "architecture": model.config.model_type, "calibration": text}
    key = {**common, "arm": "dense"}
    if not finished.has_frames(key):
        dense = read_model(model, tokenizer, readings)
        finished.write_frames(key, {"rows": dense})
    else:
        dense = finished.read_frames(key)["rows"]
    named = {"arm": "dense", "method": "dense", "sparsity": 0.0, "draw": -1, "seconds": 0.0, "trained": 0, "tokens": 0}
    one_draw = with_registrations(_one_draw)
    run = separate_tasks()(
        delayed(one_draw)(bench, list(arms), list(sparsities), draw, finished, common) for draw in draws
    )
    frames = progress(run, total=len(draws), description=f"recoveries of {about['model']}", unit="draw")
    return pd.concat([dense.assign(**named), *frames], ignore_index=True).assign(**about)


def _check_arms(arms: Sequence[str], rates: Mapping[str, float], pools: Pools, draws: Sequence[int]) -> None:
    for arm in arms:
        for stage in parse_arm(arm):
            if stage.rated and stage.rated not in rates:
                raise LookupError(f"arm {arm!r}: no learning rate for {stage.rated!r}; rates has {', '.join(rates)}.")
            if stage.data not in (TEXT, OWN, *pools):
                raise LookupError(f"arm {arm!r}: no pool {stage.data!r}; there are {', '.join([TEXT, OWN, *pools])}.")
            if stage.data in pools and len(pools[stage.data]) <= max(draws):
                raise ValueError(
                    f"pool {stage.data!r} has {len(pools[stage.data])} draws, draw {max(draws)} is wanted."
                )


def _common_key(bench: Bench) -> dict[str, object]:
    return {
        "weights": hash_tensors(bench.model.state_dict()),
        "config": hash_json(bench.model.config.to_json_string()),
        "tokenizer": hash_tokenizer(bench.tokenizer),
        "readings": hash_json([reading.fingerprint() for reading in bench.readings]),
        "sizes": asdict(bench.sizes),
        "code": hash_code(*CODE, without=TOLD),
        "versions": find_versions("torch", "transformers", "peft"),
        "device": str(bench.model.device.type),
        "threads": torch.get_num_threads(),
    }


def _one_draw(
    bench: Bench, arms: list[str], sparsities: list[float], draw: int, finished: FinishedRuns, common: dict
) -> pd.DataFrame:
    """All arms of one draw; each is read from what is kept, or carried out and kept."""
    made = _Draw(bench, draw)
    jobs = [(arm, sparsity) for arm in arms for sparsity in (sparsities if _prunes(arm) else [0.0])]
    frames = []
    for arm, sparsity in progress(jobs, total=len(jobs), description=f"draw {draw}", unit="arm"):
        stages = parse_arm(arm)
        key = {**common, "arm": arm, "sparsity": sparsity, "data": made.data_key(stages), "draw": draw}
        key["rates"] = {stage.rated: bench.rates[stage.rated] for stage in stages if stage.rated}
        if not finished.has_frames(key):
            finished.write_frames(key, {"rows": (rows := made.carry_out(stages, sparsity))})
        else:
            rows = finished.read_frames(key)["rows"]
        frames.append(rows.assign(arm=arm, method=_method(stages), sparsity=sparsity, draw=draw))
    return pd.concat(frames, ignore_index=True)


def _prunes(arm: str) -> bool:
    return any(stage.prunes for stage in parse_arm(arm))


def _method(stages: list[Stage]) -> str:
    return next((stage.name for stage in stages if stage.prunes), "tuned")


class _Draw:
    """The sequences of one draw, and arms carried out on them; a first pruning that several arms share is kept."""

    def __init__(self, bench: Bench, draw: int) -> None:
        self.bench, self.draw = bench, draw
        self.texts: dict[tuple[str, bool], tuple[Tensor, float]] = {}
        self.pruned: dict[tuple[Stage, float], tuple[dict[str, Tensor], float]] = {}

    def sequences(self, data: str, *, training: bool) -> tuple[Int64[Tensor, "n seq_len"], float]:
        """Sequences to train or calibrate on, and the seconds that it took to write them."""
        if (data, training) not in self.texts:
            self.texts[data, training] = self._load(data, training)
        return self.texts[data, training]

    def _load(self, data: str, training: bool) -> tuple[Tensor, float]:
        sizes = self.bench.sizes
        if data in self.bench.pools:
            found = self.bench.pools[data][self.draw]
            return (found, 0.0) if training else (found[: sizes.n_calibration], 0.0)
        count, seed = (sizes.n_training, TRAINING_SEEDS + self.draw) if training else (sizes.n_calibration, self.draw)
        tokens = load_tokens(self.bench.text, self.bench.tokenizer, n_sequences=count, seq_len=sizes.seq_len, seed=seed)
        if data == TEXT:
            return tokens, 0.0
        started, prompts = time.process_time(), tokens[:, : sizes.prompt_len]
        written = own_continuations(self.bench.model, prompts, seq_len=sizes.seq_len, seed=self.draw)
        return written, time.process_time() - started

    def data_key(self, stages: list[Stage]) -> dict[str, str]:
        """Hashes of what the stages read; of own continuations, of the text whose beginnings are continued."""
        found = {}
        for stage in stages:
            for training in (False, True):
                data = TEXT if stage.data == OWN else stage.data
                tokens, _ = self.sequences(data, training=training)
                found[f"{stage.data} {training}"] = hash_tensors({"tokens": tokens})
        return found

    def carry_out(self, stages: list[Stage], sparsity: float) -> pd.DataFrame:
        """The rows of one arm."""
        bench = self.bench
        model, neurons, kept = copy.deepcopy(bench.model), {}, {}
        seconds, trained, tokens = 0.0, 0, 0
        for number, stage in enumerate(stages):
            if stage.prunes and stage.kind != "gradual":
                seconds += self._prune(model, stage, sparsity, neurons, first=number == 0)
            else:
                if stage.kind == "penalty":
                    neurons = choose_neurons(model, self.sequences(stage.data, training=False)[0], sparsity)
                done, extra = self._train(model, stage, sparsity, neurons)
                seconds, trained, tokens = seconds + done.seconds + extra, done.trained_parameters, tokens + done.tokens
            assert_kept(model, kept)
            if stage.prunes:
                kept = kept_places(model, bench.model)
        rows = read_model(model, bench.tokenizer, bench.readings)
        return rows.assign(seconds=seconds, trained=trained, tokens=tokens)

    def _prune(self, model: PreTrainedModel, stage: Stage, sparsity: float, neurons: Neurons, *, first: bool) -> float:
        if first and (stage, sparsity) in self.pruned:
            state, seconds = self.pruned[stage, sparsity]
            model.load_state_dict(state)
            return seconds
        calibration, extra = self.sequences(stage.data, training=False)
        started = time.process_time()
        if stage.name == "neurons":
            silence_neurons(model, neurons or choose_neurons(model, calibration, sparsity))
        elif stage.name == "blocks":
            count = max(1, round(sparsity * len(find_blocks(model)[1])))
            silence_blocks(model, choose_blocks(model, calibration, count))
        else:
            prune(model, calibration, method=stage.name, sparsity=sparsity)
        seconds = time.process_time() - started + extra
        if first:
            self.pruned[stage, sparsity] = copy.deepcopy(model.state_dict()), seconds
        return seconds

    def _train(
        self, model: PreTrainedModel, stage: Stage, sparsity: float, neurons: Neurons
    ) -> tuple[Recovered, float]:
        bench, sizes = self.bench, self.bench.sizes
        if stage.kind == "reestimate":
            calibration, extra = self.sequences(stage.data, training=False)
            return reestimate(model, bench.model, calibration), extra
        tokens, extra = self.sequences(stage.data, training=True)
        steps = {"steps": sizes.steps, "batch_size": sizes.batch_size, "seed": self.draw}
        steps["learning_rate"] = bench.rates[stage.rated]
        if stage.kind == "gradual":
            return prune_while_tuning(model, tokens, score=GRADUAL[stage.name], sparsity=sparsity, **steps), extra
        if stage.kind == "penalty":
            return tune_with_penalty(model, tokens, neurons, strength=sizes.strength, **steps), extra
        dense = {"dense": bench.model, "rank": sizes.rank}
        return recover(model, tokens, trained=stage.name, goal=stage.goal, **dense, **steps), extra
