"""Text files, word lists and names of sources of all kinds: texts, or a refusal in words."""

import json
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
from fuzzing import fuzz, only_our_errors
from hypothesis import given
from hypothesis import strategies as st

from labutils.core.parts import split_part
from labutils.data.corpora import load_texts
from labutils.data.sources import language_of, parse_source, short_source, split_pair
from labutils.data.words import Terms, find_words, read_concepts

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
keys = st.sampled_from(["text", "sentence1", "sentence2", "label", "", "Text"])
objects = st.dictionaries(keys, st.one_of(st.text(max_size=20), values), max_size=4)
ENDS = ["\n", "\r\n", "\r", "\n\n", " \n", "\n\ufeff", "\x00", ",", "\u2028", "\x85"]
files = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(objects.map(json.dumps), values.map(json.dumps), st.text(max_size=30)), max_size=6).flatmap(
        lambda lines: st.sampled_from(ENDS).map(lambda end: end.join(lines).encode("utf-8", "surrogatepass"))
    ),
    st.text(max_size=60).flatmap(
        lambda text: st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "gbk"]).map(
            lambda encoding: text.encode(encoding, "replace")
        )
    ),
)
FOLDER = Path(tempfile.mkdtemp())


def written(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


@fuzz(300)
@given(files, st.sampled_from(["a.txt", "a.jsonl", "a#1.JSONL", "a.csv"]), st.sampled_from(["", "#all", "#x"]))
def test_any_file_holds_texts_or_is_refused(data: bytes, name: str, part: str) -> None:
    with only_our_errors():
        texts = load_texts(f"file:{written(name, data)}{part}", split="train")
        assert texts and all(text.strip() and text.encode() is not None for text in texts)
        assert name.lower().endswith((".txt", ".jsonl")) and part in ("", "#all")


@fuzz(200)
@given(files, st.sampled_from(["a.txt", "a.json", "a.yaml"]))
def test_any_word_list_is_read_or_refused(data: bytes, name: str) -> None:
    with only_our_errors():
        concepts = read_concepts(written(name, data))
        assert concepts and all(words and all(find_words(word) for word in words) for words in concepts.values())


@fuzz(300)
@given(st.one_of(st.text(max_size=40), st.from_regex(r"(file|hub|lab):[a-z#/.→ ~?*\[\]]{0,20}", fullmatch=True)))
def test_any_name_of_a_source_is_taken_apart_or_refused(source: str) -> None:
    with only_our_errors():
        parsed = parse_source(source)
        assert parsed.name and source.endswith(parsed.part)
        assert "".join([parsed.scheme, ":", parsed.name, "#" * bool(parsed.part), parsed.part]) in (source, source[:-1])
    name, part = split_part(source)
    assert source in (name, f"{name}#{part}")
    calibration, evaluation = split_pair(source)
    assert all(isinstance(text, str) for text in (short_source(source), language_of(calibration), evaluation))


@fuzz(200)
@given(st.text(max_size=60), st.lists(st.text(max_size=8), max_size=4))
def test_words_stand_where_they_are_said_to(text: str, terms: list[str]) -> None:
    for word, start, end in find_words(text):
        assert text[start:end].casefold() == word
    with only_our_errors():
        found = Terms(terms)
        assert all(0 <= place < len(found.names) and text[a:b] for place, a, b in found.find(text))
