"""Calibration sets: names and mixtures, diversity and similarity by hand, and the choice of covering sequences."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import TINY_WORDS, word_tokenizer, write_jsonl

from labutils.data.corpora import load_tokens
from labutils.data.tasks import Task, load_task
from labutils.sweeps.calibration_sets import (
    calibration_sources,
    covering_calibration,
    describe_calibration,
    greedy_cover,
    load_calibration,
    pack_texts,
    random_tokens,
    short_calibration,
    task_texts,
)
from labutils.sweeps.text_vectors import diversity, embed_texts, task_similarity


@pytest.fixture
def tokenizer():
    return word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture
def sources(tmp_path) -> dict[str, str]:
    """Two texts and a task of tiny words, as files."""
    generator = np.random.default_rng(0)
    files = {}
    for name, low in (("first", 0), ("second", 20)):
        lines = [" ".join(f"w{number}" for number in generator.integers(low, low + 20, size=12)) for _ in range(40)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        files[name] = f"file:{tmp_path / name}.txt"
    rows = [{"question": f"w{n} w30", "choices": ["w31", "w32"], "answer": n % 2} for n in range(20)]
    files["task"] = write_jsonl(tmp_path / "task.jsonl", rows)
    return files


def test_names_mean_text_tasks_random_tokens_and_mixtures(tokenizer, sources):
    sizes = {"n_sequences": 6, "seq_len": 10}
    text = load_calibration(sources["first"], tokenizer, **sizes, seed=3)
    assert text.equal(load_tokens(sources["first"], tokenizer, **sizes, seed=3))
    mixed = load_calibration(
        f"{sources['first']} + {sources['second']} + random + {sources['first']}", tokenizer, **sizes
    )
    assert mixed.shape == (6, 10) and mixed.dtype == torch.int64
    assert mixed[:2].equal(load_tokens(sources["first"], tokenizer, n_sequences=2, seq_len=10))
    assert mixed[2:4].equal(load_tokens(sources["second"], tokenizer, n_sequences=2, seq_len=10))
    beside = load_calibration(f"{sources['first']} & {sources['second']} + random", tokenizer, **sizes, seed=3)
    assert beside.text.equal(text) and beside.general.shape == (6, 10)
    assert beside.general[:3].equal(load_tokens(sources["second"], tokenizer, n_sequences=3, seq_len=10, seed=3))
    with pytest.raises(ValueError, match="joins 3 texts"):
        load_calibration(" & ".join([sources["first"]] * 3), tokenizer, **sizes)
    from_task = load_calibration(f"task:{sources['task']}", tokenizer, **sizes)
    words = set(tokenizer.convert_ids_to_tokens(from_task.flatten().tolist()))
    assert {"w30", "w31"} <= words and (from_task[:, 0] == tokenizer.bos_token_id).all()
    assert not load_calibration(sources["first"], tokenizer, **sizes, seed=4).equal(text)
    with pytest.raises(ValueError, match="too few for the 2 parts"):
        load_calibration("random + random", tokenizer, n_sequences=1, seq_len=8)
    with pytest.raises(ValueError, match="must start with"):
        load_calibration("nothing:here", tokenizer, **sizes)


def test_texts_are_packed_as_documents_are(tokenizer):
    packed = pack_texts(["w1 w2 w3", "w4 w5"], tokenizer, n_sequences=2, seq_len=6)
    ids = tokenizer.convert_tokens_to_ids(["w1", "w2", "w3", "</s>", "w4", "w5", "</s>", "w1", "w2", "w3"])
    assert packed.tolist() == [[0, *ids[:5]], [0, *ids[5:10]]]
    for texts, length in (([], 6), (["w1"], 1)):
        with pytest.raises(ValueError, match="cannot be made"):
            pack_texts(texts, tokenizer, n_sequences=2, seq_len=length)


def test_random_tokens_are_ordinary_and_even(tokenizer):
    tokens = random_tokens(tokenizer, n_sequences=200, seq_len=21, seed=1)
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    counts = torch.bincount(tokens[:, 1:].flatten(), minlength=len(tokenizer))
    assert not counts[tokenizer.all_special_ids].any()
    ordinary = counts[[token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]]
    assert ordinary.min() > 50 and ordinary.max() < 150
    assert tokens.equal(random_tokens(tokenizer, n_sequences=200, seq_len=21, seed=1))
    assert not tokens.equal(random_tokens(tokenizer, n_sequences=200, seq_len=21, seed=2))
    encoder = word_tokenizer(TINY_WORDS, cls_token="[CLS]", sep_token="[SEP]")
    framed = random_tokens(encoder, n_sequences=2, seq_len=5)
    assert framed[:, 0].tolist() == [0, 0] and framed[:, -1].tolist() == [1, 1]
    with pytest.raises(ValueError, match="no room"):
        random_tokens(tokenizer, n_sequences=2, seq_len=1)


def test_diversity_and_similarity_equal_slow_loops():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(9, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [float(a @ b) for a, b in combinations(vectors, 2)]
    assert diversity(vectors) == pytest.approx(1 - sum(pairs) / len(pairs))
    assert diversity(np.repeat(vectors[:1], 5, axis=0)) == pytest.approx(0)
    assert diversity(np.eye(4)) == pytest.approx(1)
    slow = [max(float(item @ text) for text in vectors[:5]) for item in vectors[5:]]
    assert task_similarity(vectors[:5], vectors[5:]) == pytest.approx(sum(slow) / len(slow))
    assert task_similarity(vectors, vectors) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least two"):
        diversity(vectors[:1])
    with pytest.raises(ValueError, match="at least one calibration text"):
        task_similarity(vectors[:0], vectors)


def test_texts_are_embedded_as_unit_vectors(tiny_bert, tokenizer):
    texts = ["w1 w2", "w1 w3 w3", "w4"]
    vectors = embed_texts(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[2] == 0 < vectors[0] @ vectors[1] < 1
    both = embed_texts(["w9", "w1"], known=texts)
    assert both.shape == (2, 4) and not both[0].any() and np.linalg.norm(both[1]) == pytest.approx(1)
    tokenizer.cls_token, tokenizer.sep_token = "<s>", "</s>"
    states = embed_texts(texts, encoder=(tiny_bert, tokenizer))
    assert states.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(states, axis=1), 1)


def test_every_set_draw_and_task_is_described(tokenizer, sources):
    task = load_task(f"{sources['task']}#all")
    pairs = Task(
        "pairs",
        "topic",
        "similarity",
        pd.DataFrame([{"item": 0, "sentence1": "w1 w2", "sentence2": "w3", "score": 1.0}]),
    )
    names = [sources["first"], sources["second"], "random"]
    frame = describe_calibration(names, [task, pairs], tokenizer, n_draws=2, n_sequences=8, seq_len=12)
    assert (
        len(frame) == 3 * 2 * 2 and frame["diversity"].between(0, 1).all() and frame["similarity"].between(0, 1).all()
    )
    near = frame[frame["task"] == "pairs"].groupby("calibration")["similarity"].mean()
    assert near[sources["first"]] > near[sources["second"]]  # w1 to w3 occur in the first text only
    assert task_texts(pairs) == ["w1 w2 w3"]


def test_the_greedy_cover_equals_a_slow_loop_and_comes_near_the_best():
    generator = np.random.default_rng(0)
    counts = generator.poisson(0.7, size=(9, 4)).astype(float)
    weights = np.array([1.0, 0.5, 0.0, 2.0])

    def value(rows):
        return sum(weights[c] * np.log1p(sum(counts[row, c] for row in rows)) for c in range(4))

    slow = []
    for _ in range(4):
        slow.append(max((row for row in range(9) if row not in slow), key=lambda row: value([*slow, row])))  # noqa: B023
    found = greedy_cover(counts, weights, 4)
    assert found == slow and len(set(found)) == 4
    best = max(value(rows) for rows in combinations(range(9), 4))
    assert value(found) >= (1 - 1 / np.e) * best
    assert greedy_cover(np.zeros((3, 2)), np.ones(2), 2) == [0, 1]


def test_covering_sequences_hold_what_would_be_lost(tokenizer):
    texts = ["w1 w2 w3", "w9 w2 w3", "w1 w1 w1", "w8 w9 w9", "w5 w6 w7", "w8 w8 w4"]
    pool = torch.tensor([[0, *tokenizer.convert_tokens_to_ids(text.split())] for text in texts])
    concepts = {"nine": ["w9"], "eight": ["w8"], "one": ["w1"]}
    chosen = covering_calibration(pool, tokenizer, concepts, {"nine": 0.4, "eight": 0.3, "one": -0.2}, n_sequences=2)
    assert chosen.tolist() == [pool[3].tolist(), pool[5].tolist()]
    with pytest.raises(LookupError, match="no words for the concept 'ten'"):
        covering_calibration(pool, tokenizer, concepts, {"ten": 1.0}, n_sequences=2)
    for losses, n in (({"nine": -1.0}, 2), ({"nine": 1.0}, 7), ({}, 2)):
        with pytest.raises(ValueError, match="cannot cover"):
            covering_calibration(pool, tokenizer, concepts, losses, n_sequences=n)


def test_sets_have_short_names_and_the_sources_they_are_made_of():
    names = ["lab:review", "task:lab:qa/trials", "lab:review + file:a/b.txt", "random", "lab:a + lab:b + lab:c"]
    assert [short_calibration(name) for name in names] == [
        "review", "task qa/trials", "review + b.txt", "random", "mixture of 3",
    ]  # fmt: skip
    assert calibration_sources(names) == ["lab:review", "lab:qa/trials", "file:a/b.txt", "lab:a", "lab:b", "lab:c"]
