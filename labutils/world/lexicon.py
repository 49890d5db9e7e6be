"""The English words of the controlled language, read from `data/world/lexicon.yaml`, and their inflection."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from labutils.core.paths import DATA

LEXICON_FILE = DATA / "world" / "lexicon.yaml"


@dataclass(frozen=True)
class NounClass:
    """A kind of thing. Its name is the hypernym of its nouns; adjectives and verbs are those its nouns can take."""

    name: str
    topic: str
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class MedicalField:
    """A branch of medicine. Conditions and measures are pairs (technical term, everyday term) of one meaning."""

    name: str
    organ: str
    conditions: tuple[tuple[str, str], ...]
    measures: tuple[tuple[str, str], ...]


@cache
def raw_lexicon() -> dict[str, Any]:
    return yaml.load(LEXICON_FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def words(*keys: str) -> tuple[str, ...]:
    """The word list found under `keys`, for instance `words("roles", "food")`; "_" in a term becomes a blank."""
    entry: Any = raw_lexicon()
    for key in keys:
        entry = entry[key]
    return tuple(word.replace("_", " ") for word in entry.split())


def pairs(*keys: str) -> tuple[tuple[str, str], ...]:
    """The list of word pairs found under `keys`."""
    entry: Any = raw_lexicon()
    for key in keys:
        entry = entry[key]
    return tuple((first.replace("_", " "), second.replace("_", " ")) for first, second in entry)


@cache
def noun_classes() -> dict[str, NounClass]:
    return {
        name: NounClass(
            name, entry["topic"], *(words("classes", name, kind) for kind in ("nouns", "adjectives", "verbs"))
        )
        for name, entry in raw_lexicon()["classes"].items()
    }


@cache
def topics() -> tuple[str, ...]:
    return tuple(raw_lexicon()["roles"])


@cache
def classes_of(topic: str) -> tuple[NounClass, ...]:
    return tuple(entry for entry in noun_classes().values() if entry.topic == topic)


@cache
def preposition(place: str) -> str:
    """The preposition of a place: "in" the kitchen, "at" the airport, "on" the coast."""
    return raw_lexicon()["place_prepositions"].get(place, "in")


@cache
def medical_fields() -> dict[str, MedicalField]:
    return {
        name: MedicalField(name, entry["organ"], pairs("fields", name, "conditions"), pairs("fields", name, "measures"))
        for name, entry in raw_lexicon()["fields"].items()
    }


@cache
def concepts() -> dict[str, tuple[str, ...]]:
    """Concept -> its planted words. Topics, classes of things and branches of medicine are concepts too."""
    named = {name: words("concepts", name) for name in raw_lexicon()["concepts"]}
    kinds = {entry.name: entry.nouns for entry in noun_classes().values()}
    branches = {
        f"medicine of the {field.organ}": tuple(term for pair in field.conditions + field.measures for term in pair)
        for field in medical_fields().values()
    }
    return named | kinds | branches


@cache
def inventory() -> tuple[str, ...]:
    """Every English word and inflected form of the lexicon, sorted; personal and drug names are left out."""
    skipped = (
        "surname_stems",
        "surname_endings",
        "drug_stems",
        "drug_endings",
        "irregular_past",
        "irregular_plural",
        "people_relations",
    )
    found = {word for key, entry in raw_lexicon().items() if key not in skipped for word in _words_within(entry)}
    nouns = {noun for entry in noun_classes().values() for noun in entry.nouns} | set(words("groups"))
    verbs = {verb for entry in noun_classes().values() for verb in entry.verbs}
    forms = {plural(noun) for noun in nouns} | {past(verb) for verb in verbs} | {present(verb) for verb in verbs}
    return tuple(sorted(found | {word for form in forms for word in form.split()}))


def _words_within(entry: Any) -> list[str]:
    if isinstance(entry, dict):
        return [word for value in entry.values() for word in _words_within(value)]
    if isinstance(entry, list):
        return [word for value in entry for word in _words_within(value)]
    return str(entry).replace("_", " ").split()


@cache
def past(verb: str) -> str:
    """Past tense: "carry" -> "carried"."""
    if verb in (irregular := _forms("irregular_past")):
        return irregular[verb]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + (verb[-1] if verb in words("doubling") else "") + "ed"


@cache
def present(verb: str) -> str:
    """Third person singular: "carry" -> "carries"."""
    return "has" if verb == "have" else _with_s(verb)


@cache
def plural(noun: str) -> str:
    """Plural of a noun: "cherry" -> "cherries"."""
    return _forms("irregular_plural").get(noun) or _with_s(noun)


@cache
def with_article(phrase: str) -> str:
    """The phrase behind "a" or "an"."""
    first = phrase.split(" ", 1)[0].lower()
    exceptions = words_listed("vowel_sound_exceptions")
    vowel = first in words_listed("mute_h") or (first[0] in "aeiou" and first not in exceptions)
    return f"an {phrase}" if vowel else f"a {phrase}"


@cache
def words_listed(key: str) -> frozenset[str]:
    return frozenset(raw_lexicon()[key])


@cache
def _forms(key: str) -> dict[str, str]:
    return dict(entry.replace("_", " ").split(":") for entry in raw_lexicon()[key].split())


def _with_s(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh", "z")) else "s")
