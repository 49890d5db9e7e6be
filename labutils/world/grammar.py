"""Meanings (noun phrases and clauses) and their English wording. The other languages word the same meanings."""

from dataclasses import dataclass, replace

from labutils.world.lexicon import past, plural, present, with_article

PRONOUN_OBJECTS = {"she": "her", "he": "him", "I": "me", "they": "them", "we": "us"}
PLURAL_PRONOUNS = frozenset({"they", "we", "I"})
COMMA_BEFORE = frozenset({"but", "although", "while", "whereas", "and then", "so"})


@dataclass(slots=True)
class Phrase:
    """A noun phrase. `determiner` is "the", "a", another word, or "" (names, pronouns, numbers and bare plurals)."""

    noun: str
    determiner: str = ""
    adjectives: tuple[str, ...] = ()
    plural: bool = False
    name: bool = False  # a proper name, number or unit: the same in every language
    attached: tuple[str, "Phrase"] | None = None  # preposition and phrase: "of the lung"
    relative: "Clause | None" = None  # its subject is the phrase itself: "who had fever"


@dataclass(slots=True)
class Clause:
    """One statement. `verb` "be" takes a `complement` (adjectives) or an `object`; links join further clauses."""

    subject: Phrase
    verb: str
    object: Phrase | None = None
    complement: tuple[str, ...] = ()
    degree: str = ""
    adverb: str = ""
    places: tuple[tuple[str, Phrase], ...] = ()
    time: str = ""
    negated: bool = False
    tense: str = "past"  # "past" | "present" | "may"
    links: tuple[tuple[str, "Clause"], ...] = ()
    passive: bool = False  # the subject undergoes the verb


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def the(noun: str, *adjectives: str) -> Phrase:
    return Phrase(noun, "the", adjectives)


def a(noun: str, *adjectives: str) -> Phrase:
    return Phrase(noun, "a", adjectives)


def name(text: str) -> Phrase:
    """A proper name, a number with its unit, or a label."""
    return Phrase(text, name=True)


def negate(clause: Clause) -> Clause:
    """The same statement denied, or affirmed where it was denied; adverbs stay out of a denial's scope."""
    return replace(clause, negated=not clause.negated, adverb="")


def english_phrase(phrase: Phrase) -> str:
    noun = plural(phrase.noun) if phrase.plural else phrase.noun
    text = f"{' '.join(phrase.adjectives)} {noun}" if phrase.adjectives else noun
    if phrase.determiner == "a":
        text = with_article(text)
    elif phrase.determiner:
        text = f"{phrase.determiner} {text}"
    if phrase.attached:
        text = f"{text} {phrase.attached[0]} {english_phrase(phrase.attached[1])}"
    if phrase.relative:
        marker = "who" if phrase.plural and not phrase.name else "that"
        text = f"{text} {marker} {english_predicate(phrase.relative, plural_subject=phrase.plural)}"
    return text


def english(clause: Clause) -> str:
    """The English wording of a clause, without capital letter and full stop."""
    subject = clause.subject
    many = subject.plural or subject.noun in PLURAL_PRONOUNS
    text = f"{english_phrase(subject)} {english_predicate(clause, plural_subject=many)}"
    if clause.time:
        text = f"{clause.time}, {text}" if " " in clause.time else f"{clause.time} {text}"
    for connective, linked in clause.links:
        text += f"{',' if connective in COMMA_BEFORE else ''} {connective} {english(linked)}"
    return text


def english_predicate(clause: Clause, *, plural_subject: bool) -> str:
    """The clause without subject and links: verb group, object or complement, places."""
    if clause.passive:
        form = past(clause.verb)
        parts = [be_form(clause, plural_subject), PARTICIPLES.get(form, form)]
    elif clause.verb == "be":
        parts = [be_form(clause, plural_subject)]
        if clause.degree:
            parts.append(clause.degree)
        if clause.complement:
            parts.append(" and ".join(clause.complement))
    else:
        parts = [verb_group(clause, plural_subject)]
    if clause.object:
        parts.append(PRONOUN_OBJECTS.get(clause.object.noun) or english_phrase(clause.object))
    parts += [f"{preposition} {english_phrase(phrase)}" for preposition, phrase in clause.places]
    return " ".join(parts)


PARTICIPLES = {
    "ate": "eaten", "sang": "sung", "wore": "worn", "broke": "broken", "drove": "driven", "drew": "drawn",
    "threw": "thrown", "wrote": "written", "stole": "stolen", "hid": "hidden", "wove": "woven", "drank": "drunk",
    "gave": "given", "took": "taken", "saw": "seen", "knew": "known", "showed": "shown", "sewed": "sewn",
}  # fmt: skip


def be_form(clause: Clause, many: bool) -> str:
    """The form of "be", with "may" and "not"."""
    first_person = clause.subject.noun == "I"
    if clause.tense == "may":
        return "may not be" if clause.negated else "may be"
    if clause.tense == "past":
        verb = "was" if first_person or not many else "were"
    else:
        verb = "am" if first_person else "are" if many else "is"
    return f"{verb} not" if clause.negated else verb


def verb_group(clause: Clause, many: bool) -> str:
    """The form of another verb, with its adverb, auxiliary and "not"."""
    if clause.tense == "may":
        verb = f"may not {clause.verb}" if clause.negated else f"may {clause.verb}"
    elif clause.negated:
        auxiliary = "did" if clause.tense == "past" else "do" if many else "does"
        verb = f"{auxiliary} not {clause.verb}"
    elif clause.tense == "past":
        verb = past(clause.verb)
    else:
        verb = clause.verb if many else present(clause.verb)
    return f"{clause.adverb} {verb}" if clause.adverb else verb
