"""Words in texts, and the tokens they are made of.

A word is a run of letters and digits, inner hyphens and apostrophes included; upper and lower case are the same word. A
term is a word or several words in a row ("chest pain"). A term's tokens are all those that share a character with it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from transformers import PreTrainedTokenizerBase

from labutils.corpora import special_frame

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
TEXTS_AT_ONCE = 256  # tokenised together; only these are held as tokens


class Occurrence(NamedTuple):
    """A term in a row of tokens: position of the term in `Terms.names`, its tokens from `first` up to before `last`."""

    term: int
    first: int
    last: int


class Row(NamedTuple):
    """A window of a text as the model reads it, special tokens included, with the terms that lie wholly in it."""

    ids: list[int]
    content: range  # positions of the text's own tokens
    occurrences: list[Occurrence]


def find_words(text: str) -> list[tuple[str, int, int]]:
    """All words of a text in order: the word in lower case (casefolded), and its first and last + 1 character."""
    return [(match.group().casefold(), *match.span()) for match in WORD.finditer(text)]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word for text in texts for word, _, _ in find_words(text))


def term_key(term: str) -> tuple[str, ...]:
    """The words of a term, by which spellings are told to be the same; ValueError when it has none."""
    words = tuple(word for word, _, _ in find_words(term))
    if not words:
        raise ValueError(f"{term!r} is no word: a word needs a letter or a digit")
    return words


class Terms:
    """Terms to look for. `names` are spelled as given; of several spellings of one term only the first is kept."""

    def __init__(self, names: Iterable[str]) -> None:
        spellings: dict[tuple[str, ...], str] = {}
        for name in names:
            spellings.setdefault(term_key(name), name)
        self.names = tuple(spellings.values())
        self._places = {key: place for place, key in enumerate(spellings)}
        self._lengths = sorted({len(key) for key in spellings})

    def find(self, text: str) -> list[tuple[int, int, int]]:
        """Every occurrence of a term: its position in `names`, its first and last + 1 character. They may overlap.

        Words of one term may have nothing but blanks between them.
        """
        words = find_words(text)
        found = []
        for start in range(len(words)):
            for length in self._lengths:
                part = words[start : start + length]
                place = self._places.get(tuple(word for word, _, _ in part)) if len(part) == length else None
                if place is None:
                    continue
                gaps = [text[left[2] : right[1]] for left, right in zip(part, part[1:], strict=False)]
                if not any(gap.strip() for gap in gaps):
                    found.append((place, part[0][1], part[-1][2]))
        return found


def texts_about(texts: Iterable[str], words: Sequence[str]) -> list[str]:
    """The texts in which any of the words occurs."""
    terms = Terms(words)
    return [text for text in texts if terms.find(text)]


def token_range(starts: Sequence[int], ends: Sequence[int], first: int, last: int) -> tuple[int, int]:
    """The tokens that share a character with [first, last); `starts` and `ends` are the tokens' character offsets."""
    return int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(starts, last, side="left"))


class Encoded(NamedTuple):
    """A text's token ids without special tokens, and the first and last + 1 character of each token."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Encoded]:
    """Tokens with their characters; ValueError for a tokenizer that does not tell which characters a token covers."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets, without which words cannot be matched to tokens "
            "exactly. Load the fast tokenizer of the model (a folder with tokenizer.json)."
        )
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        Encoded(ids, [start for start, _ in offsets], [end for _, end in offsets])
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def read_rows(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], terms: Terms, *, limit: int) -> Iterator[Row]:
    """The texts as rows of at most `limit` tokens, in order, with all terms found in them.

    A longer text is read in several windows that do not overlap, each between the model's special tokens and cut
    between terms; an occurrence that no window holds whole is left out. Texts without tokens give no row.

    ValueError for a tokenizer without character offsets.
    """
    prefix, suffix = special_frame(tokenizer)
    room = limit - len(prefix) - len(suffix)
    remaining = iter(texts)
    while chunk := list(islice(remaining, TEXTS_AT_ONCE)):
        for text, (ids, starts, ends) in zip(chunk, encode_texts(tokenizer, chunk), strict=True):
            found = [Occurrence(term, *token_range(starts, ends, *span)) for term, *span in terms.find(text)]
            found = [occurrence for occurrence in found if occurrence.first < occurrence.last]
            for start, stop in windows(len(ids), room, found):
                shift = len(prefix) - start
                inside = [
                    Occurrence(term, first + shift, last + shift)
                    for term, first, last in found
                    if start <= first and last <= stop
                ]
                content = range(len(prefix), len(prefix) + stop - start)
                yield Row(prefix + ids[start:stop] + suffix, content, inside)


def windows(n_tokens: int, room: int, occurrences: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Cut `n_tokens` tokens into windows of at most `room`, where possible not inside an occurrence."""
    start = 0
    while start < n_tokens:
        stop = min(start + room, n_tokens)
        cut = [first for _, first, last in occurrences if start < first < stop < last] if stop < n_tokens else []
        stop = min(cut, default=stop)
        yield start, stop
        start = stop


def read_concepts(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Concept word lists from a file: concept → words.

    ``.yaml`` or ``.json``: an object whose values are lists of words, or one string of words between blanks. ``.txt``:
    one word or term per line, a single concept named after the file.

    Raises:
        LookupError: no such file.
        ValueError: another ending or structure, or a concept without words.
    """
    path = Path(path)
    if not path.is_file():
        raise LookupError(f"there is no file {path}; give a .yaml, .json or .txt file of concept words")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        content = {path.stem: [line.strip() for line in text.splitlines() if line.strip()]}
    elif path.suffix in (".yaml", ".yml", ".json"):
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    else:
        raise ValueError(f"{path.name}: concept words are read from .yaml, .json or .txt files")
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path.name}: an object that maps each concept to its words is expected")
    concepts = {}
    for name, words in content.items():
        listed = words.split() if isinstance(words, str) else words
        if not isinstance(listed, list) or not listed or not all(isinstance(word, str) for word in listed):
            raise ValueError(f"{path.name}: concept {name!r} needs a list of words, not {words!r}")
        concepts[str(name)] = Terms(listed).names
    return concepts
