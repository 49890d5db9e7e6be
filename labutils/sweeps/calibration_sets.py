"""Calibration sets: where their sequences come from, how diverse and how near to a task they are, how much they matter.

A calibration set is named by one string, parts joined by " + " for a mixture at equal tokens, and a domain's text by
" & " from the general text beside it, for scores that read two ("lab:biomedical & lab:encyclopedic"):

``lab:…``, ``file:…``, ``hub:…``
    text, as for `labutils.data.corpora.load_tokens` (train split).
``task:<task source>``
    train items of a task, prompts with their right answers: ``task:lab:sentiment/products``.
``random``
    token ids drawn uniformly from the vocabulary, special tokens left out.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from labutils.data.corpora import load_tokens
from labutils.data.sources import short_source
from labutils.data.tasks import Task, load_task
from labutils.data.tokens import frame_windows, join_texts, text_room
from labutils.data.words import Terms
from labutils.pruning.inputs import Calibration, CalibrationTexts
from labutils.sweeps.text_vectors import Encoder, diversity, embed_texts, task_similarity

TASK_ITEMS = 1000  # of a task whose items are written on demand


def load_calibration(
    name: str, tokenizer: PreTrainedTokenizerBase, *, n_sequences: int, seq_len: int, seed: int = 0
) -> Calibration:
    """The sequences of draw `seed` of a calibration set (n_sequences × seq_len); see the module's text for names.

    >>> load_calibration("lab:review + lab:narrative", tokenizer, n_sequences=16, seq_len=64, seed=1)

    Two texts joined by " & " are `CalibrationTexts`, each of as many sequences. A mixture takes as many sequences from
    each part, the first parts one more where it does not divide, in the order of the parts.

    Raises:
        ValueError: more parts than sequences, more than two texts, or what the loaders refuse; LookupError: a source
            that is not found.
    """
    if len(texts := name.split(" & ")) > 1:
        if len(texts) > 2:
            raise ValueError(f"{name!r} joins {len(texts)} texts by ' & '; it joins a domain's text and a general one.")
        sizes = {"n_sequences": n_sequences, "seq_len": seq_len, "seed": seed}
        domain, general = (load_calibration(text, tokenizer, **sizes) for text in texts)
        return CalibrationTexts(domain, general=general)
    parts = [part.strip() for part in name.split(" + ")]
    counts = [len(range(start, n_sequences, len(parts))) for start in range(len(parts))]
    if min(counts) == 0:
        raise ValueError(f"{n_sequences} sequences are too few for the {len(parts)} parts of {name!r}")
    found = [
        _load_part(part, tokenizer, n_sequences=count, seq_len=seq_len, seed=seed)
        for part, count in zip(parts, counts, strict=True)
    ]
    return torch.cat(found)


def _load_part(
    name: str, tokenizer: PreTrainedTokenizerBase, *, n_sequences: int, seq_len: int, seed: int
) -> Int64[Tensor, "n_sequences seq_len"]:
    if name == "random":
        return random_tokens(tokenizer, n_sequences=n_sequences, seq_len=seq_len, seed=seed)
    if not name.startswith("task:"):
        return load_tokens(name, tokenizer, n_sequences=n_sequences, seq_len=seq_len, seed=seed)
    source = name.removeprefix("task:")
    n_items = TASK_ITEMS if source.startswith("lab:") else None
    task = load_task(source, n_items=n_items, seed=seed, split="train")
    return pack_texts(task_texts(task), tokenizer, n_sequences=n_sequences, seq_len=seq_len)


def short_calibration(name: str) -> str:
    """A calibration set's name for a figure: sources without folders, a mixture of several as their number.

    >>> short_calibration("lab:review + lab:narrative")  # "review + narrative"
    """
    if " & " in name:
        return " & ".join(map(short_calibration, name.split(" & ")))
    parts = [short_source(part.strip().removeprefix("task:")) for part in name.split(" + ")]
    if len(parts) > 2:
        return f"mixture of {len(parts)}"
    task = "task " if name.startswith("task:") else ""
    return task + " + ".join(parts)


def calibration_sources(names: Iterable[str]) -> list[str]:
    """The texts and tasks that calibration sets are made of, each once; random tokens have none.

    >>> calibration_sources(["lab:review + task:lab:qa/birthplaces", "random"])
    """
    parts = [part.strip().removeprefix("task:") for name in names for part in name.replace(" & ", " + ").split(" + ")]
    return [part for part in dict.fromkeys(parts) if part != "random"]


def task_texts(task: Task) -> list[str]:
    """Every item as a text: the prompt with its right answer, or both sentences of a pair.

    >>> task_texts(lab.load_task("lab:sentiment/products", n_items=3))
    """
    items = task.items
    if task.kind == "similarity":
        return [f"{row.sentence1} {row.sentence2}" for row in items.itertuples()]
    return [f"{row.prompt} {row.choices[row.gold]}" for row in items.itertuples()]


def pack_texts(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, n_sequences: int, seq_len: int
) -> Int64[Tensor, "n_sequences seq_len"]:
    """Texts joined by the end-of-text token (or a newline) into windows, as `load_tokens` does with documents.

    Texts are repeated from the first where they are too short; ValueError when they hold no tokens at all.
    """
    width, stream = text_room(tokenizer, seq_len), join_texts(tokenizer, list(texts))
    if not stream or width < 1 or n_sequences < 1:
        raise ValueError(f"{n_sequences} sequences of {seq_len} tokens cannot be made of {len(stream)} tokens of text")
    body = np.resize(np.array(stream, dtype=np.int64), (n_sequences, width))
    return frame_windows(tokenizer, torch.from_numpy(body))


def random_tokens(
    tokenizer: PreTrainedTokenizerBase, *, n_sequences: int, seq_len: int, seed: int = 0
) -> Int64[Tensor, "n_sequences seq_len"]:
    """Uniformly random ordinary tokens between the model's special tokens: calibration without any language."""
    width = text_room(tokenizer, seq_len)
    if width < 1 or n_sequences < 1:
        raise ValueError(f"n_sequences={n_sequences} and seq_len={seq_len} leave no room for tokens")
    ordinary = np.array(sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)))
    body = np.random.default_rng(seed).choice(ordinary, size=(n_sequences, width)).astype(np.int64)
    return frame_windows(tokenizer, torch.from_numpy(body))


def describe_calibration(
    names: Sequence[str], tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase, *, n_draws: int, n_sequences: int,
    seq_len: int, encoder: Encoder | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Diversity of every draw of every calibration set, and its similarity to every task.

    >>> describe_calibration(["lab:review", "random"], tasks, tokenizer, n_draws=2, n_sequences=16, seq_len=64)

    A calibration text is one sequence, decoded; a task's texts are its prompts or sentences, without answers.

    Returns:
        ``calibration, draw, task, diversity, similarity``.
    """
    about = {task.name: _questions(task) for task in tasks}
    texts = {}
    for name in names:
        for draw in range(n_draws):
            tokens = load_calibration(name, tokenizer, n_sequences=n_sequences, seq_len=seq_len, seed=draw)
            texts[name, draw] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    known = [text for group in (*texts.values(), *about.values()) for text in group]
    items = {name: embed_texts(questions, encoder=encoder, known=known) for name, questions in about.items()}
    rows = []
    for (name, draw), group in texts.items():
        vectors = embed_texts(group, encoder=encoder, known=known)
        spread = diversity(vectors)
        for task, others in items.items():
            similarity = task_similarity(vectors, others)
            rows.append(
                {"calibration": name, "draw": draw, "task": task, "diversity": spread, "similarity": similarity}
            )
    return pd.DataFrame(rows)


def _questions(task: Task) -> list[str]:
    if task.kind == "similarity":
        return task_texts(task)
    return task.items["prompt"].tolist()


def covering_calibration(
    pool: Int64[Tensor, "pool seq_len"],
    tokenizer: PreTrainedTokenizerBase,
    concepts: Mapping[str, Sequence[str]],
    losses: Mapping[str, float],
    *,
    n_sequences: int,
) -> Int64[Tensor, "n_sequences seq_len"]:
    """Sequences of a pool that hold the words of those concepts which pruning would lose.

    >>> covering_calibration(pool, tokenizer, lab.world.CONCEPTS, losses, n_sequences=16)

    Sequences are chosen one by one so as to maximise Σ_c loss_c · log(1 + occurrences of c's words); the greedy choice
    reaches at least 1 − 1/e of the best possible value (Nemhauser, Wolsey & Fisher 1978). At equal tokens it is to be
    compared with a random choice from the same pool.

    Args:
        concepts: concept → its words.
        losses: concept → how much of it pruning would lose, as `concept_drops` tells of a trial pruning; what would not
            be lost (0 or less) needs no cover.

    Raises:
        ValueError: fewer sequences in the pool than asked for, or nothing to cover.
        LookupError: a loss of a concept without words.
    """
    if missing := [concept for concept in losses if concept not in concepts]:
        raise LookupError(f"there are no words for the concept {missing[0]!r}; known: {', '.join(concepts)}")
    weights = np.array([max(0.0, float(loss)) for loss in losses.values()])
    if not 1 <= n_sequences <= len(pool) or not weights.sum() > 0:
        raise ValueError(
            f"{n_sequences} of {len(pool)} sequences cannot cover {len(weights)} concepts of which "
            f"{int((weights > 0).sum())} would be lost: ask for no more than the pool holds, and cover what is lost"
        )
    texts = tokenizer.batch_decode(pool, skip_special_tokens=True)
    terms = [Terms(concepts[concept]) for concept in losses]
    counts = np.array([[len(each.find(text)) for each in terms] for text in texts], dtype=float)
    return pool[greedy_cover(counts, weights, n_sequences)]


def greedy_cover(
    counts: Float[np.ndarray, "pool concepts"], weights: Float[np.ndarray, " concepts"], n: int
) -> list[int]:
    """`n` rows chosen one by one, each adding most to Σ_c weight_c · log(1 + Σ counts of c); ties go to the first."""
    covered, chosen = np.zeros(len(weights)), []
    free = np.ones(len(counts), dtype=bool)
    for _ in range(n):
        gains = (np.log1p(covered + counts) - np.log1p(covered)) @ weights
        best = int(np.where(free, gains, -np.inf).argmax())
        chosen.append(best)
        free[best] = False
        covered += counts[best]
    return chosen
