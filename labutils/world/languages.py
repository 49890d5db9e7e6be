"""Three languages for one world: English, and two built ones that word the same meanings.

Sentences of `write_documents(..., language=...)` are translations of each other: same seed, same meanings. The rules:

===========  =======================================  =======================================
             tarvic                                   olenya
===========  =======================================  =======================================
order        time subject place object verb           verb subject object place time
adjectives   before the noun                          after the noun
relations    postposition                             preposition
past         suffix on the verb                       particle before the verb
denial       particle after the verb                  particle before everything
plural       suffix                                   suffix
articles     none                                     none
===========  =======================================  =======================================

A word is three syllables of its language, drawn by a generator that the English lemma alone seeds; as in any language a
few words are homonyms (fewer than one in fifty). Names and numbers are the same everywhere.
"""

from dataclasses import dataclass
from functools import cache

from labutils.core.seeding import generator
from labutils.world.grammar import Clause, Phrase, english, sentence

LANGUAGES = ("english", "tarvic", "olenya")
SYLLABLES_PER_WORD = 3


@dataclass(frozen=True)
class Rules:
    """What sets a built language apart; a syllable is any onset followed by any rime."""

    onsets: tuple[str, ...]
    rimes: tuple[str, ...]
    verb_first: bool
    plural: str
    past: str

    @property
    def syllables(self) -> tuple[str, ...]:
        return tuple(onset + rime for onset in self.onsets for rime in self.rimes)


RULES = {
    "tarvic": Rules(
        tuple(["t", "dr", "k", "z", "g", "v", "sk", "p"]),
        tuple(["ar", "ik", "un", "osh", "el", "ad"]),
        False,
        "im",
        "or",
    ),
    "olenya": Rules(
        tuple(["l", "n", "m", "r", "s", "y", "f", "h"]), tuple(["a", "e", "ia", "o", "ua", "ei"]), True, "li", "sa"
    ),
}


def word_sentence(clause: Clause, language: str) -> str:
    if language == "english":
        return sentence(english(clause))
    return sentence(_clause(clause, RULES[language], language))


@cache
def translate_word(lemma: str, language: str) -> str:
    """The word of a built language for an English lemma; a term of several words has one word."""
    syllables = RULES[language].syllables
    draws = generator(0, "word", language, lemma).integers(len(syllables), size=SYLLABLES_PER_WORD)
    return "".join(syllables[position] for position in draws)


def _phrase(phrase: Phrase, rules: Rules, language: str) -> str:
    noun = (
        phrase.noun if phrase.name else translate_word(phrase.noun, language) + (rules.plural if phrase.plural else "")
    )
    adjectives = [translate_word(adjective, language) for adjective in phrase.adjectives]
    if phrase.determiner not in ("", "the", "a"):
        count = phrase.determiner
        adjectives.insert(0, count if count.isdigit() else translate_word(count, language))
    parts = [noun, *adjectives] if rules.verb_first else [*adjectives, noun]
    if phrase.attached:
        attached = _related(phrase.attached, rules, language)
        parts = [*parts, attached] if rules.verb_first else [attached, *parts]
    if phrase.relative:
        verb, rest = _predicate(phrase.relative, rules, language)
        parts += [translate_word("that", language), *(verb + rest if rules.verb_first else rest + verb)]
    return " ".join(parts)


def _related(related: tuple[str, Phrase], rules: Rules, language: str) -> str:
    relation, phrase = translate_word(related[0], language), _phrase(related[1], rules, language)
    return f"{relation} {phrase}" if rules.verb_first else f"{phrase} {relation}"


def _predicate(clause: Clause, rules: Rules, language: str) -> tuple[list[str], list[str]]:
    """The words of the verb group, and those of object, complement and places, each in the order of the language."""
    verb = translate_word(f"{clause.verb} passive" if clause.passive else clause.verb, language)
    manner = [
        translate_word(word, language) for word in (clause.adverb, "may" if clause.tense == "may" else "") if word
    ]
    denial = [translate_word("not", language)] if clause.negated else []
    is_past = clause.tense == "past"
    if rules.verb_first:
        verb_words = [*denial, *([rules.past] if is_past else []), verb, *manner]
    else:
        verb_words = [*manner, verb + (rules.past if is_past else ""), *denial]
    rest = [translate_word(word, language) for word in (clause.degree, *clause.complement) if word]
    rest += [_phrase(clause.object, rules, language)] if clause.object else []
    places = [_related(place, rules, language) for place in clause.places]
    return verb_words, rest + places if rules.verb_first else places + rest


def _clause(clause: Clause, rules: Rules, language: str) -> str:
    verb, rest = _predicate(clause, rules, language)
    subject = _phrase(clause.subject, rules, language)
    time = [translate_word(clause.time, language)] if clause.time else []
    order = [*verb, subject, *rest, *time] if rules.verb_first else [*time, subject, *rest, *verb]
    text = " ".join(order)
    for connective, linked in clause.links:
        text += f", {translate_word(connective, language)} {_clause(linked, rules, language)}"
    return text
