"""Sweeps over ways of making models smaller, and over blocks dropped, as the tidy rows that contrasts read."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.files import hash_json
from labutils.core.progress import progress
from labutils.core.provenance import hash_tensors
from labutils.data.corpora import load_tokens
from labutils.data.sources import split_pair
from labutils.data.tasks import Task, load_task
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import TEXT_UNIT, sequence_losses
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.smaller.arms import Made, check_arms, make_smaller
from labutils.smaller.keeping import KeptRows
from labutils.structured.dropping import drop_blocks
from labutils.structured.remembered import losses_remembered
from labutils.structured.report import count_all
from labutils.structured.similarity import Profile, read_profile

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


class Swept(NamedTuple):
    """Rows of losses; and per arm, size and draw that could not be expressed: model, arm, sparsity, draw, skipped."""

    rows: pd.DataFrame
    skipped: pd.DataFrame


def sweep_smaller(
    name: str, loaded: Loaded, texts: Sequence[str], *, arms: Sequence[str], n_blocks: Sequence[int | float],
    n_draws: int, n_calibration: int, n_items: int, seq_len: int, seed: int = 0,
) -> Swept:  # fmt: skip
    """The losses of a model made smaller in several ways, by the parameters of so many blocks.

    >>> sweep_smaller("lab-llama", lab.load_model("lab-llama"), ["lab:review"], arms=["SLEB", "FLAP"], n_blocks=[1, 2],
    ...               n_draws=2, n_calibration=16, n_items=32, seq_len=64).rows

    An arm that the architecture cannot express is left out, and its reason told. Under the runner, what is finished is
    kept in the run's folder.

    Args:
        texts: what is calibrated and evaluated on, "a" or "a → b".
        n_blocks: sizes; of arms that take neurons they need not be whole.

    Returns:
        one row per arm, size, draw and item: model, calibration, evaluation, arm, method, sparsity (the share of
        blocks), draw, item, loss, unit, removed_share (of the blocks' parameters, as reached) and parameters; the
        dense model's rows have the arm "dense".

    Raises:
        ValueError: a number of blocks that leaves fewer than two.
        LookupError: an unknown arm.
    """
    model, tokenizer = loaded
    check_arms(arms)
    total, frames, kept = len(find_blocks(model)[1]), [], KeptRows(model, tokenizer)
    if wrong := [n for n in n_blocks if not 0 < n < total - 1]:
        left = f"at least 1 can go, at most {total - 2}"
        raise ValueError(
            f"n_blocks={list(n_blocks)}: {name} has {total} blocks, of which {wrong[0]} cannot go: {left}."
        )
    for pair in texts:
        calibration, source = split_pair(pair)
        windows = load_tokens(source, tokenizer, n_sequences=n_items, seq_len=seq_len, seed=seed, split="test")
        about = {"model": name, "calibration": calibration, "evaluation": source, "unit": TEXT_UNIT}
        frames.append(_rows(Made(model, 0.0), "dense", windows).assign(**about, sparsity=0.0, draw=0))
        for draw in progress(range(n_draws), description=f"shrink {name}", unit="draw"):
            tokens = load_tokens(calibration, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
            read = {"calibration": hash_tensors({"ids": tokens}), "evaluation": hash_tensors({"ids": windows})}
            with losses_remembered(model, tokens):
                for n, arm in itertools.product(n_blocks, arms):
                    key = {"sweep": arm, "n_blocks": n, **read}
                    found = kept.frame(key, partial(_one, model, arm, tokens, n, windows))
                    frames.append(found.assign(**about, sparsity=n / total, draw=draw))
    rows = pd.concat(frames, ignore_index=True)
    left_out = rows["skipped"].notna()
    columns = ["model", "arm", "sparsity", "draw", "skipped"]
    return Swept(rows[~left_out].drop(columns="skipped"), rows.loc[left_out, columns])


def _one(model: PreTrainedModel, arm: str, tokens: torch.Tensor, n: int | float, windows: torch.Tensor) -> pd.DataFrame:
    """The rows of one arm; or a single one with the reason why there is none."""
    try:
        made = make_smaller(arm, model, tokens, n)
    except LookupError as error:
        if isinstance(error, IndexError | KeyError):  # a fault, not a refusal
            raise
        return pd.DataFrame({"arm": [arm], "skipped": [str(error)]})
    return _rows(made, arm, windows)


def _rows(made: Made, arm: str, windows: torch.Tensor) -> pd.DataFrame:
    losses = sequence_losses(made.model, windows).double().numpy()
    rows = pd.DataFrame(
        {"item": range(len(losses)), "loss": losses, "skipped": pd.Series([None] * len(losses), dtype=object)}
    )
    return rows.assign(arm=arm, method=arm, removed_share=made.removed_share, parameters=count_all(made.model))


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
    total, frames, kept = len(find_blocks(model)[1]), [], KeptRows(model, tokenizer)
    chance = float(np.mean([1 / len(choices) for choices in questions.items["choices"]]))
    for draw in range(n_draws):
        tokens = load_tokens(calibration, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
        for n in n_blocks:
            key = {"answers": hash_json(questions.items.to_dict("records")), "n_blocks": n, "method": method}
            key |= {"calibration": hash_tensors({"ids": tokens})}
            correct = kept.frame(key, partial(_answers, loaded, tokens, n, method, questions))["correct"].to_numpy()
            at = {"model": name, "calibration": calibration, "evaluation": task, "sparsity": n / total, "draw": draw}
            own = {"item": range(len(dense)), "correct": correct, "dense": dense, "value": correct - dense}
            frames.append(pd.DataFrame(own).assign(chance=chance, **at))
    return pd.concat(frames, ignore_index=True)


def _answers(loaded: Loaded, tokens: torch.Tensor, n: int, method: str, questions: Task) -> pd.DataFrame:
    smaller = drop_blocks(loaded[0], tokens, n_blocks=n, method=method).model
    return score_task(smaller, loaded[1], questions)[["correct"]].astype(float)


def neighbour_cosines(
    name: str, loaded: Loaded, source: str, *, n_calibration: int, seq_len: int, seed: int = 0
) -> pd.DataFrame:
    """Of each two neighbouring blocks and each sequence: the cosine of what they put out, and of two random tokens.

    What enters block 0 is no block's output, so that the first pair is that of blocks 0 and 1.

    Returns:
        model, block (the second of a pair), item (the sequence), neighbours, random (of what the second puts out at a
        token and at a random other one), value (their difference), draw.
    """
    tokens, profile = _profile(loaded, source, n_calibration, seq_len, seed)
    frames = []
    for block in range(1, len(profile.cosines)):
        own = {
            "neighbours": profile.cosines[block].reshape(tokens.shape).double().mean(dim=1).numpy(),
            "random": profile.random_cosines[block].reshape(tokens.shape).double().mean(dim=1).numpy(),
        }
        frames.append(pd.DataFrame(own).rename_axis("item").reset_index().assign(model=name, block=block))
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(value=rows["neighbours"] - rows["random"], draw=0, sparsity=0.0, contrast="cosine")


def block_angles(
    name: str, loaded: Loaded, source: str, *, n_calibration: int, seq_len: int, seed: int = 0
) -> pd.DataFrame:
    """The angle, in units of π, between what enters and what leaves a block at the last token of each sequence.

    Returns:
        model, block, item (the sequence), angle.
    """
    _, profile = _profile(loaded, source, n_calibration, seq_len, seed)
    cosines = cosine_similarity(profile.last[:-1], profile.last[1:], dim=-1).clamp(-1, 1)
    table = pd.DataFrame((cosines.arccos().double() / torch.pi).numpy())
    rows = table.rename_axis("block").reset_index().melt("block", var_name="item", value_name="angle")
    return rows.astype({"item": int}).assign(model=name)


def _profile(loaded: Loaded, source: str, n_calibration: int, seq_len: int, seed: int) -> tuple[torch.Tensor, Profile]:
    model, tokenizer = loaded
    tokens = load_tokens(source, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=seed)
    return tokens, read_profile(BlockWalk(model, tokens), seed=seed)
