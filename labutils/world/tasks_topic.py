"""Four topic tasks and two of graded similarity."""

from dataclasses import replace

from labutils.world import facts, lexicon, preferences
from labutils.world.biomedical import Finding, Knobs, Writer
from labutils.world.grammar import Clause, english, sentence, the
from labutils.world.items import Choice, Pair, TaskSpec, others, shuffled
from labutils.world.registers import action, at
from labutils.world.seeding import Draws

N_WRONG = 3
SLOTS = 5  # of a similarity item; its score is the number of slots both sentences share


def _story(draws: Draws, topic: str, n: int) -> str:
    role = draws.pick(lexicon.words("roles", topic))
    return " ".join(sentence(english(action(draws, topic, the(role), role))) for _ in range(n))


def _topic_of(draws: Draws, n_sentences: int) -> Choice:
    topic = draws.pick(lexicon.topics())
    prompt = f"Text: {_story(draws, topic, n_sentences)} Topic:"
    return shuffled(draws, prompt, topic, others(draws, lexicon.topics(), topic, N_WRONG))


def sentences(draws: Draws, split: str) -> Choice:
    return _topic_of(draws, 1)


def stories(draws: Draws, split: str) -> Choice:
    """The topic of four sentences, one of them astray."""
    choice = _topic_of(draws, 3)
    astray = _story(draws, draws.pick(choice.choices), 1)
    return replace(choice, prompt=choice.prompt.replace("Text: ", f"Text: {astray} ", 1))


def odd_one_out(draws: Draws, split: str) -> Choice:
    """The word of another kind among four."""
    first, second = draws.sample(tuple(lexicon.noun_classes().values()), 2)
    same, odd = draws.sample(first.nouns, N_WRONG), draws.pick(second.nouns)
    listed = draws.sample([*same, odd], SLOTS - 1)
    return shuffled(draws, f"Words: {', '.join(listed)}. Odd one:", odd, same)


def medicine(draws: Draws, split: str) -> Choice:
    """The organ that a finding is about."""
    writer = Writer(draws, Knobs(sentence_length=0.5, clause_depth=0, word_rarity=0.3, term_density=0.7))
    drug = draws.pick(facts.drugs())
    field = lexicon.medical_fields()[drug.field]
    finding = writer.finding(Finding(drug, draws.pick(field.measures), draws.chance(0.5)), depth=0)
    organs = tuple(each.organ for each in lexicon.medical_fields().values())
    prompt = f"Text: {sentence(english(finding))} Organ:"
    return shuffled(draws, prompt, field.organ, others(draws, organs, field.organ, N_WRONG))


def similarity(draws: Draws, split: str) -> Pair:
    """Two sentences on daily life that share 0 to 5 of: subject, verb, object, its adjective, place."""
    topic = draws.pick(lexicon.topics())
    verb, other_verb = draws.sample(preferences.verbs_of_topic(topic), 2)
    role, other_role = draws.sample(lexicon.words("roles", topic), 2)
    noun, other_noun = draws.sample(preferences.nouns_of_topic(topic), 2)
    adjective, other_adjective = draws.sample(lexicon.words("general_adjectives"), 2)
    place, other_place = draws.sample(lexicon.words("places", topic), 2)
    slots = [
        (role, other_role),
        (verb, other_verb),
        (noun, other_noun),
        (adjective, other_adjective),
        (place, other_place),
    ]
    shared, second = _share(draws, slots)

    def word(subject: str, verb: str, noun: str, adjective: str, place: str) -> str:
        return sentence(english(Clause(the(subject), verb, the(noun, adjective), places=(at(place),))))

    return Pair(word(*(first for first, _ in slots)), word(*second), float(shared))


def biomedical_similarity(draws: Draws, split: str) -> Pair:
    """Two findings that share 0 to 5 of: drug, direction, measure, group, its adjective."""
    drug, other_drug = (entry.name for entry in draws.sample(facts.drugs(), 2))
    (rise, _), (fall, _) = draws.pick(lexicon.pairs("increase_verbs")), draws.pick(lexicon.pairs("decrease_verbs"))
    fields = draws.sample(tuple(lexicon.medical_fields().values()), 2)
    measure, other_measure = (draws.pick(field.measures)[1] for field in fields)
    group, other_group = draws.sample(lexicon.words("groups"), 2)
    kind, other_kind = draws.sample(lexicon.words("group_adjectives"), 2)
    slots = [(drug, other_drug), (rise, fall), (measure, other_measure), (group, other_group), (kind, other_kind)]
    shared, second = _share(draws, slots)

    def word(drug: str, verb: str, measure: str, group: str, kind: str) -> str:
        people = replace(the(group, kind), determiner="", plural=True)
        return sentence(
            english(Clause(replace(the(drug), determiner="", name=True), verb, the(measure), places=(("in", people),)))
        )

    return Pair(word(*(first for first, _ in slots)), word(*second), float(shared))


def _share(draws: Draws, slots: list[tuple[str, str]]) -> tuple[int, list[str]]:
    """The number of slots to share, and the slots of a second sentence that shares so many."""
    shared = draws.integer(0, SLOTS)
    kept = set(draws.sample(range(SLOTS), shared))
    return shared, [first if position in kept else second for position, (first, second) in enumerate(slots)]


SPECS = (
    TaskSpec("topic/sentences", sentences, "daily life", "the topic of one sentence", 0.25),
    TaskSpec("topic/stories", stories, "daily life", "the topic of four sentences, one of them astray", 0.25),
    TaskSpec("topic/odd_one_out", odd_one_out, "words", "the word of another kind", 0.25),
    TaskSpec("topic/medicine", medicine, "medicine", "the organ a finding is about", 0.25),
    TaskSpec(
        "topic/similarity", similarity, "daily life", "graded similarity of two sentences", 0.0, kind="similarity"
    ),
    TaskSpec(
        "topic/biomedical_similarity",
        biomedical_similarity,
        "medicine",
        "graded similarity of two findings",
        0.0,
        kind="similarity",
    ),
)
