"""Readability of English text: words, sentences and syllables by rules of our own, and three classical indices.

The indices are regressions on the length of sentences and on the number of syllables in words. Syllables are counted
from the spelling, so that a text has the same readability on every machine.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)|\n")
OPENING = "\"'“‘(["
# A full stop after these ends no sentence; after the second kind only if no number follows.
ABBREVIATIONS = frozenset({"e.g", "i.e", "vs", "cf", "al", "dr", "mr", "mrs", "ms", "prof", "fig", "figs", "resp"})
BEFORE_NUMBERS = frozenset({"no", "nos", "vol", "p", "pp", "ca", "approx", "eq", "ref", "refs", "chap", "sect"})

VOWELS = re.compile("[aeiouy]+")
# Vowels that stand together without merging, and syllables without a vowel.
EXTRA_SYLLABLE = re.compile(
    "|".join(
        (
            r"(?<![ct])ia(?!ge)|(?<=[ct])ia(?=t)",  # malaria, trial, associated; not social, marriage
            r"io(?![nu])|(?<![ctsgxln])io(?=[nu])",  # biology, ion, previous; not action, region, million
            r"iu|uo|ua(?!de|si)|ue(?=n)|(?<=fl)ui",  # calcium, continuous, actual, influence, fluid
            r"(?<!p)eo(?!ns?\b)",  # video, osteoporosis; not people, surgeon
            r"(?<=\w[rsdnh])ea\b|(?<=\bcr)ea(?=t)|(?<=\br)ea(?=ct)|(?<=nucl)ea|(?<=pancr)ea",  # area, create, react
            r"ie(?=t)|(?<=[lrnd])ie(?=n[ct])|(?<=\bsc)ie",  # diet, client, experience, science; not friend
            r"\Byi|(?<=[^aeiou])y(?=[aou])|[aeiou](?=ing\b)",  # studying, myocardial, being
            r"(?<=\bco)o(?=r|pera)|(?<=\bco)a(?=g)",  # coordinate, cooperate, coagulate
            r"(?:s|th)m(?=s?\b)|(?<=[ds])n't",  # mechanism, spasm, rhythm, didn't
        )
    )
)
FINAL_E = re.compile(r"e(s|d|ly|ments?|ful|fully|less|ness)?$")
IRREGULAR = {"acne": 2, "ascites": 3, "diabetes": 4, "element": 3, "elements": 3, "herpes": 2, "rabies": 2}


@dataclass(frozen=True)
class Counts:
    """What the indices are computed from.

    Polysyllables are the words of three syllables or more; of these, `complex_words` leaves out the ones that owe the
    third syllable to the ending -es or -ed.
    """

    sentences: int
    words: int
    syllables: int
    polysyllables: int
    complex_words: int


def split_words(text: str) -> list[str]:
    """The words of a text, as written: runs of letters and digits with at least one letter, inner apostrophes kept.

    "IL-6-induced" has two words, "don't" one, "3.5" none.
    """
    return [word for word in WORD.findall(text) if any(map(str.isalpha, word))]


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, each with at least one word.

    A sentence ends at ``. ! ?`` (with closing quotes or brackets) where white space and then a capital letter or a
    digit follow, or nothing; and at the end of a line. A full stop after one of `ABBREVIATIONS`, or between one of
    `BEFORE_NUMBERS` and a number, ends none. A text without any end is one sentence.
    """
    pieces, start = [], 0
    for match in SENTENCE_END.finditer(text):
        if match.group() == "\n" or _is_end(text[start : match.start()], match.group(), text[match.end() :]):
            pieces.append(text[start : match.end()])
            start = match.end()
    return [piece.strip() for piece in (*pieces, text[start:]) if split_words(piece)]


def _is_end(before: str, mark: str, after: str) -> bool:
    """Whether `mark` ends a sentence, from what stands before and after it."""
    following = after.lstrip().lstrip(OPENING)[:1]
    if not following:
        return True
    last = before.split()[-1].lstrip(OPENING).lower() if mark == "." and before.strip() else ""
    if last in ABBREVIATIONS:
        return False
    return following.isdigit() and last not in BEFORE_NUMBERS or following.isupper()


@lru_cache(maxsize=2**16)
def count_syllables(word: str) -> int:
    """Syllables of one word, counted from its spelling; at least one.

    Words of two to four capital letters are spelled out, as they are read aloud: DNA has three syllables, a W or a
    digit counts like its name (three and one). In all others a syllable is a group of neighbouring vowels, y included;
    vowels that meet without merging (`EXTRA_SYLLABLE`) add one, a silent e takes one away.
    """
    letters = [letter for letter in word if letter.isalpha()]
    if 2 <= len(letters) <= 4 and all("A" <= letter <= "Z" for letter in letters):
        return len(letters) + 2 * letters.count("W") + sum(map(str.isdigit, word))
    plain = "".join(c for c in unicodedata.normalize("NFKD", word.lower()) if not unicodedata.combining(c))
    plain = plain.replace("’", "'").removesuffix("'s")
    if plain in IRREGULAR:
        return IRREGULAR[plain]
    plain = re.sub("gu(?=[aeiou])", "g", plain.replace("qu", "kw"))  # these u are no vowels ...
    plain = re.sub("(?<=[aeiou])y(?=[aeiou])", "j", plain)  # ... and neither is the y of player
    return max(1, len(VOWELS.findall(plain)) + len(EXTRA_SYLLABLE.findall(plain)) - _has_silent_e(plain))


def _has_silent_e(word: str) -> bool:
    """Whether the e that ends a word, or comes before -s, -d, -ly, -ment and the like, is not spoken."""
    if not (match := FINAL_E.search(word)):
        return False
    stem, ending = word[: match.start()], match.group(1)
    if not VOWELS.search(stem) or stem[-1] in "aeiou":
        return False
    if stem[-1] in "lr" and len(stem) > 1 and stem[-2] not in f"aeiouy{stem[-1]}":  # table, fibres, handled
        return False
    if ending == "s":
        return stem[-1] not in "szxcg" and not stem.endswith(("ch", "sh"))
    return not (ending == "d" and stem[-1] in "td")


def is_complex(word: str) -> bool:
    """Three syllables or more, not counting the endings -es and -ed: what Gunning calls a hard word.

    Gunning also spares names and easy compounds; these are counted here like any other word, and the parts of a
    hyphenated compound are words of their own.
    """
    if count_syllables(word) < 3:
        return False
    return not word.lower().endswith(("es", "ed")) or count_syllables(word[:-2]) >= 3


def count_text(text: str) -> Counts:
    """Sentences, words and syllables of a text; ValueError when it has no words."""
    words = split_words(text)
    if not words:
        raise ValueError(f"the text {text[:40]!r} has no words, so it has no readability; leave it out")
    syllables = [count_syllables(word) for word in words]
    return Counts(
        sentences=len(split_sentences(text)),
        words=len(words),
        syllables=sum(syllables),
        polysyllables=sum(count >= 3 for count in syllables),
        complex_words=sum(map(is_complex, words)),
    )


def flesch_reading_ease(counts: Counts) -> float:
    """206.835 − 1.015 words per sentence − 84.6 syllables per word (Flesch 1948, J. Appl. Psychol. 32, 221–233).

    Higher is easier; plain English is about 60 to 70, and nothing keeps the index between 0 and 100.
    """
    return 206.835 - 1.015 * counts.words / counts.sentences - 84.6 * counts.syllables / counts.words


def gunning_fog(counts: Counts) -> float:
    """0.4 (words per sentence + 100 × share of complex words), in years of school (Gunning 1952, The Technique of
    Clear Writing)."""
    return 0.4 * (counts.words / counts.sentences + 100 * counts.complex_words / counts.words)


def smog(counts: Counts) -> float:
    """3.1291 + 1.0430 √(30 × polysyllables per sentence), in years of school (McLaughlin 1969, J. Reading 12, 639–646).

    Made for samples of thirty sentences; the polysyllables of a shorter text are scaled up, which makes it noisy.
    """
    return 3.1291 + 1.0430 * math.sqrt(30 * counts.polysyllables / counts.sentences)
