"""Is a lab model fit for pruning studies? Dense performance of every task, and what magnitude pruning takes from it.

Fit means: every family of choice tasks is well above chance, and 50 % magnitude pruning takes from at least one family
far more accuracy than its uncertainty. No other pruning method is looked at: which one wins must not enter the design.
"""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import binomtest, bootstrap, spearmanr
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.data.corpora import load_tokens
from labutils.data.tasks import load_task
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import sequence_losses
from labutils.evaluation.similarity import score_similarity
from labutils.lab_models.specs import SEQUENCE_LENGTH
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning.importance import magnitude_score
from labutils.pruning.patterns import unstructured_mask
from labutils.world import FAMILIES, LANGUAGES, REGISTERS, TASKS

LEVEL = 0.95
ITEMS_PER_TASK = 300
SEQUENCES = 64  # per source
CHECKED_SPARSITY = 0.5
ABOVE = 0.1  # a family is well above chance when its whole interval is at least so far above
FAR = 1.0  # a drop is far outside the interval when it is at least so many times the interval's width
RESAMPLES = 1000


def magnitude_pruned(model: PreTrainedModel, sparsity: float) -> PreTrainedModel:
    """A copy whose block matrices each lost their smallest weights."""
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        for block in find_blocks(pruned)[1]:
            for layer in prunable_layers(block).values():
                weight = weight_matrix(layer)
                weight.mul_(unstructured_mask(magnitude_score(weight), round(sparsity * weight.numel())))
    return pruned


def measure_tasks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row per item of every task: task, family, kind, item, gold, value (correct, or the predicted similarity)."""
    tables = []
    for name, spec in progress(TASKS.items(), description="tasks", unit="task"):
        task = load_task(f"lab:{name}", n_items=ITEMS_PER_TASK, split="test")
        if spec.kind == "choice":
            scored = score_task(model, tokenizer, task)
            table = pd.DataFrame(
                {"item": scored["item"], "gold": scored["gold"], "value": scored["correct"].astype(float)}
            )
        else:
            scored = score_similarity(model, tokenizer, task.items)
            table = pd.DataFrame({"item": scored["item"], "gold": scored["gold"], "value": scored["predicted"]})
        tables.append(table.assign(task=name, family=spec.family, kind=spec.kind))
    return pd.concat(tables, ignore_index=True)


def measure_texts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Float[Tensor, " n"]]:
    """Loss per test sequence (nats per token) of every register and language."""
    sources = [f"{register}/{language}" for language in LANGUAGES for register in REGISTERS]
    losses = {}
    for source in progress(sources, description="texts", unit="source"):
        tokens = load_tokens(f"lab:{source}", tokenizer, n_sequences=SEQUENCES, seq_len=SEQUENCE_LENGTH, split="test")
        losses[source] = sequence_losses(model, tokens)
    return losses


def summarise_tasks(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Task -> its measure, value, interval, chance and number of items."""
    return {str(name): _summarise_task(str(name), table) for name, table in rows.groupby("task", sort=False)}


def summarise_families(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Family -> accuracy over the items of its choice tasks, interval and mean chance."""
    choice = rows[rows["kind"] == "choice"]
    chances = {name: spec.chance for name, spec in TASKS.items()}
    summary = {}
    for family in FAMILIES:
        table = choice[choice["family"] == family]
        chance = table["task"].map(chances).mean()
        summary[family] = _proportion(table["value"]) | {"chance": round(float(chance), 4)}
    return summary


def summarise_texts(losses: dict[str, Float[Tensor, " n"]]) -> dict[str, dict[str, float]]:
    """Source -> perplexity with its interval over sequences."""
    summary = {}
    for source, values in losses.items():
        interval = bootstrap(
            (values.numpy(),), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, rng=0, method="percentile"
        ).confidence_interval
        low, value, high = np.exp([interval.low, values.mean().item(), interval.high]).round(4).tolist()
        summary[source] = {"perplexity": value, "low": low, "high": high}
    return summary


def judge(dense: dict[str, Any], pruned: dict[str, Any]) -> dict[str, Any]:
    """Whether the model is fit, from the summaries ("families", "texts") of the dense model and of the pruned one."""
    above_chance = {family: entry["low"] > entry["chance"] + ABOVE for family, entry in dense["families"].items()}
    drops = {
        family: _drop(entry["value"] - pruned["families"][family]["value"], entry["low"], entry["high"])
        for family, entry in dense["families"].items()
    }
    rises = {
        source: _drop(
            np.log(pruned["texts"][source]["perplexity"] / entry["perplexity"]),
            np.log(entry["low"]),
            np.log(entry["high"]),
        )
        for source, entry in dense["texts"].items()
    }
    damaged = [family for family, drop in drops.items() if drop["widths"] >= FAR]
    fit = all(above_chance.values()) and bool(damaged)
    return {
        "sparsity": CHECKED_SPARSITY,
        "families_well_above_chance": above_chance,
        "accuracy_drops": drops,
        "loss_rises": rises,
        "fit": fit,
        "verdict": _verdict(fit, above_chance, damaged),
    }


def _verdict(fit: bool, above_chance: dict[str, bool], damaged: Iterable[str]) -> str:
    too_low = [family for family, above in above_chance.items() if not above]
    reasons = f"families not well above chance: {', '.join(too_low) or 'none'}; "
    reasons += f"families far damaged by {CHECKED_SPARSITY:.0%} magnitude pruning: {', '.join(damaged) or 'none'}"
    return f"{'fit' if fit else 'NOT fit'} for pruning studies ({reasons})"


def _drop(size: float, low: float, high: float) -> dict[str, float]:
    """A damage, and how many widths of the dense interval it is."""
    return {"size": round(float(size), 4), "widths": round(float(size / (high - low)), 2)}


def _summarise_task(name: str, table: pd.DataFrame) -> dict[str, Any]:
    spec = TASKS[name]
    if spec.kind == "choice":
        return {"measure": "accuracy", **_proportion(table["value"]), "chance": round(spec.chance, 4)}
    result = bootstrap(
        (table["gold"].to_numpy(), table["value"].to_numpy()),
        lambda gold, value: spearmanr(gold, value).statistic,
        paired=True, vectorized=False, n_resamples=RESAMPLES, confidence_level=LEVEL, rng=0, method="percentile",
    )  # fmt: skip
    value = spearmanr(table["gold"], table["value"]).statistic
    low, high = result.confidence_interval
    return {"measure": "Spearman's rho", **_rounded(value, low, high), "n": len(table), "chance": spec.chance}


def _proportion(correct: pd.Series) -> dict[str, Any]:
    """Accuracy with Wilson's interval."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(LEVEL, method="wilson")
    return {**_rounded(correct.mean(), interval.low, interval.high), "n": len(correct)}


def _rounded(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
