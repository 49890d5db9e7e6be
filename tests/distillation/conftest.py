"""A classification and a similarity task of forty words, and tiny backbones that can read them."""

from pathlib import Path

import numpy as np
import pytest
from helpers import TINY_WORDS, word_tokenizer, write_jsonl

from labutils.distillation import TaskData, load_task_data

GOOD, BAD, OTHER = TINY_WORDS[:8], TINY_WORDS[8:16], TINY_WORDS[16:]
SIZES = {"n_train": 24, "n_validation": 12, "n_test": 16}


@pytest.fixture(scope="session")
def task_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Sources of two tasks: which kind of word a text holds, and how many words two sentences share."""
    folder: Path = tmp_path_factory.mktemp("tasks")
    draws = np.random.default_rng(0)
    texts = []
    for number in range(80):
        label = number % 2
        mood = draws.choice(GOOD if label else BAD, 2)
        rest = draws.choice(OTHER, draws.integers(1, 4))
        texts.append({"text": " ".join([*rest, *mood]), "label": label, "label_name": ["bad", "good"][label]})
    pairs = []
    for number in range(80):
        shared = number % 4
        drawn = draws.permutation(TINY_WORDS)[: 6 - shared].tolist()
        second = [*drawn[:shared], *drawn[3:], *draws.choice(TINY_WORDS, number % 3)]
        pairs.append({"sentence1": " ".join(drawn[:3]), "sentence2": " ".join(second), "score": float(shared)})
    return {
        "choice": write_jsonl(folder / "moods.jsonl", texts),
        "similarity": write_jsonl(folder / "pairs.jsonl", pairs),
    }


@pytest.fixture(scope="session")
def moods(task_files: dict[str, str]) -> TaskData:
    """The classification."""
    return load_task_data(task_files["choice"], word_tokenizer(TINY_WORDS, bos_token="<s>"), **SIZES)


@pytest.fixture(scope="session")
def pairs(task_files: dict[str, str]) -> TaskData:
    """The regression."""
    return load_task_data(task_files["similarity"], word_tokenizer(TINY_WORDS, bos_token="<s>"), **SIZES)
