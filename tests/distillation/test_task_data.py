"""Tasks as token rows and targets: disjoint parts, scales, batches, and refusals."""

import pytest
import torch
from helpers import TINY_WORDS, word_tokenizer, write_jsonl

from labutils.distillation import TaskData, load_task_data
from labutils.distillation.data import iterate_batches, make_batch

CPU = torch.device("cpu")
SIZES = {"n_train": 24, "n_validation": 12, "n_test": 16}


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(TINY_WORDS, bos_token="<s>")


def test_a_classification_has_classes_and_parts_that_share_no_item(moods: TaskData) -> None:
    assert moods.kind == "classification" and moods.labels == ("bad", "good") and moods.n_outputs == 2
    parts = [set(part.items) for part in (moods.train, moods.validation, moods.test)]
    assert [len(part) for part in parts] == [24, 12, 16] and len(set.union(*parts)) == 52
    assert moods.train.targets.dtype == torch.int64 and moods.chance == max(
        (moods.test.targets == label).float().mean().item() for label in (0, 1)
    )
    assert all(row[0] == 0 for row in moods.train.rows)  # <s>


def test_targets_are_the_answers_of_the_items(moods: TaskData) -> None:
    """Odd items of the file are good, even ones bad."""
    for part in (moods.train, moods.validation, moods.test):
        assert [item % 2 for item in part.items] == part.targets.tolist()


def test_a_similarity_is_standardised_by_its_training_items(pairs: TaskData, task_files, tokenizer) -> None:
    assert pairs.kind == "regression" and pairs.n_outputs == 1 and pairs.chance == 0
    assert len(pairs.train.rows) == 2 * len(pairs.train) == 48
    known = torch.cat([pairs.validation.targets, pairs.train.targets])
    assert known.mean().item() == pytest.approx(0, abs=1e-6) and known.std(correction=0).item() == pytest.approx(1)
    scores = torch.tensor([float(item % 4) for item in pairs.test.items])
    slope = (pairs.test.targets.max() - pairs.test.targets.min()) / (scores.max() - scores.min())
    assert torch.allclose(pairs.test.targets, (scores - scores[0]) * slope + pairs.test.targets[0], atol=1e-5)


def test_more_training_items_keep_the_ones_before(task_files, tokenizer) -> None:
    small = load_task_data(task_files["choice"], tokenizer, **SIZES)
    large = load_task_data(task_files["choice"], tokenizer, **(SIZES | {"n_train": 40}))
    assert large.train.take(range(24)).rows == small.train.rows
    assert large.validation.items == small.validation.items and large.test.items == small.test.items


def test_take_keeps_both_sentences_of_a_pair(pairs: TaskData) -> None:
    taken = pairs.train.take([3, 1])
    assert taken.rows == [pairs.train.rows[3], pairs.train.rows[1], pairs.train.rows[27], pairs.train.rows[25]]
    assert torch.equal(taken.targets, pairs.train.targets[[3, 1]])


def test_batches_are_padded_to_their_longest_row(pairs: TaskData) -> None:
    batch = make_batch(pairs, pairs.train, [5, 2], CPU)
    assert batch.rows == [5, 2, 29, 26]
    longest = max(len(pairs.train.rows[row]) for row in batch.rows)
    assert batch.ids.shape == batch.mask.shape == (4, longest)
    for ids, mask, row in zip(batch.ids, batch.mask, batch.rows, strict=True):
        assert ids[mask.bool()].tolist() == pairs.train.rows[row]
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)
    order = [7, 0, 3, 4, 9]
    assert [b.items for b in iterate_batches(pairs, pairs.train, order, 2, CPU)] == [[7, 0], [3, 4], [9]]


def test_long_prompts_lose_their_beginning(task_files, tokenizer, moods: TaskData) -> None:
    cut = load_task_data(task_files["choice"], tokenizer, max_length=4, **SIZES)
    for short, whole in zip(cut.test.rows, moods.test.rows, strict=True):
        assert short == [whole[0], *whole[1:][-3:]]


def test_what_cannot_be_a_task_is_refused(task_files, tokenizer, tmp_path) -> None:
    with pytest.raises(ValueError, match="same items would train and test"):
        load_task_data(task_files["choice"] + "#all", tokenizer, **SIZES)
    with pytest.raises(ValueError, match="leaves no room"):
        load_task_data(task_files["choice"], tokenizer, max_length=1, **SIZES)
    for first, second in (("choice", "similarity"), ("similarity", "choice")):
        with pytest.raises(ValueError, match=f"trains on a {first} task and tests on a {second} task"):
            load_task_data(f"{task_files[first]} → {task_files[second]}", tokenizer, **SIZES)
    with pytest.raises(ValueError, match="were asked for"):
        load_task_data(task_files["choice"], tokenizer, **(SIZES | {"n_train": 400}))
    own = [{"question": f"w{n}", "choices": [f"w{n + 1}", "w0"], "answer": 0} for n in range(400)]
    with pytest.raises(ValueError, match="needs 2 to 64"):
        load_task_data(write_jsonl(tmp_path / "own.jsonl", own), tokenizer, n_train=100, n_validation=1, n_test=4)
    rare = [{"text": "w1", "label": int(n > 90), "label_name": f"label {int(n > 90)}"} for n in range(100)]
    rare[0] |= {"label": 2, "label_name": "label 2"}
    with pytest.raises(ValueError, match="no training item has the answer 'label 1'"):
        load_task_data(write_jsonl(tmp_path / "rare.jsonl", rare), tokenizer, n_train=78, n_validation=2, n_test=20)
    equal = [{"sentence1": "w1", "sentence2": "w2", "score": 3.0}] * 40
    with pytest.raises(ValueError, match="nothing to learn"):
        load_task_data(write_jsonl(tmp_path / "equal.jsonl", equal), tokenizer, n_train=8, n_validation=4, n_test=4)
