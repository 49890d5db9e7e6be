"""The long-tailed web of selectional preferences: the adjectives a noun takes, the objects and adverbs a verb takes.

Every noun ranks the adjectives of its class and the general ones in an order of its own, and so does every verb with
its objects; the probability of rank r is proportional to r**-EXPONENT (Zipf's law). Thousands of such pairs fill a
small model's capacity, so that removing weights costs something at once.
"""

from functools import cache

import numpy as np

from labutils.core.seeding import generator
from labutils.world import lexicon
from labutils.world.grammar import Phrase
from labutils.world.seeding import Draws

EXPONENT = 1.3
GENERAL_ADJECTIVES = 20  # of the general adjectives, how many a noun takes beside those of its class


class Preference:
    """Items from the most to the least preferred, with Zipf probabilities."""

    def __init__(self, items: list[str]) -> None:
        weights = np.arange(1, len(items) + 1) ** -EXPONENT
        self.items = items
        self.probabilities = weights / weights.sum()
        cumulative = np.cumsum(self.probabilities)
        cumulative[-1] = 1.0
        self.cumulative = cumulative.tolist()

    def draw(self, draws: Draws) -> str:
        return draws.weighted(self.items, self.cumulative)


def _ranked(kind: str, word: str, items: list[str]) -> Preference:
    order = generator(0, "preference", kind, word).permutation(len(items))
    return Preference([items[position] for position in order])


@cache
def adjectives_of(noun: str) -> Preference:
    """The adjectives that `noun` takes."""
    entry = class_of(noun)
    general = _ranked("general", noun, list(lexicon.words("general_adjectives"))).items[:GENERAL_ADJECTIVES]
    return _ranked("adjective", noun, sorted({*entry.adjectives, *general}))


@cache
def objects_of(verb: str, topic: str) -> Preference:
    """The nouns of `topic` that `verb` takes as its object."""
    nouns = {noun for entry in lexicon.classes_of(topic) if verb in entry.verbs for noun in entry.nouns}
    if not nouns:
        raise LookupError(f"no noun of topic {topic!r} takes the verb {verb!r}; its verbs are {verbs_of_topic(topic)}.")
    return _ranked(f"object/{topic}", verb, sorted(nouns))


@cache
def verbs_of(role: str, topic: str) -> Preference:
    """What `role` (a profession, or a given name) does within `topic`."""
    return _ranked(f"verb/{topic}", role, list(verbs_of_topic(topic)))


@cache
def verbs_of_topic(topic: str) -> tuple[str, ...]:
    return tuple(sorted({verb for entry in lexicon.classes_of(topic) for verb in entry.verbs}))


@cache
def adverbs_of(verb: str) -> Preference:
    """How `verb` is done."""
    return _ranked("adverb", verb, list(lexicon.words("adverbs")))


@cache
def places_of(verb: str, topic: str) -> Preference:
    """Where `verb` is done within `topic`."""
    return _ranked(f"place/{topic}", verb, list(lexicon.words("places", topic)))


@cache
def class_of(noun: str) -> lexicon.NounClass:
    """The class of a noun; LookupError for a word that is no noun of the lexicon."""
    for entry in lexicon.noun_classes().values():
        if noun in entry.nouns:
            return entry
    raise LookupError(f"{noun!r} is not a noun of the lexicon {lexicon.LEXICON_FILE.name}.")


@cache
def nouns_of_topic(topic: str) -> tuple[str, ...]:
    return tuple(noun for entry in lexicon.classes_of(topic) for noun in entry.nouns)


def thing(draws: Draws, noun: str, determiner: str = "the", *, adjective_chance: float = 0.5) -> Phrase:
    """A phrase around `noun`, with a preferred adjective at the given chance."""
    adjectives = (adjectives_of(noun).draw(draws),) if draws.chance(adjective_chance) else ()
    return Phrase(noun, determiner, adjectives)
