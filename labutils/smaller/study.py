"""Sweeps over ways of making models smaller, and over blocks dropped, as the tidy rows that contrasts read."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.data.corpora import load_tokens
from labutils.data.sources import split_pair
from labutils.data.tasks import load_task
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import TEXT_UNIT, sequence_losses
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.smaller.arms import Made, make_smaller
from labutils.structured.dropping import drop_blocks
from labutils.structured.report import count_all
from labutils.structured.similarity import read_profile

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def sweep_smaller(
    name: str, loaded: Loaded, texts: Sequence[str], *, arms: Sequence[str], n_blocks: Sequence[int], n_draws: int,
    n_calibration: int, n_items: int, seq_len: int, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The losses of a model made smaller in several ways, by the parameters of so many blocks.

    >>> sweep_smaller("lab-llama", lab.load_model("lab-llama"), ["lab:review"], arms=["SLEB", "FLAP"], n_blocks=[1, 2],
    ...               n_draws=2, n_calibration=16, n_items=32, seq_len=64)

    Args:
        texts: what is calibrated and evaluated on, "a" or "a → b".

    Returns:
        one row per arm, size, draw and item: model, calibration, evaluation, arm, method, sparsity (the share of
        blocks), draw, item, loss, unit, removed_share (of the blocks' parameters, as reached) and parameters; the
        dense model's rows have the arm "dense".
    """
    model, tokenizer = loaded
    total, frames = len(find_blocks(model)[1]), []
    for pair in texts:
        calibration, source = split_pair(pair)
        windows = load_tokens(source, tokenizer, n_sequences=n_items, seq_len=seq_len, seed=seed, split="test")
        about = {"model": name, "calibration": calibration, "evaluation": source, "unit": TEXT_UNIT}
        frames.append(_rows(Made(model, 0.0), "dense", windows, {**about, "sparsity": 0.0, "draw": 0}))
        for draw in progress(range(n_draws), description=f"shrink {name}", unit="draw"):
            tokens = load_tokens(calibration, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
            for n in n_blocks:
                at = {**about, "sparsity": n / total, "draw": draw}
                frames += [_rows(make_smaller(arm, model, tokens, n), arm, windows, at) for arm in arms]
    return pd.concat(frames, ignore_index=True)


def _rows(made: Made, arm: str, windows: torch.Tensor, at: dict[str, object]) -> pd.DataFrame:
    losses = sequence_losses(made.model, windows).double().numpy()
    rows = pd.DataFrame({"item": range(len(losses)), "loss": losses})
    sizes = {"removed_share": made.removed_share, "parameters": count_all(made.model)}
    return rows.assign(arm=arm, method=arm, **sizes, **at)


def answers_after_dropping(
    name: str, loaded: Loaded, task: str, calibration: str, *, method: str, n_blocks: Sequence[int], n_draws: int,
    n_calibration: int, n_items: int, seq_len: int, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Which items of a choice task a model answers with blocks dropped, and without.

    Returns:
        one row per size, draw and item: model, calibration, evaluation (the task), sparsity, draw, item, correct, dense
        (whether the dense model is right), value (correct − dense), chance.
    """
    model, tokenizer = loaded
    questions = load_task(task, n_items=n_items, seed=seed)
    dense = score_task(model, tokenizer, questions)["correct"].astype(float).to_numpy()
    total, frames = len(find_blocks(model)[1]), []
    chance = float(np.mean([1 / len(choices) for choices in questions.items["choices"]]))
    for draw in range(n_draws):
        tokens = load_tokens(calibration, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
        for n in n_blocks:
            smaller = drop_blocks(model, tokens, n_blocks=n, method=method).model
            correct = score_task(smaller, tokenizer, questions)["correct"].astype(float).to_numpy()
            at = {"model": name, "calibration": calibration, "evaluation": task, "sparsity": n / total, "draw": draw}
            own = {"item": range(len(dense)), "correct": correct, "dense": dense, "value": correct - dense}
            frames.append(pd.DataFrame(own).assign(chance=chance, **at))
    return pd.concat(frames, ignore_index=True)


def neighbour_cosines(
    name: str, loaded: Loaded, source: str, *, n_calibration: int, seq_len: int, seed: int = 0
) -> pd.DataFrame:
    """Per block and sequence: the cosine of what enters and leaves a block, and of two tokens that leave it.

    Returns:
        model, block, item (the sequence), neighbours, random, value (their difference), draw.
    """
    model, tokenizer = loaded
    tokens = load_tokens(source, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=seed)
    profile = read_profile(BlockWalk(model, tokens), seed=seed)
    frames = []
    for block, (near, random) in enumerate(zip(profile.cosines, profile.random_cosines, strict=True)):
        own = {
            "neighbours": near.reshape(tokens.shape).double().mean(dim=1).numpy(),
            "random": random.reshape(tokens.shape).double().mean(dim=1).numpy(),
        }
        frames.append(pd.DataFrame(own).rename_axis("item").reset_index().assign(model=name, block=block))
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(value=rows["neighbours"] - rows["random"], draw=0, sparsity=0.0, contrast="cosine")
