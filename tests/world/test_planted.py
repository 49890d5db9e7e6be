"""Planted facts: told exactly so often, about people whom nothing else mentions, and asked for in the world's words."""

from collections import Counter

import pytest

from labutils.world import write_items
from labutils.world.facts import people
from labutils.world.planted import plant_facts, reading_items, statements, values_of


def test_every_fact_is_told_as_often_as_it_says() -> None:
    planted = plant_facts((0, 1, 4, 16), 6, seed=2)
    told = statements(planted)
    assert len(told) == 6 * 21
    for fact in planted:
        own = [text for text in told if fact.entity in text]
        assert len(own) == fact.occurrences
        assert all(fact.value in text for text in own)
    assert Counter(fact.occurrences for fact in planted) == {0: 6, 1: 6, 4: 6, 16: 6}
    assert {fact.relation for fact in planted if fact.occurrences == 4} == {"birthplace", "occupation"}


def test_nobody_is_known_and_nobody_stands_there_twice() -> None:
    surnames = [fact.entity.split()[-1] for fact in plant_facts((1, 2), 80)]
    read = [text.split()[1] for text in reading_items(50)]
    assert not set(surnames) & {person.name.split()[-1] for person in people()}
    assert len(set(surnames)) == len(surnames)
    assert not set(read) & set(surnames)


def test_questions_are_worded_as_the_tasks_of_the_world() -> None:
    for relation, task in (("birthplace", "qa/birthplaces"), ("occupation", "qa/occupations")):
        known = {person.name for person in people("test")}
        worded = set()
        for prompt in write_items(task, 60)["prompt"]:
            worded.add(next(prompt.replace(name, "…") for name in known if name in prompt))
        planted = [fact for fact in plant_facts((1,), 80) if fact.relation == relation]
        assert {fact.prompt.replace(fact.entity, "…") for fact in planted} <= worded
        assert all(fact.choices[fact.gold] == fact.value and len(set(fact.choices)) == 4 for fact in planted)
        assert all(fact.value in values_of(relation) and fact.value in fact.statement for fact in planted)


def test_whoever_reads_the_statement_knows_the_answer() -> None:
    for text in reading_items(20, seed=3):
        before, answer = text.split(" Answer: ")
        assert f"{answer}" in before.split("Question:")[0]


def test_the_same_seed_plants_the_same() -> None:
    assert plant_facts((1, 3), 5, seed=4) == plant_facts((1, 3), 5, seed=4) != plant_facts((1, 3), 5, seed=5)


@pytest.mark.parametrize(("occurrences", "n_each"), [((), 3), ((1, -1), 3), ((1,), 0)])
def test_nothing_to_plant_is_refused(occurrences: tuple, n_each: int) -> None:
    with pytest.raises(ValueError, match="give numbers from 0 on"):
        plant_facts(occurrences, n_each)
