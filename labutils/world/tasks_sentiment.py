"""Six sentiment tasks: one sentence or many, denied or not, with contrasts, by aspect, and from patients."""

from labutils.world import facts, lexicon, preferences
from labutils.world.grammar import Clause, Phrase, english, name, sentence, the
from labutils.world.items import Choice, TaskSpec, labelled
from labutils.world.registers import encounter, opinion
from labutils.world.seeding import Draws


def _subject(draws: Draws) -> tuple[str, str]:
    topic = draws.pick(lexicon.topics())
    return topic, draws.pick(preferences.nouns_of_topic(topic))


def _verdict(draws: Draws, noun: str, positive: bool) -> Clause:
    """The plain statement that something is good or bad."""
    word = draws.pick(lexicon.words("sentiment", "positive" if positive else "negative"))
    degree = draws.pick(lexicon.words("sentiment", "degrees")) if draws.chance(0.3) else ""
    return Clause(the(noun), "be", complement=(word,), degree=degree)


def products(draws: Draws, split: str) -> Choice:
    """A purchase and one plain opinion."""
    topic, noun = _subject(draws)
    positive = draws.chance(0.5)
    clauses = (encounter(draws, noun), opinion(draws, topic, noun, positive, negated=False))
    text = " ".join(sentence(english(clause)) for clause in clauses)
    return labelled(f"Review: {text} Sentiment:", ("positive", "negative"), "positive" if positive else "negative")


def stays(draws: Draws, split: str) -> Choice:
    """Five opinions on a journey, four of them of one mind."""
    positive = draws.chance(0.5)
    noun = draws.pick(preferences.nouns_of_topic("travel"))
    minds = draws.sample([positive] * 4 + [not positive], 5)
    text = " ".join(sentence(english(opinion(draws, "travel", noun, mind, negated=False))) for mind in minds)
    return labelled(f"Review: {text} Overall:", ("good", "bad"), "good" if positive else "bad")


def denials(draws: Draws, split: str) -> Choice:
    """Opinions that deny the opposite: "was not boring"."""
    topic, noun = _subject(draws)
    positive = draws.chance(0.5)
    text = " ".join(
        sentence(english(opinion(draws, topic, noun, positive, negated=True))) for _ in range(draws.integer(1, 2))
    )
    return labelled(f"Review: {text} The customer was", ("happy", "angry"), "happy" if positive else "angry")


def contrasts(draws: Draws, split: str) -> Choice:
    """Two opposite opinions in one sentence; the main clause, or the one behind "but", counts."""
    topic, noun = _subject(draws)
    aspect = draws.pick(lexicon.words("sentiment", "aspects", topic))
    positive = draws.chance(0.5)
    first, second = draws.sample([noun, aspect], 2)
    main, side = english(_verdict(draws, first, positive)), english(_verdict(draws, second, not positive))
    text = draws.pick((f"although {side}, {main}", f"{main}, although {side}", f"{side}, but {main}"))
    right = "recommend" if positive else "avoid"
    return labelled(f"Review: {sentence(text)} Advice:", ("recommend", "avoid"), right)


def aspects(draws: Draws, split: str) -> Choice:
    """Opposite opinions on two aspects, and a question about one of them."""
    topic, _ = _subject(draws)
    first, second = draws.sample(lexicon.words("sentiment", "aspects", topic), 2)
    positive = draws.chance(0.5)
    verdicts = draws.sample([_verdict(draws, first, positive), _verdict(draws, second, not positive)], 2)
    text = " ".join(sentence(english(verdict)) for verdict in verdicts)
    return labelled(f"Review: {text} Opinion of the {first}:", ("good", "bad"), "good" if positive else "bad")


def patients(draws: Draws, split: str) -> Choice:
    """What a patient says after a treatment."""
    outcome = draws.pick(("improved", "worse"))
    drug = draws.pick(facts.drugs())
    took = Clause(Phrase("I"), "take", Phrase(drug.dose, name=True, attached=("of", name(drug.name))))
    took.places = (("for", Phrase(drug.condition)),)
    then = Clause(the(drug.condition), "be", complement=(draws.pick(lexicon.words("outcomes", outcome)),))
    then.time = draws.pick(lexicon.words("times"))
    then.degree = draws.pick(("", "", *lexicon.words("sentiment", "degrees")))
    text = f"{sentence(english(took))} {sentence(english(then))}"
    return labelled(f"Patient: {text} State:", ("improved", "worse"), outcome)


SPECS = (
    TaskSpec("sentiment/products", products, "purchases", "one plain opinion", 0.5),
    TaskSpec("sentiment/stays", stays, "travel", "five opinions, the majority counts", 0.5),
    TaskSpec("sentiment/denials", denials, "purchases", "one or two denied opinions", 0.5),
    TaskSpec("sentiment/contrasts", contrasts, "purchases", "two opposite opinions in one sentence", 0.5),
    TaskSpec(
        "sentiment/aspects", aspects, "purchases", "opposite opinions on two aspects, one of them asked about", 0.5
    ),
    TaskSpec("sentiment/patients", patients, "medicine", "the state of a patient after a treatment", 0.5),
)
