"""One model read by every yardstick: the same questions in six ways, choice tasks, and the loss of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.tasks import Task
from labutils.evaluation.answers import generate_answers, score_answers
from labutils.evaluation.choices import score_task
from labutils.models.modes import device_of, eval_mode
from labutils.yardsticks.divergence import Likeliest, divergence, keep_likeliest
from labutils.yardsticks.questions import as_task

# What a yardstick is called, by its column in the rows.
YARDSTICKS = {
    "choice": "choice",
    "first_token": "first token",
    "answer": "answer",
    "exact": "answer, letter by letter",
    "choice_in_context": "choice in context",
    "answer_in_context": "answer in context",
}
CHOSEN = ("choice", "choice_in_context")  # these a guess gets right now and then


@dataclass
class Reader:
    """What a model is read on; called with a model, it returns frames of rows.

    >>> Reader(tokenizer, questions, tokens=tokens)(model)["questions"]["answer"].mean()

    Attributes:
        questions: of `fact_questions` or `task_questions`.
        tasks: choice tasks that are read by choice alone.
        tokens: windows of text; the first call's model is the one that others diverge from.
        bins: of every token id the bin of its frequency, for `frequency.word_losses`.
        openings: beginnings of texts, which the model goes on with for up to `opening_tokens`.
        max_new_tokens: of an answer.
    """

    tokenizer: PreTrainedTokenizerBase
    questions: pd.DataFrame
    tasks: Sequence[Task] = ()
    tokens: Int64[Tensor, "n seq_len"] | None = None
    bins: Int64[np.ndarray, " vocabulary"] | None = None
    openings: Sequence[str] = ()
    opening_tokens: int = 48
    max_new_tokens: int = 8
    batch_size: int = 32
    _dense: list[Likeliest] = field(default_factory=list, repr=False)

    def __call__(self, model: PreTrainedModel) -> dict[str, pd.DataFrame]:
        """Frames "questions", "tasks", "texts", "words" and "openings", as far as there is something to read.

        questions: ``item, task``, a column per yardstick (1 right, 0 wrong), ``chance`` (of a choice), ``prediction``
        (the choice), ``rank`` and ``log_likelihood`` of the right first token, ``n_tokens``, ``repetition``. tasks:
        ``task, item, score, chance``. texts: ``item, loss`` and ``kl`` from the first model read (nats per token).
        words: ``item`` (window), ``bin, loss`` (sum), ``count``. openings: ``item, n_tokens, ended, repetition``.
        """
        found = {"questions": self._questions(model)}
        if self.tasks:
            found["tasks"] = pd.concat([self._task(model, task) for task in self.tasks], ignore_index=True)
        if self.tokens is not None:
            found |= self.read_texts(model)
        if self.openings:
            said = generate_answers(
                model, self.tokenizer, self.openings, max_new_tokens=self.opening_tokens, batch_size=self.batch_size,
                one_line=False,
            )  # fmt: skip
            found["openings"] = said[["n_tokens", "ended", "repetition"]].assign(item=range(len(said)))
        return found

    def _questions(self, model: PreTrainedModel) -> pd.DataFrame:
        asked = self.questions
        answers, told = (
            score_answers(
                model, self.tokenizer, as_task(asked, prompt=prompt), max_new_tokens=self.max_new_tokens,
                batch_size=self.batch_size,
            )
            for prompt in ("prompt", "context")
        )  # fmt: skip
        chosen, shown = (
            score_task(model, self.tokenizer, as_task(asked, prompt=prompt), batch_size=self.batch_size)
            for prompt in ("prompt", "context")
        )
        return pd.DataFrame(
            {
                "item": asked["item"].to_numpy(), "task": asked["task"].to_numpy(),
                "choice": chosen["correct"].astype(float), "first_token": answers["first_token"].astype(float),
                "answer": answers["normalised"].astype(float), "exact": answers["exact"].astype(float),
                "choice_in_context": shown["correct"].astype(float),
                "answer_in_context": told["normalised"].astype(float),
                "chance": 1 / asked["choices"].map(len).to_numpy(), "prediction": chosen["prediction"],
                "rank": answers["rank"], "log_likelihood": answers["log_likelihood"],
                "n_tokens": answers["n_tokens"], "repetition": answers["repetition"],
            }
        )  # fmt: skip

    def _task(self, model: PreTrainedModel, task: Task) -> pd.DataFrame:
        scored = score_task(model, self.tokenizer, task, batch_size=self.batch_size)
        chance = 1 / task.items["choices"].map(len).to_numpy()
        about = {"task": task.name, "item": range(len(scored)), "chance": chance}
        return pd.DataFrame({**about, "score": scored["correct"].to_numpy(dtype=float)})

    def read_texts(self, model: PreTrainedModel) -> dict[str, pd.DataFrame]:
        """Only the frames "texts" and "words"."""
        first = not self._dense
        texts, words = [], []
        with eval_mode(model):
            for item, window in enumerate(self.tokens):
                logs = model(input_ids=window[None].to(device_of(model)), use_cache=False).logits[0, :-1].float()
                logs = logs.log_softmax(-1).cpu()
                if first:
                    self._dense.append(keep_likeliest(logs))
                losses = -logs.gather(1, window[1:, None])[:, 0]
                kl = divergence(self._dense[item], logs).mean().item()
                texts.append({"item": item, "loss": losses.double().mean().item(), "kl": kl})
                if self.bins is not None:
                    words += _by_bin(item, losses, self.bins[window[1:].numpy()])
        found = {"texts": pd.DataFrame(texts)}
        return found | ({"words": pd.DataFrame(words)} if self.bins is not None else {})


def _by_bin(item: int, losses: Float[Tensor, " n"], bins: Int64[np.ndarray, " n"]) -> list[dict]:
    sums, counts = np.bincount(bins, weights=losses.numpy()), np.bincount(bins)
    places = np.flatnonzero(counts)
    return [{"item": item, "bin": int(p), "loss": float(sums[p]), "count": int(counts[p])} for p in places]


def add_arm(frames: Mapping[str, pd.DataFrame], **about: object) -> dict[str, pd.DataFrame]:
    """The frames of a reading with further columns.

    >>> add_arm(reader(model), arm="dense", draw=-1)
    """
    return {name: frame.assign(**about) for name, frame in frames.items()}


def frequency_bins(
    reference: Int64[Tensor, "n seq_len"], vocabulary: int, evaluated: Int64[Tensor, "m seq_len"], *, n_bins: int
) -> Int64[np.ndarray, " vocabulary"]:
    """Of every token id a bin by how often it stands in a reference text, 0 the rarest.

    >>> frequency_bins(train_tokens, len(tokenizer), test_tokens, n_bins=5)

    The bins hold about equally many of the evaluated tokens; equally frequent ids share a bin.
    """
    counts = np.bincount(reference.flatten().numpy(), minlength=vocabulary)
    seen = counts[evaluated[:, 1:].flatten().numpy()]
    edges = np.unique(np.quantile(seen, np.arange(1, n_bins) / n_bins))
    return np.searchsorted(edges, counts, side="left").astype(np.int64)
