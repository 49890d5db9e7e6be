"""How deep every word of an English sentence stands in its dependency tree, told by the meaning that it words.

The verb is the root, at depth 0; an auxiliary, an adverb, the head of a subject or of an object stand one below it, and
so do adjectives behind "be" (Universal Dependencies would make these the root). An article or an adjective stands one
below its noun, a preposition one below the noun behind it, "because" or "and" one below the verb of the clause that it
opens. The head of a name or of a noun of several words is its last word.
"""

from collections.abc import Iterator
from itertools import islice

from labutils.world.documents import REGISTERS, check_name, draw_meanings
from labutils.world.grammar import (
    PARTICIPLES,
    PLURAL_PRONOUNS,
    PRONOUN_OBJECTS,
    Clause,
    Phrase,
    be_form,
    english,
    sentence,
    verb_group,
)
from labutils.world.lexicon import past, plural, with_article
from labutils.world.seeding import check_split

Depths = list[tuple[str, int]]  # the words of a sentence in order, each with its depth


def write_trees(register: str, n: int, *, seed: int = 0, split: str = "train") -> list[tuple[str, Depths]]:
    """`n` English sentences of a register, each with its words and their depths.

        world.write_trees("narrative", 1)
        [('The nurse carried a chair.', [('The', 2), ('nurse', 1), ('carried', 0), ('a', 2), ('chair', 1)])]

    They are the sentences of the documents that `write_documents` gives, in the same order.

    Raises:
        LookupError: an unknown register.
        ValueError: an unknown split, or a negative `n`.
    """
    check_name("register", register, REGISTERS)
    check_split(split)
    if n < 0:
        raise ValueError(f"n={n} is negative; ask for 0 sentences or more.")
    clauses = (clause for _, meanings in draw_meanings(register, seed, split) for clause in meanings)
    return [(sentence(english(clause)), word_depths(clause)) for clause in islice(clauses, n)]


def word_depths(clause: Clause) -> Depths:
    """The words of a clause's English sentence in order, with their depths.

    >>> word_depths(Clause(the("nurse"), "carry", a("chair")))
    [('The', 2), ('nurse', 1), ('carried', 0), ('a', 2), ('chair', 1)]
    """
    (first, depth), *rest = _clause(clause, 0)
    return [(first[0].upper() + first[1:], depth), *rest]


def _clause(clause: Clause, depth: int) -> Iterator[tuple[str, int]]:
    """As `grammar.english` words a clause, whose verb stands at `depth`."""
    subject = clause.subject
    yield from _headed(clause.time, depth + 1)
    yield from _phrase(subject, depth + 1)
    yield from _predicate(clause, depth, many=subject.plural or subject.noun in PLURAL_PRONOUNS)
    for connective, linked in clause.links:
        yield from _under(connective, depth + 2)
        yield from _clause(linked, depth + 1)


def _predicate(clause: Clause, depth: int, *, many: bool) -> Iterator[tuple[str, int]]:
    if clause.passive:
        yield from _headed(f"{be_form(clause, many)} {PARTICIPLES.get(past(clause.verb), past(clause.verb))}", depth)
    elif clause.verb == "be":
        yield from _be(clause, depth, many)
    else:
        yield from _headed(verb_group(clause, many), depth)
    if clause.object:
        pronoun = PRONOUN_OBJECTS.get(clause.object.noun)
        yield from [(pronoun, depth + 1)] if pronoun else _phrase(clause.object, depth + 1)
    for preposition, phrase in clause.places:
        yield from _under(preposition, depth + 2)
        yield from _phrase(phrase, depth + 1)


def _be(clause: Clause, depth: int, many: bool) -> Iterator[tuple[str, int]]:
    """A form of "be" with what follows it: "was not very good and cheap"."""
    words = be_form(clause, many).split()
    root = len(words) - 1 if clause.tense == "may" else 0  # "may not be", but "was not"
    yield from ((word, depth + (place != root)) for place, word in enumerate(words))
    yield from _under(clause.degree, depth + 2)
    for place, adjective in enumerate(clause.complement):
        yield from _under("and" if place else "", depth + 3)
        yield from _headed(adjective, depth + 1 + bool(place))


def _phrase(phrase: Phrase, depth: int) -> Iterator[tuple[str, int]]:
    """As `grammar.english_phrase` words a noun phrase, whose head stands at `depth`."""
    noun = plural(phrase.noun) if phrase.plural else phrase.noun
    inner = " ".join((*phrase.adjectives, noun))
    article = with_article(inner).split()[0] if phrase.determiner == "a" else phrase.determiner
    yield from _under(article, depth + 1)
    yield from _under(" ".join(phrase.adjectives), depth + 1)
    yield from _headed(noun, depth)
    if phrase.attached:
        yield from _under(phrase.attached[0], depth + 2)
        yield from _phrase(phrase.attached[1], depth + 1)
    if phrase.relative:
        yield "who" if phrase.plural and not phrase.name else "that", depth + 2
        yield from _predicate(phrase.relative, depth + 1, many=phrase.plural)


def _headed(text: str, depth: int) -> Iterator[tuple[str, int]]:
    """Words of which the last is the head."""
    words = text.split()
    yield from ((word, depth + (place < len(words) - 1)) for place, word in enumerate(words))


def _under(text: str, depth: int) -> Iterator[tuple[str, int]]:
    """Words that all stand at one depth."""
    yield from ((word, depth) for word in text.split())
