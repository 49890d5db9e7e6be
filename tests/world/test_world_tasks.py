"""The tasks of the controlled language: balanced and graded items, disjoint splits, answers that are the facts."""

from collections import Counter

import numpy as np
import pytest

from labutils import world
from labutils.world import facts

CHOICE_TASKS = [task for task, spec in world.TASKS.items() if spec.kind == "choice"]
SIMILARITY_TASKS = [task for task, spec in world.TASKS.items() if spec.kind == "similarity"]


def test_there_are_six_tasks_in_each_of_four_families():
    assert Counter(spec.family for spec in world.TASKS.values()) == dict.fromkeys(world.FAMILIES, 6)
    assert len(SIMILARITY_TASKS) == 2


@pytest.mark.parametrize("task", CHOICE_TASKS)
def test_choice_items_are_valid_and_balanced(task):
    items = world.write_items(task, 150, seed=1, split="train")
    assert list(items.columns) == ["item", "prompt", "choices", "gold"]
    assert items["prompt"].is_unique and list(items["item"]) == list(range(150))
    n_choices = round(1 / world.TASKS[task].chance)
    for choices, gold in zip(items["choices"], items["gold"], strict=True):
        assert len(choices) == len(set(choices)) == n_choices
        assert 0 <= gold < n_choices
    frequencies = items["gold"].value_counts(normalize=True)
    assert len(frequencies) == n_choices
    assert frequencies.max() < world.TASKS[task].chance + 0.15


@pytest.mark.parametrize("task", SIMILARITY_TASKS)
def test_similarity_items_are_graded(task):
    items = world.write_items(task, 200, split="train")
    assert list(items.columns) == ["item", "sentence1", "sentence2", "score"]
    assert set(items["score"]) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    overlap = [len({*a.split()} & {*b.split()}) for a, b in zip(items["sentence1"], items["sentence2"], strict=True)]
    assert np.corrcoef(overlap, items["score"])[0, 1] > 0.8
    same = items[items["score"] == 5]
    assert (same["sentence1"] == same["sentence2"]).all()


@pytest.mark.parametrize("task", world.TASKS)
def test_items_repeat_and_no_item_is_in_both_splits(task):
    first = world.write_items(task, 40, seed=5, split="test")
    assert first.equals(world.write_items(task, 40, seed=5, split="test"))
    keys = [column for column in ("prompt", "sentence1", "sentence2") if column in first]
    train = world.write_items(task, 100, seed=5, split="train")
    assert not set(map(tuple, first[keys].values)) & set(map(tuple, train[keys].values))


@pytest.mark.parametrize("task", [task for task, spec in world.TASKS.items() if spec.splits_by == "entity"])
def test_closed_book_items_ask_about_entities_of_their_split(task):
    for split, other in (("train", "test"), ("test", "train")):
        strangers = {entity.name for entity in (*facts.people(other), *facts.drugs(other))}
        prompts = " ".join(world.write_items(task, 200, split=split)["prompt"])
        assert not any(stranger in prompts for stranger in strangers)


def test_closed_book_answers_are_the_facts():
    people = {person.name: person for person in facts.people()}
    items = world.write_items("qa/birthplaces", 50)
    for prompt, choices, gold in zip(items["prompt"], items["choices"], items["gold"], strict=True):
        asked = next(person for person in people if person in prompt)
        assert choices[gold] == people[asked].birthplace


def test_answers_in_context_are_in_the_context():
    for task in ("qa/whereabouts", "qa/distant", "qa/trials"):
        items = world.write_items(task, 60, split="train")
        assert all(
            c[g].removeprefix("the ") in p
            for p, c, g in zip(items["prompt"], items["choices"], items["gold"], strict=True)
        )


def test_a_task_says_when_it_has_no_more_items():
    with pytest.raises(ValueError, match="different items"):
        world.write_items("qa/treatments", 5000)
    with pytest.raises(LookupError, match="Did you mean 'qa/treatments'"):
        world.write_items("qa/treatment", 5)
