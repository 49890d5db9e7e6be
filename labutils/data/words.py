"""Words and terms in texts, and lists of concept words."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from labutils.core import paths
from labutils.core.text_files import read_text
from labutils.core.yaml_text import parse_yaml

SHIPPED = paths.DATA / "concepts"
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


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
    """The texts in which any of the words occurs.

    >>> texts_about(["Chest pain.", "Rain."], ["chest pain"])
    ['Chest pain.']
    """
    terms = Terms(words)
    return [text for text in texts if terms.find(text)]


def read_concepts(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Concept word lists from a file: concept → words.

        concepts = lab.data.read_concepts("english")
        concepts = lab.data.read_concepts("concepts.yaml")

    ``english`` is the list of everyday and biomedical words that is shipped in ``data/concepts``. ``.yaml`` or
    ``.json``: an object whose values are lists of words, or one string of words between blanks. ``.txt``: one word or
    term per line, a single concept named after the file. In YAML, `no`, `on`, `true` and `null` are words.

    Raises:
        LookupError: no such file.
        ValueError: another ending or structure, or a concept without words.
    """
    shipped = {each.stem: each for each in sorted(SHIPPED.glob("*.yaml"))}
    path = shipped.get(str(path)) or paths.expand(path)
    if not path.is_file():
        raise LookupError(
            f"there is no file {path}; give a .yaml, .json or .txt file of concept words, or the name of a shipped "
            f"list: {', '.join(shipped)}"
        )
    text = read_text(path)
    if path.suffix == ".txt":
        content = {path.stem: [line.strip() for line in text.splitlines() if line.strip()]}
    elif path.suffix in (".yaml", ".yml", ".json"):
        content = (
            _parse_json(text, path.name) if path.suffix == ".json" else parse_yaml(text, name=path.name, words=True)
        )
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


def _parse_json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not JSON ({error})") from error
