"""Six question-answering tasks: three closed-book, three with the answer in the context."""

from labutils.world import facts, lexicon
from labutils.world.grammar import Clause, Phrase, english, name, sentence, the
from labutils.world.items import Choice, TaskSpec, others, shuffled
from labutils.world.registers import action, at
from labutils.world.seeding import Draws

N_WRONG = 3


def _ask(draws: Draws, question: str, right: str, values: tuple[str, ...]) -> Choice:
    return shuffled(draws, f"Question: {question} Answer:", right, others(draws, values, right, N_WRONG))


def birthplaces(draws: Draws, split: str) -> Choice:
    """Where somebody was born, from memory."""
    person = draws.pick(facts.people(split))
    asked = (
        f"Where was {person.name} born?",
        f"Where does {person.name} come from?",
        f"What is the birthplace of {person.name}?",
    )
    return _ask(draws, draws.pick(asked), person.birthplace, lexicon.words("cities"))


def occupations(draws: Draws, split: str) -> Choice:
    """What somebody worked as, from memory."""
    person = draws.pick(facts.people(split))
    asked = (
        f"What does {person.name} work as?",
        f"What is the occupation of {person.name}?",
        f"What is the trade of {person.name}?",
    )
    return _ask(draws, draws.pick(asked), person.occupation, tuple(entry.occupation for entry in facts.people()))


def treatments(draws: Draws, split: str) -> Choice:
    """What a drug treats, from memory."""
    drug = draws.pick(facts.drugs(split))
    asked = (f"What does {drug.name} treat?", f"What is {drug.name} for?", f"Which condition does {drug.name} treat?")
    return _ask(draws, draws.pick(asked), drug.condition, tuple(entry.condition for entry in facts.drugs()))


def _placings(draws: Draws, n: int) -> list[tuple[str, str, str]]:
    """`n` different things put into different places, and the sentences that say so."""
    things = draws.sample([noun for kind in lexicon.words("movable") for noun in lexicon.noun_classes()[kind].nouns], n)
    places = draws.sample([place for each in lexicon.topics() for place in lexicon.words("places", each)], n)
    givens = lexicon.words("given_names", "she") + lexicon.words("given_names", "he")
    told = []
    for thing, place in zip(things, places, strict=True):
        clause = Clause(
            name(draws.pick(givens)), draws.pick(("put", "leave", "hide", "find")), the(thing), places=(at(place),)
        )
        told.append((thing, f"the {place}", sentence(english(clause))))
    return told


def _where(draws: Draws, told: list[tuple[str, str, str]], text: str) -> Choice:
    thing, place, _ = draws.pick(told)
    elsewhere = [f"the {other}" for topic in lexicon.topics() for other in lexicon.words("places", topic)]
    wrong = [other for _, other, _ in told if other != place][:N_WRONG]
    wrong += others(draws, [other for other in elsewhere if other not in wrong], place, N_WRONG - len(wrong))
    return shuffled(draws, f"{text} Question: Where is the {thing}? Answer:", place, wrong)


def whereabouts(draws: Draws, split: str) -> Choice:
    """Two things are put somewhere; where is one of them?"""
    told = _placings(draws, 2)
    return _where(draws, told, " ".join(words for _, _, words in told))


def distant(draws: Draws, split: str) -> Choice:
    """Four things are put somewhere, with other events in between; where is one of them?"""
    told = _placings(draws, 4)
    topic = draws.pick(lexicon.topics())
    role = draws.pick(lexicon.words("roles", topic))
    events = [sentence(english(action(draws, topic, the(role), role))) for _ in range(2)]
    text = " ".join(draws.sample([words for _, _, words in told] + events, 6))
    return _where(draws, told, text)


def trials(draws: Draws, split: str) -> Choice:
    """Two drugs change two measures; what did one of them change?"""
    field = draws.pick(tuple(lexicon.medical_fields().values()))
    drugs = draws.sample(facts.drugs(), 2)
    measures = [everyday for _, everyday in draws.sample(field.measures, 2)]
    verbs = [draws.pick(lexicon.pairs(draws.pick(("increase_verbs", "decrease_verbs"))))[0] for _ in range(2)]
    told = []
    for drug, verb, measure in zip(drugs, verbs, measures, strict=True):
        group = Phrase(draws.pick(lexicon.words("groups")), plural=True)
        told.append(sentence(english(Clause(name(drug.name), verb, the(measure), places=(("in", group),)))))
    asked = draws.integer(0, 1)
    wrong = [measures[1 - asked]]
    everything = [everyday for each in lexicon.medical_fields().values() for _, everyday in each.measures]
    wrong += others(draws, [measure for measure in everything if measure not in wrong], measures[asked], N_WRONG - 1)
    question = f"What did {drugs[asked].name} {verbs[asked]}?"
    choice = shuffled(draws, f"{' '.join(told)} Question: {question} Answer:", measures[asked], wrong)
    return Choice(choice.prompt, tuple(f"the {measure}" for measure in choice.choices), choice.gold)


SPECS = (
    TaskSpec("qa/birthplaces", birthplaces, "people", "where somebody was born; closed book", 0.25, splits_by="entity"),
    TaskSpec("qa/occupations", occupations, "people", "what somebody works as; closed book", 0.25, splits_by="entity"),
    TaskSpec("qa/treatments", treatments, "medicine", "what a drug treats; closed book", 0.25, splits_by="entity"),
    TaskSpec("qa/whereabouts", whereabouts, "daily life", "where a thing is; two sentences of context", 0.25),
    TaskSpec("qa/distant", distant, "daily life", "where a thing is; six sentences of context", 0.25),
    TaskSpec("qa/trials", trials, "medicine", "what a drug changed; two sentences of context", 0.25),
)
