"""What a recovered model is read on: windows of text, continuations, choice tasks; a row per item."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Int64
from scipy.stats import binomtest
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.provenance import hash_tensors
from labutils.data.corpora import load_tokens
from labutils.data.tasks import Task, load_task
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import TEXT_UNIT, sequence_losses
from labutils.recovery.own_text import continuation_losses, own_continuations
from labutils.stats.bootstrap import Interval

ACCURACY = "accuracy"
OWN_TEXT = "own continuations"


@dataclass(frozen=True)
class Reading:
    """One evaluation: token windows, of which the first `prompt_len` are context, or the items of a choice task.

    Attributes:
        unit: of its losses: "nats per token", or "accuracy", where the loss of an item is 1 unless it is right.
    """

    name: str
    unit: str
    tokens: Int64[Tensor, "n seq_len"] | None = None
    task: Task | None = None
    prompt_len: int = 1

    def losses(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[float]:
        """One loss per item."""
        if self.task is not None:
            return (1.0 - score_task(model, tokenizer, self.task)["correct"].astype(float)).tolist()
        if self.prompt_len == 1:
            return sequence_losses(model, self.tokens).double().tolist()
        return continuation_losses(model, self.tokens, self.prompt_len).double().tolist()

    def fingerprint(self) -> list[object]:
        """What its losses depend on beside the model, as JSON can hold it."""
        if self.task is not None:
            return [self.name, self.task.items.to_json(orient="split", double_precision=15)]
        return [self.name, hash_tensors({"tokens": self.tokens}), self.prompt_len]


def load_readings(
    texts: Sequence[str],
    tasks: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_items: int,
    n_task_items: int,
    seq_len: int,
    seed: int = 0,
) -> list[Reading]:
    """The test split of some texts and choice tasks.

        load_readings(["lab:review"], ["lab:qa/birthplaces"], tokenizer, n_items=64, n_task_items=100, seq_len=128)

    Raises:
        ValueError: a task of another kind; and as the loaders.
    """
    found = [
        Reading(
            text, TEXT_UNIT, load_tokens(text, tokenizer, n_sequences=n_items, seq_len=seq_len, seed=seed, split="test")
        )
        for text in texts
    ]
    for name in tasks:
        task = load_task(name, n_items=n_task_items, seed=seed)
        if task.kind != "choice":
            raise ValueError(f"{name} is a {task.kind} task; recoveries are read on choice tasks and on text.")
        found.append(Reading(name, ACCURACY, task=task))
    return found


def held_out_reading(
    text: str, tokenizer: PreTrainedTokenizerBase, *, n_read: int, n_items: int, seq_len: int, seed: int = 0
) -> Reading:
    """Windows of the test split that follow those which `load_readings` takes: what rates may be chosen on.

        held_out_reading("lab:review", tokenizer, n_read=64, n_items=24, seq_len=128)

    They are cut from the same order of the documents, so that no token stands in both, and training sees neither.

    Args:
        n_read, seq_len, seed: as `n_items`, `seq_len` and `seed` of `load_readings`.

    Raises:
        ValueError: the text is too short for both.
    """
    both = {"n_sequences": n_read + n_items, "seq_len": seq_len, "seed": seed}
    return Reading("held out", TEXT_UNIT, load_tokens(text, tokenizer, **both, split="test")[n_read:])


def own_reading(dense: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, prompt_len: int) -> Reading:
    """The dense model's greedy continuations of the beginnings of some windows, read behind the prompt.

    own_reading(model, readings[0].tokens, prompt_len=32)
    """
    written = own_continuations(dense, tokens[:, :prompt_len], seq_len=tokens.shape[1], sampled=False)
    return Reading(OWN_TEXT, TEXT_UNIT, written, prompt_len=prompt_len)


def read_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, readings: Sequence[Reading]) -> pd.DataFrame:
    """``evaluation, item, loss, unit`` of every item of every reading."""
    frames = []
    for reading in readings:
        losses = reading.losses(model, tokenizer)
        frames.append(
            pd.DataFrame({"evaluation": reading.name, "item": range(len(losses)), "loss": losses, "unit": reading.unit})
        )
    return pd.concat(frames, ignore_index=True)


def check_dense(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, readings: Sequence[Reading], *, name: str
) -> pd.DataFrame:
    """What a dense model can do, beside what guessing does: ``model, evaluation, unit, value, low, guessing, usable``.

        check_dense(model, tokenizer, readings, name="lab-llama")

    A choice task is usable where Wilson's 95 % interval of the accuracy lies above 1 / (number of choices); text where
    the mean loss is below that of guessing, the logarithm of the size of the vocabulary.
    """
    rows = []
    for reading in readings:
        losses = reading.losses(model, tokenizer)
        mean = sum(losses) / len(losses)
        if reading.task is None:
            value, low, guessing = mean, None, math.log(model.config.vocab_size)
            usable = mean < guessing
        else:
            right = round(len(losses) - sum(losses))
            value, guessing = right / len(losses), float((1 / reading.task.items["choices"].map(len)).mean())
            low = float(binomtest(right, len(losses)).proportion_ci(method="wilson").low)
            usable = low > guessing
        rows.append(
            {"model": name, "evaluation": reading.name, "unit": reading.unit, "value": value, "low": low,
             "guessing": guessing, "usable": usable}
        )  # fmt: skip
    return pd.DataFrame(rows)


def if_able(interval: Interval, scores: pd.DataFrame, checks: pd.DataFrame, arms: Sequence[str]) -> Interval:
    """The interval, if in every model at least one of the arms still answers above chance; else an undefined one.

    >>> if_able(interval, rows[rows["unit"] == "accuracy"], checks, ["movement", "gradual"])

    Two models that both guess do not differ, whatever was done to them. All tasks count together, each item once (its
    mean over draws and sparsities), by Wilson's 95 % interval.

    Args:
        scores: rows of choice tasks, by the tasks' names.
        checks: of `check_dense`, for what guessing gives.
    """
    guessing = checks.set_index(["model", "evaluation"])["guessing"]
    for model, own in scores[scores["arm"].isin(list(arms))].groupby("model", sort=False):
        able = False
        for _, items in own.groupby("arm"):
            right = 1 - items.groupby(["evaluation", "item"])["loss"].mean()
            chance = guessing.loc[model].loc[right.index.get_level_values("evaluation")].mean()
            bounds = binomtest(round(right.sum()), len(right)).proportion_ci(method="wilson")
            able = able or bounds.low > chance
        if not able:
            return Interval.undefined(f"on {model} neither of {', '.join(arms)} still answers above chance")
    return interval


def pool_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of all choice tasks as those of one evaluation, "tasks", so that a score is the mean over tasks.

    >>> pool_tasks(recovery_sweep("lab-llama", **given))

    Items get numbers of their own, the same in every arm; tasks of unlike size would weigh by their items.
    """
    chosen = rows[rows["unit"] == ACCURACY]
    places = list(zip(chosen["evaluation"], chosen["item"], strict=True))
    numbers = {place: number for number, place in enumerate(sorted(set(places)))}
    items = [numbers[place] for place in places]
    return chosen.assign(evaluation="tasks", item=items)
