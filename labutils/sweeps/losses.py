"""Sweeps for the studies: models × calibration texts × calibration draws × arms × sparsities, as tidy rows.

An arm is written `method`, `method/allocation` or `method/allocation/pattern`: "sparsegpt", "ria/owl",
"wanda/uniform/2:4". Every row is one evaluation item, so that any two arms can be compared item by item. Calibration
draws run through joblib: `with joblib.parallel_config(n_jobs=2)` or a Dask backend moves a sweep without a change here.
Threads, which would share the model, are refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
from joblib import delayed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.core.provenance import hash_tensors
from labutils.core.separate_tasks import separate_tasks
from labutils.data.sources import language_of, pair_name, split_pair
from labutils.evaluation.losses import Evaluation, item_losses, load_evaluation
from labutils.models.loading import load_model, model_name
from labutils.pruning.grid import expand_requests
from labutils.pruning.requests import with_registrations
from labutils.sweeps.announcing import announce_sweep
from labutils.sweeps.calibration_sets import load_calibration
from labutils.sweeps.kept_prunings import KeptPrunings, hash_frame

DENSE = {
    "arm": "dense", "method": "dense", "allocation": "uniform", "pattern": "unstructured", "sparsity": 0.0, "draw": -1,
}  # fmt: skip


@dataclass(frozen=True)
class SweepSizes:
    """Of a sweep: calibration sequences, their length, evaluation items (None: all pairs), the items' seed."""

    n_calibration: int = 32
    n_items: int | None = 64
    seq_len: int = 128
    seed: int = 0


def sweep(
    source: str,
    texts: Sequence[str],
    *,
    arms: Sequence[str],
    sparsities: Sequence[float],
    n_draws: int,
    sizes: SweepSizes = SweepSizes(),  # noqa: B008 (frozen)
    revision: str | None = None,
    dtype: str = "auto",
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
    **options: object,
) -> pd.DataFrame:
    """Prune one model in every way and measure the loss of every item.

    >>> rows = sweep("lab-llama", ["lab:review"], arms=["ria/owl"], sparsities=[0.5], n_draws=3)

    Args:
        source: a model as for `load_model`.
        texts: what to calibrate and evaluate on: one text source for both ("lab:review": its train and its test part),
            or "calibration → evaluation" ("file:train.jsonl → file:test.jsonl"), whose calibration may be any that
            `load_calibration` takes: "lab:review + lab:narrative → lab:review".
        arms: see above; each at every sparsity, N:M patterns at their own.
        n_draws: calibration draws; draw d takes the sequences of seed d.
        revision, dtype: as for `load_model`.
        loaded: what `load_model` gave for `source`, where it is at hand: a large model need not be in memory twice.
        **options: passed on to `prune`.

    Returns:
        one row per arm, sparsity, draw and item: model, architecture, calibration, evaluation, language, arm, method,
        allocation, pattern, sparsity, reached, draw, item, loss, unit, seconds. The dense model is the method "dense"
        with draw −1, and has the arm "dense".

    Raises:
        ValueError, LookupError: as the loaders and `prune` do, before the first pruning wherever it can be known.
        ValueError: joblib is set to threads.
    """
    if isinstance(texts, str) or not texts or not arms or n_draws < 1:
        raise ValueError(
            f"a sweep needs lists of at least one text and one arm, and a draw, not texts={texts!r}, arms={arms!r}, "
            f"n_draws={n_draws}"
        )
    parallel = separate_tasks()
    model, tokenizer = loaded or load_model(source, revision=revision, dtype=dtype)
    about = {"model": model_name(source), "architecture": model.config.model_type}
    readings = _load_readings(texts, model, tokenizer, sizes, about)
    frames, times = zip(*(reading.dense_rows(model, tokenizer) for reading in readings), strict=True)
    jobs = [(reading, draw) for reading in readings for draw in range(n_draws)]
    requests = sum(expand_requests(map(split_arm, arms), sparsities, options=options), [])
    shape = (sizes.n_calibration, sizes.seq_len)
    evaluation_seconds = sum(times) / len(times)
    announce_sweep(about["model"], model, shape, requests, n_draws=len(jobs), evaluation_seconds=evaluation_seconds)
    one_draw = with_registrations(_one_draw)
    run = parallel(
        delayed(one_draw)(model, tokenizer, reading, draw, arms, sparsities, sizes, options) for reading, draw in jobs
    )
    pruned = progress(run, total=len(jobs), description=f"sweep {about['model']}", unit="draw")
    return pd.concat([*frames, *pruned], ignore_index=True)


@dataclass(frozen=True)
class _Readings:
    """A calibration text and all evaluations of what is pruned with it: a model is pruned once for all of them.

    Attributes:
        names: of each evaluation, what its rows carry.
    """

    calibration: str
    names: list[dict[str, str]]
    evaluations: list[Evaluation]
    kept: KeptPrunings

    def item_rows(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
        """The loss of every item of every evaluation, which `reading` numbers."""
        frames = []
        for number, evaluation in enumerate(self.evaluations):
            losses = item_losses(model, tokenizer, evaluation).double().numpy()
            rows = {"reading": number, "item": range(len(losses)), "loss": losses, "unit": evaluation.unit}
            frames.append(pd.DataFrame(rows))
        return pd.concat(frames, ignore_index=True)

    def dense_rows(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[pd.DataFrame, float]:
        rows, seconds = self.kept.dense_rows(partial(self.item_rows, model, tokenizer))
        return self.named(rows.assign(**DENSE)), seconds

    def named(self, rows: pd.DataFrame) -> pd.DataFrame:
        names = pd.DataFrame(self.names).loc[rows["reading"]].set_index(rows.index)
        return pd.concat([rows.drop(columns="reading"), names], axis=1)


def _load_readings(
    texts: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sizes: SweepSizes, about: dict
) -> list[_Readings]:
    """One for each calibration text, in the order of the texts."""
    found: dict[str, tuple[list, list]] = {}
    for pair in texts:
        calibration, source = split_pair(pair)
        evaluation = load_evaluation(
            source, model, tokenizer, n_items=sizes.n_items, seq_len=sizes.seq_len, seed=sizes.seed
        )
        names, evaluations = found.setdefault(calibration, ([], []))
        named = {"calibration": calibration, "evaluation": evaluation.name, "language": language_of(source)}
        names.append({**about, **named})
        evaluations.append(evaluation)
    stores: dict[tuple[str, ...], KeptPrunings] = {}
    readings = []
    for calibration, (names, evaluations) in found.items():
        prints = tuple(map(fingerprint, evaluations))
        if prints not in stores:
            stores[prints] = KeptPrunings(model, tokenizer, {"losses": prints})
        readings.append(_Readings(calibration, names, evaluations, stores[prints]))
    return readings


def _one_draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, readings: _Readings, draw: int, arms: Sequence[str],
    sparsities: Sequence[float], sizes: SweepSizes, options: dict,
) -> pd.DataFrame:  # fmt: skip
    """All arms and sparsities of one calibration draw."""
    windows = {"n_sequences": sizes.n_calibration, "seq_len": sizes.seq_len}
    tokens = load_calibration(readings.calibration, tokenizer, **windows, seed=draw)
    requests = expand_requests(map(split_arm, arms), sparsities, options=options)
    asked = [(arm, request) for arm, own in zip(arms, requests, strict=True) for request in own]
    done = readings.kept.rows_of(
        model, tokens, [request for _, request in asked], lambda pruned: readings.item_rows(pruned, tokenizer)
    )
    frames = [pd.DataFrame(rows).assign(arm=arm) for (arm, _), rows in zip(asked, done, strict=True)]
    return readings.named(pd.concat(frames, ignore_index=True).assign(draw=draw))


def fingerprint(evaluation: Evaluation) -> str:
    """SHA-256 of what damage is measured on.

    >>> fingerprint(load_evaluation("lab:review", model, tokenizer, n_items=8, seq_len=64))
    """
    if evaluation.pairs is not None:
        return hash_frame(evaluation.pairs)
    return hash_tensors({"tokens": evaluation.tokens})


def split_arm(arm: str) -> tuple[str, str | None, str]:
    """Method, allocation (None: the method's own) and pattern of an arm.

    Raises:
        ValueError: more than three parts, or an empty one.
    """
    parts = arm.split("/")
    if len(parts) > 3 or not all(parts):
        raise ValueError(
            f'arm={arm!r} must be "method", "method/allocation" or "method/allocation/pattern", as "ria/owl".'
        )
    return parts[0], parts[1] if len(parts) > 1 else None, parts[2] if len(parts) > 2 else "unstructured"


def dense_loss(rows: pd.DataFrame) -> float:
    """Mean loss of the dense model over all items of a sweep: the yardstick of the margins.

    >>> lab.judge("C02", interval=interval, dense_loss=dense_loss(rows), scope=scope(rows))
    """
    return float(rows.loc[rows["method"] == "dense", "loss"].mean())


def scope(rows: pd.DataFrame, **about: object) -> dict[str, object]:
    """On what a sweep's verdicts were found, for the ledger: models, texts, sparsities, and what `about` adds.

    >>> scope(rows, n_calibration=32)["sparsities"]  # "0.1 to 0.8"
    """
    pruned = rows[rows["method"] != "dense"]
    grid = sorted(float(value) for value in pruned["sparsity"].unique())
    return {
        "model": ", ".join(rows["model"].unique()),
        "corpus": ", ".join(
            pair_name(*pair) for pair in rows[["calibration", "evaluation"]].drop_duplicates().to_numpy()
        ),
        "sparsities": f"{grid[0]:g}" if len(grid) == 1 else f"{grid[0]:g} to {grid[-1]:g}",
        **about,
    }


def dense_check(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], sizes: SweepSizes
) -> pd.DataFrame:
    """Loss of a dense model per text beside the loss of guessing: the sanity number of a study.

    >>> dense_check(model, tokenizer, ["lab:review"], SweepSizes(n_items=32))

    Guessing is uniform over the vocabulary for text (its logarithm), and a random order for sentence pairs (1).
    """
    found = []
    for source in dict.fromkeys(split_pair(pair)[1] for pair in texts):
        evaluation = load_evaluation(
            source, model, tokenizer, n_items=sizes.n_items, seq_len=sizes.seq_len, seed=sizes.seed
        )
        losses = item_losses(model, tokenizer, evaluation)
        guess = 1.0 if evaluation.pairs is not None else math.log(model.config.vocab_size)
        name = {"model": type(model).__name__, "text": pair_name(source, source)}
        found.append(
            {
                **name,
                "items": len(losses),
                "loss": losses.mean().item(),
                "loss of guessing": guess,
                "unit": evaluation.unit,
            }
        )
    return pd.DataFrame(found)
