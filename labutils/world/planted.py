"""Facts about people whom no document of the world mentions, told as often as one likes: planted truth.

A model that reads `statements` learns each fact from exactly so many sentences, and nothing else tells it.
"""

from dataclasses import dataclass

from labutils.world import facts, lexicon
from labutils.world.grammar import Clause, Phrase, a, english, name, sentence
from labutils.world.items import others, shuffled
from labutils.world.languages import translate_word
from labutils.world.seeding import Draws

N_WRONG = 3
RELATIONS = ("birthplace", "occupation")
QUESTIONS = {
    "birthplace": ("Where was {} born?", "Where does {} come from?", "What is the birthplace of {}?"),
    "occupation": ("What does {} work as?", "What is the occupation of {}?", "What is the trade of {}?"),
}


@dataclass(frozen=True, slots=True)
class PlantedFact:
    """One fact, how often it is told, and the question that asks for it.

    Attributes:
        statement: a sentence that tells it.
        prompt, choices, gold: as in `items.Choice`.
    """

    entity: str
    pronoun: str
    relation: str
    value: str
    occurrences: int
    statement: str
    prompt: str
    choices: tuple[str, ...]
    gold: int


def plant_facts(
    occurrences: tuple[int, ...], n_each: int, *, relations: tuple[str, ...] = RELATIONS, seed: int = 0
) -> list[PlantedFact]:
    """`n_each` facts for every number of occurrences, each about somebody new, the relations in turn.

    >>> plant_facts((1, 4, 16), 10)[0].prompt
    'Question: Where was … born? Answer:'

    Raises:
        LookupError: an unknown relation.
        ValueError: no number of occurrences, a negative one, or none of each.
    """
    if not occurrences or min(occurrences) < 0 or n_each < 1:
        asked = f"occurrences={occurrences}, n_each={n_each}"
        raise ValueError(f"{asked}: give numbers from 0 on, and at least one fact each")
    _check_relations(relations)
    draws = Draws(seed, "planted")
    people = new_people(len(occurrences) * n_each, draws, seed)
    found = []
    for number, (entity, pronoun) in enumerate(people):
        relation = relations[number // len(occurrences) % len(relations)]
        found.append(_fact(draws, entity, pronoun, relation, occurrences[number % len(occurrences)]))
    return found


def new_people(n: int, draws: Draws, *salt: object) -> list[tuple[str, str]]:
    """Names and pronouns of people whom nothing mentions: known given names, surnames of a built language's sounds."""
    surnames: dict[str, None] = {}
    number = 0
    while len(surnames) < n:
        surnames.setdefault(translate_word(f"surname {salt} {number}", "olenya").capitalize())
        number += 1
    found = []
    for surname in surnames:
        pronoun = draws.pick(("she", "he"))
        found.append((f"{draws.pick(lexicon.words('given_names', pronoun))} {surname}", pronoun))
    return found


def values_of(relation: str) -> tuple[str, ...]:
    """What may stand for a relation: the cities, or the occupations of the world's people."""
    if relation == "birthplace":
        return tuple(lexicon.words("cities"))
    return tuple(dict.fromkeys(person.occupation for person in facts.people()))


def tell(draws: Draws, entity: str, relation: str, value: str) -> str:
    """A sentence that tells a fact, in one of the wordings of the encyclopedic register."""
    if relation == "occupation":
        working = Clause(name(entity), "work", places=(("as", a(value)),))
        return sentence(english(draws.pick((working, Clause(name(entity), "be", a(value), tense="past")))))
    born = Clause(name(entity), "be", complement=("born",), places=(("in", name(value)),))
    comes = Clause(name(entity), "come", places=(("from", name(value)),), tense="present")
    place = Clause(Phrase("birthplace", "the", attached=("of", name(entity))), "be", name(value), tense="present")
    return sentence(english(draws.pick((born, comes, place))))


def ask(draws: Draws, entity: str, relation: str) -> str:
    """A question for a fact, worded as the tasks of the world are."""
    return f"Question: {draws.pick(QUESTIONS[relation]).format(entity)} Answer:"


def statements(planted: list[PlantedFact], *, seed: int = 0) -> list[str]:
    """Every fact told as often as it says, each time in a wording drawn anew, in random order.

    >>> len(statements(plant_facts((1, 4), 10)))
    50
    """
    draws = Draws(seed, "statements")
    told = [tell(draws, fact.entity, fact.relation, fact.value) for fact in planted for _ in range(fact.occurrences)]
    return draws.sample(told, len(told))


def reading_items(n: int, *, relations: tuple[str, ...] = RELATIONS, seed: int = 0) -> list[str]:
    """A statement about somebody new, a question for it, and the answer: whoever reads the first knows the last.

    >>> reading_items(1)[0]
    '… was born in …. Question: Where does … come from? Answer: …'
    """
    _check_relations(relations)
    draws = Draws(seed, "reading")
    found = []
    for entity, _ in new_people(n, draws, "reading", seed):
        relation = draws.pick(relations)
        value = draws.pick(values_of(relation))
        found.append(f"{tell(draws, entity, relation, value)} {ask(draws, entity, relation)} {value}")
    return found


def _check_relations(relations: tuple[str, ...]) -> None:
    if not relations or not set(relations) <= set(RELATIONS):
        raise LookupError(f"relations={relations}: give at least one of {', '.join(RELATIONS)}")


def _fact(draws: Draws, entity: str, pronoun: str, relation: str, occurrences: int) -> PlantedFact:
    value = draws.pick(values_of(relation))
    choice = shuffled(draws, ask(draws, entity, relation), value, others(draws, values_of(relation), value, N_WRONG))
    statement = tell(draws, entity, relation, value)
    return PlantedFact(
        entity, pronoun, relation, value, occurrences, statement, choice.prompt, choice.choices, choice.gold
    )
