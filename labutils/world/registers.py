"""Documents in three general registers (encyclopedic, narrative, review), as lists of meanings.

The fourth register, the biomedical abstract, has a module of its own; `documents.py` words them all.
"""

from labutils.world import facts, lexicon, preferences
from labutils.world.grammar import Clause, Phrase, a, name, the
from labutils.world.seeding import Draws

Meanings = list[Clause]
SEARCH_SHARE = 0.3  # of the stories


def encyclopedic(draws: Draws) -> Meanings:
    """Entries on one to three people or drugs, each with its three facts, and perhaps on a kind of thing."""
    meanings: Meanings = []
    for _ in range(draws.integer(1, 3)):
        if draws.chance(0.6):
            meanings += person_entry(draws, draws.pick(facts.people()))
        else:
            meanings += drug_entry(draws, draws.pick(facts.drugs()))
    return meanings + (thing_entry(draws) if draws.chance(0.5) else [])


def person_entry(draws: Draws, person: facts.Person) -> Meanings:
    """The three facts of a person in random order and wording; the first names the person, later ones may not."""
    topic = next(topic for topic in lexicon.topics() if person.occupation in lexicon.words("roles", topic))
    workplace = draws.pick(lexicon.words("places", topic))
    meanings = []
    for relation in draws.sample(lexicon.raw_lexicon()["people_relations"], 3):
        who = Phrase(person.pronoun) if meanings and draws.chance(0.5) else name(person.name)
        if relation == "birthplace":
            city = name(person.birthplace)
            wording = draws.integer(0, 2)
            if wording == 0:
                clause = Clause(who, "be", complement=("born",), places=(("in", city),))
            elif wording == 1:
                clause = Clause(who, "come", places=(("from", city),), tense="present")
            else:
                clause = Clause(
                    Phrase("birthplace", "the", attached=("of", name(person.name))), "be", city, tense="present"
                )
        elif relation == "occupation":
            places = (at(workplace),) if draws.chance(0.3) else ()
            if draws.chance(0.5):
                clause = Clause(who, "work", places=(("as", a(person.occupation)), *places))
            else:
                clause = Clause(who, "be", a(person.occupation), places=places, tense=draws.pick(("past", "present")))
        elif draws.chance(0.5):
            clause = Clause(who, "play", the(person.instrument), tense="present")
        else:
            instrument = Phrase("instrument", "the", ("favourite",), attached=("of", name(person.name)))
            clause = Clause(instrument, "be", the(person.instrument), tense="present")
        meanings.append(clause)
    return meanings


def drug_entry(draws: Draws, drug: facts.Drug) -> Meanings:
    """The three facts of a drug in random order and wording."""
    subject = name(drug.name)
    condition = Phrase(draws.pick((drug.condition, drug.condition, drug.technical)))
    if draws.chance(0.5):
        treats = Clause(subject, "treat", condition, tense="present")
    else:
        treats = Clause(
            subject,
            "be",
            a("drug", draws.pick(("common", "modern", "useful"))),
            places=(("for", condition),),
            tense="present",
        )
    usual = Phrase("dose", "the", (draws.pick(("usual", "daily")),), attached=("of", subject))
    dose = Clause(usual, "be", name(drug.dose), tense="present")
    if draws.chance(0.5):
        effect = Clause(subject, "cause", Phrase(drug.side_effect), tense="present")
    else:
        main = Phrase("side effect", "the", ("main",), attached=("of", subject))
        effect = Clause(main, "be", Phrase(drug.side_effect), tense="present")
    return draws.sample([treats, dose, effect], 3)


def thing_entry(draws: Draws) -> Meanings:
    """What a thing is, what it is like, and what people do with it."""
    topic = draws.pick(lexicon.topics())
    noun = draws.pick(preferences.nouns_of_topic(topic))
    kind = preferences.class_of(noun).name
    likes = preferences.adjectives_of(noun)
    meanings = [Clause(a(noun), "be", a(kind), tense="present")]
    if draws.chance(0.6):
        meanings.append(Clause(the(noun), "be", complement=(likes.draw(draws),), tense="present"))
    verb = draws.pick(preferences.class_of(noun).verbs)
    role = draws.pick(lexicon.words("roles", topic))
    meanings.append(
        Clause(a(role), verb, preferences.thing(draws, noun, "a"), tense="present" if draws.chance(0.5) else "past")
    )
    return meanings


def action(draws: Draws, topic: str, subject: Phrase, actor: str, *, adjective_chance: float = 0.5) -> Clause:
    """What `actor`, worded as `subject`, did within `topic`; every slot follows its preference."""
    verb = preferences.verbs_of(actor, topic).draw(draws)
    noun = preferences.objects_of(verb, topic).draw(draws)
    target = preferences.thing(draws, noun, draws.pick(("the", "the", "a")), adjective_chance=adjective_chance)
    adverb = preferences.adverbs_of(verb).draw(draws) if draws.chance(0.3) else ""
    places = (at(preferences.places_of(verb, topic).draw(draws)),) if draws.chance(0.35) else ()
    return Clause(subject, verb, target, adverb=adverb, places=places)


def at(place: str) -> tuple[str, Phrase]:
    """A place with its preposition."""
    return lexicon.preposition(place), the(place)


def narrative(draws: Draws) -> Meanings:
    """A story: of four to seven events within one topic, or of things that are put away and found again."""
    if draws.chance(SEARCH_SHARE):
        return search(draws)
    topic = draws.pick(lexicon.topics())
    pronoun = draws.pick(("she", "he"))
    given = draws.pick(lexicon.words("given_names", pronoun))
    role = draws.pick(lexicon.words("roles", topic))
    times = lexicon.words("times")
    hero = name(given)
    meanings = []
    for position in range(draws.integer(4, 7)):
        if position and draws.chance(0.35):
            clause = action(draws, topic, the(role), role)
        else:
            clause = action(draws, topic, hero, given)
            hero = Phrase(pronoun)
        if position == 0 or draws.chance(0.2):
            clause.time = draws.pick(times)
        if draws.chance(0.3):
            clause.links = (_linked(draws, topic, clause, role),)
        meanings.append(clause)
    return meanings


def search(draws: Draws) -> Meanings:
    """Someone puts two to four things away; later, in another order, they are where they were put."""
    told = placings(draws, draws.integer(2, 4))
    found = draws.sample(told, len(told))
    return [clause for _, _, clause in told] + [
        Clause(the(thing), "be", places=(at(place),), time="later" if position == 0 else "")
        for position, (thing, place, _) in enumerate(found)
    ]


def placings(draws: Draws, n: int) -> list[tuple[str, str, Clause]]:
    """`n` different things, the different places where somebody puts them, and the clauses that say so."""
    movable = [noun for kind in lexicon.words("movable") for noun in lexicon.noun_classes()[kind].nouns]
    places = [place for topic in lexicon.topics() for place in lexicon.words("places", topic)]
    givens = lexicon.words("given_names", "she") + lexicon.words("given_names", "he")
    told = []
    for thing, place in zip(draws.sample(movable, n), draws.sample(places, n), strict=True):
        verb = draws.pick(("put", "leave", "hide", "find"))
        told.append((thing, place, Clause(name(draws.pick(givens)), verb, the(thing), places=(at(place),))))
    return told


def _linked(draws: Draws, topic: str, clause: Clause, role: str) -> tuple[str, Clause]:
    """A second clause: a reason that speaks of the object, or what someone else did meanwhile."""
    noun = clause.object.noun
    if draws.chance(0.5):
        likes = preferences.adjectives_of(noun).draw(draws)
        return "because", Clause(the(noun), "be", complement=(likes,), degree=draws.pick(("", "", "very", "so")))
    return draws.pick(("and", "but", "while")), action(draws, topic, the(role), role, adjective_chance=0.2)


def review(draws: Draws) -> Meanings:
    """A review of three to six sentences, mostly of one sentiment."""
    topic = draws.pick(lexicon.topics())
    positive = draws.chance(0.5)
    noun = draws.pick(preferences.nouns_of_topic(topic))
    occasion = encounter(draws, noun)
    occasion.time = draws.pick(lexicon.words("times"))
    meanings = [occasion]
    for _ in range(draws.integer(2, 5)):
        meanings.append(opinion(draws, topic, noun, positive if draws.chance(0.85) else not positive))
    return meanings


def encounter(draws: Draws, noun: str) -> Clause:
    """How a reviewer came to know the thing: bought, or visited, heard, watched where it cannot be bought."""
    verb = lexicon.raw_lexicon()["encounters"].get(preferences.class_of(noun).name) or draws.pick(
        ("buy", "try", "order")
    )
    return Clause(Phrase("I"), verb, preferences.thing(draws, noun, "a"))


def opinion(draws: Draws, topic: str, noun: str, positive: bool, *, negated: bool | None = None) -> Clause:
    """One opinion. A negated opinion denies a word of the other sentiment ("was not bad"); None leaves it to chance."""
    negated = draws.chance(0.2) if negated is None else negated
    side = "positive" if positive != negated else "negative"
    if draws.chance(0.25):
        verb = draws.pick(lexicon.words("sentiment", f"{side}_verbs"))
        return Clause(Phrase("I"), verb, preferences.thing(draws, noun, adjective_chance=0.3), negated=negated)
    subject = draws.pick((noun, draws.pick(lexicon.words("sentiment", "aspects", topic))))
    degree = "" if negated or draws.chance(0.4) else draws.pick(lexicon.words("sentiment", "degrees"))
    word = draws.pick(lexicon.words("sentiment", side))
    return Clause(the(subject), "be", complement=(word,), degree=degree, negated=negated)
