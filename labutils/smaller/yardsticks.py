"""How much each block matters, by four yardsticks: the loss, choices, greedy answers, and copying from the context.

A study of layers (arXiv 2510.02091) reports that deep blocks look expendable by likelihood and are indispensable when
the model has to write its answer. One block at a time is skipped, and everything is read on the same items.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from scipy.stats import spearmanr
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.tasks import Task
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import sequence_losses
from labutils.evaluation.readout import log_likelihoods
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import find_blocks
from labutils.structured.anatomy import read_anatomies
from labutils.structured.masking import masked
from labutils.structured.removal import Removal

YARDSTICKS = ("loss", "choices", "greedy answers", "copying")


def importance_profiles(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Int64[Tensor, "n seq_len"], task: Task
) -> pd.DataFrame:
    """What every item loses when one block is skipped, by each yardstick.

    >>> importance_profiles(model, tokenizer, tokens, lab.load_task("lab:qa/birthplaces", n_items=100))

    "loss" is the mean next-token loss of a window; "choices" whether the right choice is the most likely one; "greedy
    answers" whether the right answer is, token for token, what the model would write; "copying" the loss of the first
    half of a window where it is read for the second time.

    Returns:
        one row per yardstick, block and item: dense, skipped, value (the harm: higher loss, or lost answers).
    """
    anatomies, n_blocks = read_anatomies(model), len(find_blocks(model)[1])
    half = tokens[:, : tokens.shape[1] // 2]
    readers: dict[str, Callable[[], Float[np.ndarray, " items"]]] = {
        "loss": lambda: sequence_losses(model, tokens).double().numpy(),
        "choices": lambda: -score_task(model, tokenizer, task)["correct"].to_numpy(dtype=float),
        "greedy answers": lambda: -greedy_answers(model, tokenizer, task),
        "copying": lambda: copying_losses(model, half),
    }
    frames = []
    for name, read in readers.items():
        dense = read()
        for block in range(n_blocks):
            with masked(model, Removal(blocks=(block,)), anatomies):
                skipped = read()
            own = {"item": range(len(dense)), "dense": dense, "skipped": skipped, "value": skipped - dense}
            frames.append(pd.DataFrame(own).assign(yardstick=name, block=block))
    return pd.concat(frames, ignore_index=True)


def greedy_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task
) -> Float[np.ndarray, " items"]:
    """1 where the gold choice is, token for token, the most likely continuation of its prompt; else 0.

    One forward pass tells: greedy decoding writes the answer exactly when each of its tokens is the most likely one
    after those before it.
    """
    found = []
    for item in task.items.itertuples():
        start = tokenizer(item.prompt)["input_ids"]
        whole = tokenizer(f"{item.prompt} {item.choices[item.gold]}")["input_ids"]
        shared = next((place for place, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), None)
        first = min(len(start), len(whole) - 1) if shared is None else shared
        ids = torch.tensor([whole], device=device_of(model))
        with eval_mode(model):
            said = model(input_ids=ids).logits[0, first - 1 : -1].argmax(dim=-1)
        found.append(float(said.equal(ids[0, first:])))
    return np.array(found)


def copying_losses(model: PreTrainedModel, once: Int64[Tensor, "n length"]) -> Float[np.ndarray, " n"]:
    """The loss (nats per token) of texts where each stands for the second time behind itself."""
    twice, length = torch.cat([once, once], dim=1).to(device_of(model)), once.shape[1]
    with eval_mode(model):
        logits = model(input_ids=twice).logits[:, length - 1 : -1]
    places = torch.arange(length, device=logits.device)
    losses = [
        -log_likelihoods(row, places, ids[length:]).double().mean() for row, ids in zip(logits, twice, strict=True)
    ]
    return torch.stack(losses).cpu().numpy()


def profile_correlations(profiles: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Spearman's ρ over blocks between the mean harm by each two yardsticks, with intervals over items.

    >>> profile_correlations(importance_profiles(model, tokenizer, tokens, task))

    Items of each yardstick are resampled, blocks stay: the interval is about this model. The rows of a yardstick with
    itself are the correlation of two halves of its items, averaged over random splits: what no other can be expected to
    exceed.

    Returns:
        first, second, estimate, low, high. NaN where a yardstick is the same for every block.
    """
    generator = np.random.default_rng(seed)
    names = list(dict.fromkeys(profiles["yardstick"]))
    tables = {
        name: profiles[profiles["yardstick"] == name].pivot(index="item", columns="block", values="value").to_numpy()
        for name in names
    }
    means = {name: table.mean(axis=0) for name, table in tables.items()}
    drawn = {name: _resampled_means(table, n_resamples, generator) for name, table in tables.items()}
    rows = []
    for place, first in enumerate(names):
        halves = [_split_half(tables[first], generator) for _ in range(200)]
        rows.append((first, first, np.nanmean(halves) if np.isfinite(halves).any() else np.nan, np.nan, np.nan))
        for second in names[place + 1 :]:
            samples = [_rho(*pair) for pair in zip(drawn[first], drawn[second], strict=True)]
            ends = np.nanpercentile(samples, [2.5, 97.5]) if np.isfinite(samples).any() else (np.nan, np.nan)
            rows.append((first, second, _rho(means[first], means[second]), *ends))
    return pd.DataFrame(rows, columns=["first", "second", "estimate", "low", "high"])


def _resampled_means(
    table: Float[np.ndarray, "items blocks"], n: int, generator: np.random.Generator
) -> Float[np.ndarray, "n blocks"]:
    chosen = generator.integers(len(table), size=(n, len(table)))
    return np.stack([table[rows].mean(axis=0) for rows in chosen])


def _split_half(table: Float[np.ndarray, "items blocks"], generator: np.random.Generator) -> float:
    order = generator.permutation(len(table))
    middle = len(table) // 2
    return _rho(table[order[:middle]].mean(axis=0), table[order[middle:]].mean(axis=0))


def _rho(first: Float[np.ndarray, " blocks"], second: Float[np.ndarray, " blocks"]) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
