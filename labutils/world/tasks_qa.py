"""Six question-answering tasks: three closed-book, three with the answer in the context."""

from labutils.world import facts, lexicon
from labutils.world.grammar import Clause, Phrase, english, name, sentence, the
from labutils.world.items import Choice, TaskSpec, others, shuffled
from labutils.world.registers import action, placings
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


def _where(draws: Draws, n_things: int, n_events: int) -> Choice:
    """Things are put somewhere, with other events in between; where is one of them? Wrong places come from the text."""
    told = placings(draws, n_things)
    topic = draws.pick(lexicon.topics())
    role = draws.pick(lexicon.words("roles", topic))
    clauses = [clause for _, _, clause in told] + [action(draws, topic, the(role), role) for _ in range(n_events)]
    text = " ".join(sentence(english(clause)) for clause in draws.sample(clauses, len(clauses)))
    thing, place, _ = draws.pick(told)
    wrong = [other for _, other, _ in told if other != place][:N_WRONG]
    places = [other for each in lexicon.topics() for other in lexicon.words("places", each) if other not in wrong]
    wrong += others(draws, places, place, N_WRONG - len(wrong))
    item = shuffled(draws, f"{text} Question: Where is the {thing}? Answer:", place, wrong)
    return Choice(item.prompt, tuple(f"the {choice}" for choice in item.choices), item.gold)


def whereabouts(draws: Draws, split: str) -> Choice:
    """Two things are put somewhere; where is one of them?"""
    return _where(draws, 2, 0)


def distant(draws: Draws, split: str) -> Choice:
    """Four things are put somewhere, with other events in between; where is one of them?"""
    return _where(draws, 4, 2)


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
