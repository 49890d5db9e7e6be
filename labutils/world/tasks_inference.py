"""Six inference tasks: does the hypothesis follow from the premise?"""

from dataclasses import replace

from labutils.world import facts, lexicon
from labutils.world.biomedical import Finding, Knobs, Writer
from labutils.world.grammar import Clause, Phrase, a, english, name, negate, sentence, the
from labutils.world.items import Choice, TaskSpec, labelled
from labutils.world.registers import action
from labutils.world.seeding import Draws

FOLLOWS = (("all", "some"), ("many", "some"), ("all", "many"))
FAILS = (("all", "no"), ("many", "no"), ("no", "some"), ("no", "many"), ("no", "all"))


def _ask(premise: str, hypothesis: str, labels: tuple[str, ...], right: str) -> Choice:
    return labelled(f"Premise: {sentence(premise)} Hypothesis: {sentence(hypothesis)} Answer:", labels, right)


def _role_action(draws: Draws, *, adjective_chance: float = 0.3) -> tuple[str, Clause]:
    topic = draws.pick(lexicon.topics())
    role = draws.pick(lexicon.words("roles", topic))
    clause = action(draws, topic, the(role), role, adjective_chance=adjective_chance)
    return topic, replace(clause, adverb="", places=())


def denial(draws: Draws, split: str) -> Choice:
    """The same statement, or its denial."""
    _, premise = _role_action(draws)
    premise = negate(premise) if draws.chance(0.5) else premise
    follows = draws.chance(0.5)
    hypothesis = premise if follows else negate(premise)
    return _ask(english(premise), english(hypothesis), ("true", "false"), "true" if follows else "false")


def kinds(draws: Draws, split: str) -> Choice:
    """A trout is a fish, not a bird."""
    givens = lexicon.words("given_names", "she") + lexicon.words("given_names", "he")
    entry = draws.pick(tuple(lexicon.noun_classes().values()))
    follows = draws.chance(0.5)
    other = draws.pick([each for each in lexicon.noun_classes() if each != entry.name])
    clause = Clause(
        name(draws.pick(givens)), draws.pick(("see", "draw", "mention", "find", "describe")), a(draws.pick(entry.nouns))
    )
    hypothesis = replace(clause, object=a(entry.name if follows else other))
    return _ask(english(clause), english(hypothesis), ("yes", "no"), "yes" if follows else "no")


def quantity(draws: Draws, split: str) -> Choice:
    """From all to some, but not from all to none."""
    _, clause = _role_action(draws, adjective_chance=0.2)
    follows = draws.chance(0.5)
    first, second = draws.pick(FOLLOWS if follows else FAILS)
    role = clause.subject.noun
    premise, hypothesis = (
        replace(clause, subject=Phrase(role, quantifier, plural=True)) for quantifier in (first, second)
    )
    return _ask(english(premise), english(hypothesis), ("yes", "no"), "yes" if follows else "no")


def order(draws: Draws, split: str) -> Choice:
    """What came before, and what after."""
    topic, first = _role_action(draws, adjective_chance=0.0)
    second = replace(
        action(draws, topic, Phrase("she"), first.subject.noun, adjective_chance=0.0), adverb="", places=()
    )
    follows = draws.chance(0.5)
    said = replace(first, links=(("before", second),))
    later, earlier = replace(second, subject=first.subject), replace(first, subject=Phrase("she"))
    hypothesis = replace(later, links=(("after" if follows else "before", earlier),))
    return _ask(english(said), english(hypothesis), ("right", "wrong"), "right" if follows else "wrong")


def roles(draws: Draws, split: str) -> Choice:
    """Who did it, and to whom it was done."""
    everyone = [role for topic in lexicon.topics() for role in lexicon.words("roles", topic)]
    doer, other = draws.sample(everyone, 2)
    follows = draws.chance(0.5)
    verb = draws.pick(lexicon.words("people_verbs"))
    premise = Clause(the(doer), verb, the(other))
    undergoer, agent = (other, doer) if follows else (doer, other)
    hypothesis = Clause(the(undergoer), verb, passive=True, places=(("by", the(agent)),))
    return _ask(english(premise), english(hypothesis), ("true", "false"), "true" if follows else "false")


def trials(draws: Draws, split: str) -> Choice:
    """A claim that a finding supports, contradicts, or says nothing about."""
    writer = Writer(draws, Knobs(sentence_length=0.0, clause_depth=0, word_rarity=0.2, term_density=0.0))
    drug = draws.pick(facts.drugs())
    measure, elsewhere = draws.sample(lexicon.medical_fields()[drug.field].measures, 2)
    finding = Finding(drug, measure, draws.chance(0.5))
    right = draws.pick(("supported", "contradicted", "unknown"))
    if right == "unknown":
        claim = replace(finding, measure=elsewhere)
    else:
        claim = replace(finding, rises=finding.rises == (right == "supported"))
    premise, hypothesis = (english(writer.finding(each, depth=0)) for each in (finding, claim))
    return _ask(premise, hypothesis, ("supported", "contradicted", "unknown"), right)


SPECS = (
    TaskSpec("inference/denial", denial, "daily life", "a statement and its repetition or denial", 0.5),
    TaskSpec("inference/kinds", kinds, "daily life", "a thing and its kind, or another kind", 0.5),
    TaskSpec("inference/quantity", quantity, "daily life", "all, many, some, none", 0.5),
    TaskSpec("inference/order", order, "daily life", "two events and their order", 0.5),
    TaskSpec("inference/roles", roles, "people", "active and passive, with roles kept or swapped", 0.5),
    TaskSpec(
        "inference/trials", trials, "medicine", "a finding and a claim, in other words, opposite, or unrelated", 1 / 3
    ),
)
