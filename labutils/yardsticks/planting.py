"""A lab model that reads on: facts told known numbers of times, and questions whose answer stands in front of them.

The lab models answer from memory even where a sentence before the question says otherwise: they have never had to read.
So the text that plants the facts also teaches reading; only then can forgetting be told from not reading.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.seeding import generator
from labutils.models.structure import check_causal
from labutils.training.steps import minimise, trainable
from labutils.training.text_loss import text_loss
from labutils.world.documents import write_documents
from labutils.world.planted import RELATIONS, PlantedFact, plant_facts, reading_items, statements
from labutils.world.tasks import write_items

ASKED = ("qa/birthplaces", "qa/occupations")  # whose training items keep the form of a question in mind
BATCH = 16


@dataclass(frozen=True)
class Planted:
    """What a model was taught.

    Attributes:
        facts: a row per fact: ``entity, pronoun, relation, value, occurrences, statement, prompt, choices, gold``.
        losses: of the training's steps.
        tokens: read in all.
    """

    facts: pd.DataFrame
    losses: list[float]
    tokens: int


def plant(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    occurrences: Sequence[int],
    n_each: int,
    n_reading: int,
    n_replayed: int,
    relations: Sequence[str] = RELATIONS,
    seed: int = 0,
    seq_len: int = 64,
    reading_rate: float = 2e-3,
    planting_rate: float = 1.5e-3,
) -> Planted:
    """Train a lab model to read, and then on planted facts, in place; all its weights.

    >>> plant(model, tokenizer, occurrences=[2, 8, 32, 128], n_each=24, n_reading=8000, n_replayed=300).facts

    Read are, once: the `reading_items`; then, mixed and at a learning rate of its own, every fact as often as it says
    (`statements`), an eighth as many reading items on others, `n_replayed` documents of the encyclopedic register and
    as many items of closed-book tasks, so that what the model knew is not lost more than can be helped.

    Args:
        occurrences, n_each, relations: as for `plant_facts`.
        n_reading: questions with their answer in front.
        seq_len: tokens of a training window.
        reading_rate, planting_rate: highest learning rates.

    Raises:
        ValueError: an encoder, counts below zero, nothing to plant, or a loss that is not finite.
    """
    check_causal(model, "planted facts")
    if min(n_reading, n_replayed) < 0 or seq_len < 2:
        asked = f"n_reading={n_reading}, n_replayed={n_replayed}, seq_len={seq_len}"
        raise ValueError(f"{asked}: give counts from 0 on, and windows of at least two tokens")
    sizes = {"n_each": n_each, "n_reading": n_reading, "n_replayed": n_replayed, "seq_len": seq_len}
    planted, stages = planting_windows(tokenizer, occurrences=occurrences, relations=relations, seed=seed, **sizes)
    rates = {"reading": reading_rate, "planting": planting_rate}
    losses, tokens = [], 0
    torch.manual_seed(seed)
    for windows, stage in stages:
        batches = list(windows.to(model.device).split(BATCH))
        with trainable(model, "full", rank=0, seed=seed) as parameters:
            losses += minimise(
                parameters, batches, lambda batch: text_loss(model, batch),
                learning_rate=rates[stage], steps=len(batches),
            )  # fmt: skip
        tokens += sum(batch.numel() for batch in batches)
    return Planted(pd.DataFrame([asdict(fact) for fact in planted]), losses, tokens)


def planting_windows(
    tokenizer: PreTrainedTokenizerBase,
    *,
    occurrences: Sequence[int],
    n_each: int,
    n_reading: int,
    n_replayed: int,
    relations: Sequence[str] = RELATIONS,
    seed: int = 0,
    seq_len: int = 64,
) -> tuple[list[PlantedFact], list[tuple[Int64[Tensor, "n seq_len"], str]]]:
    """The facts, and what `plant` reads: windows of each of its stages, "reading" and "planting"; none is empty.

    >>> facts, stages = planting_windows(tokenizer, occurrences=[2], n_each=4, n_reading=40, n_replayed=4)
    """
    planted = plant_facts(tuple(occurrences), n_each, relations=tuple(relations), seed=seed)
    first, second = (
        reading_items(n, relations=tuple(relations), seed=stage)
        for n, stage in ((n_reading, seed), (n_reading // 8, seed + 10**6))
    )
    stages = [(first, "reading"), (_planting_texts(planted, n_replayed, seed) + second, "planting")]
    return planted, [(_windows(texts, tokenizer, seq_len, seed), name) for texts, name in stages if texts]


def _planting_texts(planted: list[PlantedFact], n_replayed: int, seed: int) -> list[str]:
    texts = statements(planted, seed=seed) + write_documents("encyclopedic", n_replayed, seed=1000 + seed)
    for task in ASKED:
        items = write_items(task, n_replayed // len(ASKED), seed=1000 + seed, split="train").to_dict("records")
        texts += [f"{item['prompt']} {item['choices'][item['gold']]}" for item in items]
    return texts


def _windows(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, seq_len: int, seed: int
) -> Int64[Tensor, "n seq_len"]:
    """Texts in random order, each with its end, joined and cut into windows that begin with the start of a text."""
    order = generator(seed, "planting order").permutation(len(texts))
    rows = tokenizer([texts[place] for place in order], add_special_tokens=False, verbose=False)["input_ids"]
    stream = list(chain.from_iterable([*row, tokenizer.eos_token_id] for row in rows))
    width = seq_len - 1
    pieces = np.array(stream[: len(stream) // width * width]).reshape(-1, width)
    starts = np.full((len(pieces), 1), tokenizer.bos_token_id)
    return torch.from_numpy(np.hstack([starts, pieces])).long()
