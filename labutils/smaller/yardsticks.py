"""How much each block matters, by four yardsticks: the loss, choices, greedy answers, and copying from the context.

A study of layers (arXiv 2510.02091) reports that deep blocks look expendable by likelihood and are indispensable when
the model has to write its answer. One block at a time is skipped. Loss and copying are read on the same windows,
choices and greedy answers on the same questions; their profiles are resampled together.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from scipy.stats import rankdata
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.files import hash_json
from labutils.core.provenance import hash_tensors
from labutils.data.tasks import Task
from labutils.evaluation.batching import batches_of, context_length, rows_at_once
from labutils.evaluation.choice_tokens import encode_choices
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import sequence_losses
from labutils.evaluation.readout import log_likelihoods
from labutils.models.modes import device_of, eval_mode
from labutils.models.positions import check_context
from labutils.models.structure import check_causal, find_blocks
from labutils.smaller.keeping import KeptRows
from labutils.structured.anatomy import read_anatomies
from labutils.structured.masking import masked
from labutils.structured.removal import Removal

TELLING = 0.975  # share of the resamples in which a correlation must have a value
ITEMS = {"loss": "windows", "choices": "questions", "greedy answers": "questions", "copying": "windows"}


def importance_profiles(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Int64[Tensor, "n seq_len"], task: Task
) -> pd.DataFrame:
    """What every item loses when one block is skipped, by each yardstick.

    >>> importance_profiles(model, tokenizer, tokens, lab.load_task("lab:qa/birthplaces", n_items=100))

    "loss" is the mean next-token loss of a window; "choices" 1 where another choice than the right one is the most
    likely; "greedy answers" 1 where the model would not write the right answer, token for token; "copying" the loss of
    the first half of a window where it is read for the second time. Under the runner, each is kept in the run's folder.

    Returns:
        one row per yardstick, block and item: items (what they are: windows or questions), dense, skipped, value (the
        harm: higher loss, or 1 for an answer that is lost).
    """
    anatomies, n_blocks = read_anatomies(model), len(find_blocks(model)[1])
    half = tokens[:, : tokens.shape[1] // 2]
    readers: dict[str, Callable[[], Float[np.ndarray, " items"]]] = {
        "loss": lambda: sequence_losses(model, tokens).double().numpy(),
        "choices": lambda: 1 - score_task(model, tokenizer, task)["correct"].to_numpy(dtype=float),
        "greedy answers": lambda: 1 - greedy_answers(model, tokenizer, task),
        "copying": lambda: copying_losses(model, half),
    }
    kept = KeptRows(model, tokenizer)
    key = {"tokens": hash_tensors({"ids": tokens}), "task": hash_json(task.items.to_dict("records"))}
    frames = []
    for name, read in readers.items():

        def profile(read: Callable[[], np.ndarray] = read) -> pd.DataFrame:
            dense, found = read(), []
            for block in range(n_blocks):
                with masked(model, Removal(blocks=(block,)), anatomies):
                    skipped = read()
                own = {"item": range(len(dense)), "dense": dense, "skipped": skipped, "value": skipped - dense}
                found.append(pd.DataFrame(own).assign(block=block))
            return pd.concat(found, ignore_index=True)

        frames.append(kept.frame({"yardstick": name, **key}, profile).assign(yardstick=name, items=ITEMS[name]))
    return pd.concat(frames, ignore_index=True)


def greedy_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task
) -> Float[np.ndarray, " items"]:
    """1 where the gold choice is, token for token, the most likely continuation of its prompt; else 0.

    One forward pass tells: greedy decoding writes the answer exactly when each of its tokens is the most likely one
    after those before it. Prompt and answer are tokenised, and long prompts shortened, as in `score_task`.
    """
    check_causal(model, "an answer")
    limit, found = context_length(model, tokenizer), []
    for item in task.items.to_dict("records"):
        gold = encode_choices(tokenizer, item, limit)[0][item["gold"]]
        ids = torch.tensor([gold.ids], device=device_of(model))
        with eval_mode(model):
            said = model(input_ids=ids, use_cache=False).logits[0, -gold.n_choice - 1 : -1].argmax(dim=-1)
        found.append(float(said.equal(ids[0, -gold.n_choice :])))
    return np.array(found)


def copying_losses(
    model: PreTrainedModel, once: Int64[Tensor, "n length"], *, batch_size: int = 32
) -> Float[np.ndarray, " n"]:
    """The loss (nats per token) of texts where each stands for the second time behind itself; its first token counts.

    Raises:
        ValueError: texts of which two do not fit into the model's context.
    """
    length = once.shape[1]
    check_context(model, 2 * length, "the loss of a text that is read twice")
    places, losses = torch.arange(length, device=device_of(model)), torch.empty(len(once), dtype=torch.float64)
    for chosen in batches_of([2 * length] * len(once), rows_at_once(model, batch_size, 2 * length), device_of(model)):
        ids = once[chosen].to(device_of(model))
        with eval_mode(model):
            logits = model(input_ids=torch.cat([ids, ids], dim=1), use_cache=False).logits[:, length - 1 : -1]
        read = zip(logits, ids, strict=True)
        losses[chosen] = torch.stack([-log_likelihoods(row, places, own).double().mean() for row, own in read]).cpu()
    return losses.numpy()


def deep_minus_shallow(profiles: pd.DataFrame) -> pd.DataFrame:
    """By yardstick and item: the mean harm of the deeper half of the blocks minus that of the shallower half.

    Block 0, without which no model computes anything, and the last block are left out, and so is the middle one of an
    odd number. Above zero deep blocks matter more.

    Returns:
        a frame of contrasts named by yardstick: item, value, contrast, draw, sparsity, model.
    """
    last = int(profiles["block"].max())
    inner = profiles[profiles["block"].between(1, last - 1)]
    deep = inner[inner["block"] > last / 2].groupby(["yardstick", "item"], sort=False)["value"].mean()
    shallow = inner[inner["block"] < last / 2].groupby(["yardstick", "item"], sort=False)["value"].mean()
    found = (deep - shallow).rename("value").reset_index().rename(columns={"yardstick": "contrast"})
    return found.assign(draw=0, sparsity=0.0, model="one")


def profile_correlations(profiles: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Spearman's ρ over blocks between the mean harm by each two yardsticks, with intervals over items.

    >>> profile_correlations(importance_profiles(model, tokenizer, tokens, task))

    Items are resampled, those that two yardsticks have in common once for both; blocks stay: the interval is about this
    model. The row of a yardstick with itself is its reliability: the correlation r of two halves of its items, averaged
    over random splits, made that of all items by 2r / (1 + r) (Spearman and Brown; 0 where r is not above 0). `ceiling`
    is √(r₁ r₂) of the reliabilities: what two profiles with independent errors can be expected to reach when what they
    measure agrees fully. Yardsticks that share items may exceed it, because their errors are not independent.

    Returns:
        first, second, estimate, low, high, ceiling. NaN where a yardstick tells no blocks apart (`tells_blocks`).
    """
    generator = np.random.default_rng(seed)
    names = list(dict.fromkeys(profiles["yardstick"]))
    tables = {
        name: profiles[profiles["yardstick"] == name].pivot(index="item", columns="block", values="value").to_numpy()
        for name in names
    }
    sets = profiles.drop_duplicates("yardstick").set_index("yardstick")["items"]
    sizes = {own: len(tables[name]) for name, own in sets.items()}
    chosen = {own: generator.integers(size, size=(n_resamples, size)) for own, size in sizes.items()}
    drawn = {name: np.stack([tables[name][rows].mean(axis=0) for rows in chosen[sets[name]]]) for name in names}
    telling = {name: _share_telling(means) >= TELLING for name, means in drawn.items()}
    reliable = {name: _reliability(table, generator) if telling[name] else np.nan for name, table in tables.items()}
    rows = []
    for place, first in enumerate(names):
        rows.append((first, first, reliable[first], np.nan, np.nan, np.nan))
        for second in names[place + 1 :]:
            if not (telling[first] and telling[second]):
                rows.append((first, second, np.nan, np.nan, np.nan, np.nan))
                continue
            estimate = _rhos(tables[first].mean(axis=0)[None], tables[second].mean(axis=0)[None])[0]
            samples = _rhos(drawn[first], drawn[second])
            ends = np.nanpercentile(samples, [2.5, 97.5])
            rows.append((first, second, estimate, *ends, (reliable[first] * reliable[second]) ** 0.5))
    return pd.DataFrame(rows, columns=["first", "second", "estimate", "low", "high", "ceiling"])


def worst_blocks(profiles: pd.DataFrame) -> dict[str, int]:
    """By yardstick, the block without which most is lost; left out are those that tell no blocks apart, or see no harm.

    >>> harm = {"item": [0, 1, 0, 1], "block": [0, 0, 1, 1], "value": [0.1, 0.2, 0.5, 0.4]}
    >>> worst_blocks(pd.DataFrame({"yardstick": "loss", **harm}))
    {'loss': 1}
    """
    worst = {}
    for name, own in profiles.groupby("yardstick", sort=False):
        harm = own.pivot(index="item", columns="block", values="value")
        if tells_blocks(harm.to_numpy()) and harm.mean().max() > 0:
            worst[str(name)] = int(harm.mean().idxmax())
    return worst


def tells_blocks(table: Float[np.ndarray, "items blocks"], *, n_resamples: int = 2000, seed: int = 0) -> bool:
    """Whether the mean harm differs between blocks in nearly all resamples of the items.

    >>> tells_blocks(harm)  # of 100 questions, where each of 30 blocks is skipped

    Where it is the same for every block in more than 2.5 % of them, what it says hangs on three items or fewer.
    """
    rows = np.random.default_rng(seed).integers(len(table), size=(n_resamples, len(table)))
    return _share_telling(np.stack([table[own].mean(axis=0) for own in rows])) >= TELLING


def _share_telling(means: Float[np.ndarray, "n blocks"]) -> float:
    return float((np.ptp(means, axis=1) > 0).mean())


def _reliability(table: Float[np.ndarray, "items blocks"], generator: np.random.Generator) -> float:
    middle = len(table) // 2
    orders = [generator.permutation(len(table)) for _ in range(200)]
    parts = [np.stack([table[order[place]].mean(axis=0) for order in orders])
             for place in (slice(middle), slice(middle, None))]  # fmt: skip
    halves = _rhos(*parts)
    if not np.isfinite(halves).any():
        return float("nan")
    half = max(float(np.nanmean(halves)), 0.0)
    return 2 * half / (1 + half)


def _rhos(first: Float[np.ndarray, "n blocks"], second: Float[np.ndarray, "n blocks"]) -> Float[np.ndarray, " n"]:
    """Spearman's ρ row by row: Pearson's of the ranks; NaN where all blocks are equal."""
    one, two = (rankdata(values, axis=1) for values in (first, second))
    one, two = one - one.mean(axis=1, keepdims=True), two - two.mean(axis=1, keepdims=True)
    size = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    return np.divide((one * two).sum(axis=1), size, out=np.full(len(size), np.nan), where=size > 0)
