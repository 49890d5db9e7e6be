"""Words, their tokens, windows of long texts, and concept files."""

import json

import pytest
from helpers import TINY_WORDS, frame_with, word_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from labutils.attribution.words import encode_texts, read_rows, windows
from labutils.data.words import Terms, count_words, find_words, read_concepts, texts_about


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """Words fall into pieces: "unhappy" → un ##happy, "bed" → bed, letters otherwise."""
    pieces = ["<s>", "</s>", "<unk>", "un", "##happy", "happy", "chest", "pain", "bed", "##s", ".", ","]
    core = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    frame_with(tokenizer, "<s>", None)
    return tokenizer


def test_words_are_runs_of_letters_and_digits_whatever_their_case():
    assert [word for word, _, _ in find_words("Don't re-use 3 Straße_x, “Zoë’s”!")] == [
        "don't", "re-use", "3", "strasse", "x", "zoë’s",
    ]  # fmt: skip
    assert find_words("") == [] and find_words("… — !") == []
    assert count_words(["A cat, a CAT", ""]) == {"a": 2, "cat": 2}


def test_terms_of_several_words_need_blanks_only_between_them():
    terms = Terms(["Chest pain", "pain", "chest  PAIN"])
    assert terms.names == ("Chest pain", "pain")
    text = "Pain. Chest\npain, chest: pain"
    assert [(terms.names[place], text[a:b]) for place, a, b in terms.find(text)] == [
        ("pain", "Pain"), ("Chest pain", "Chest\npain"), ("pain", "pain"), ("pain", "pain"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'…' is no word"):
        Terms(["pain", "…"])


def test_texts_about_a_concept_hold_its_words():
    assert texts_about(["w1 w2", "W3 w4", "w31", "w3."], ["w3"]) == ["W3 w4", "w3."]
    assert texts_about(["w1"], ["w9"]) == []


def test_a_word_of_several_tokens_has_them_all():
    tokenizer = piece_tokenizer()
    (row,) = read_rows(
        tokenizer, ["Beds, unhappy chest pain. unhappys".lower()], Terms(["unhappy", "beds", "chest pain"]), limit=32
    )
    tokens = tokenizer.convert_ids_to_tokens(row.ids)
    assert tokens == ["<s>", "bed", "##s", ",", "un", "##happy", "chest", "pain", ".", "un", "##happy", "##s"]
    found = {tuple(tokens[first:last]) for _, first, last in row.occurrences}
    assert found == {("bed", "##s"), ("un", "##happy"), ("chest", "pain")}
    assert row.content == range(1, 12)


def test_long_texts_become_windows_that_cut_no_word(tokenizer):
    text = " ".join(f"w{number % 40}" for number in range(50))
    rows = list(read_rows(tokenizer, [text, "", "w1"], Terms(TINY_WORDS), limit=12))
    assert [len(row.ids) for row in rows] == [12, 12, 12, 12, 7, 2]
    assert all(row.ids[0] == tokenizer.bos_token_id for row in rows)
    assert sum(len(row.occurrences) for row in rows) == 51
    for row in rows:
        for term, first, last in row.occurrences:
            assert tokenizer.convert_ids_to_tokens(row.ids[first:last]) == [TINY_WORDS[term]]


def test_windows_end_before_an_occurrence_that_would_be_cut():
    assert list(windows(10, 4, [])) == [(0, 4), (4, 8), (8, 10)]
    assert list(windows(10, 4, [(0, 3, 6)])) == [(0, 3), (3, 7), (7, 10)]
    assert list(windows(7, 3, [(0, 0, 5)])) == [(0, 3), (3, 6), (6, 7)]  # too long for any window
    assert list(windows(0, 4, [])) == []


def test_a_tokenizer_without_offsets_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="no character offsets"):
        encode_texts(tokenizer, ["w1"])
    with pytest.raises(ValueError, match="no character offsets"):
        list(read_rows(tokenizer, ["w1"], Terms(["w1"]), limit=8))


def test_special_tokens_frame_every_row_of_an_encoder():
    tokenizer = word_tokenizer(TINY_WORDS, cls_token="[CLS]", sep_token="[SEP]")
    (row,) = read_rows(tokenizer, ["w1 w2"], Terms(["w2"]), limit=8)
    assert tokenizer.convert_ids_to_tokens(row.ids) == ["[CLS]", "w1", "w2", "[SEP]"]
    assert [(first, last) for _, first, last in row.occurrences] == [(2, 3)] and row.content == range(1, 3)


def test_concepts_are_read_from_files(tmp_path):
    wanted = {"colour": ("red", "blue"), "pain": ("chest pain",)}
    (tmp_path / "a.yaml").write_text("colour: red blue\npain: [chest pain]\n")
    (tmp_path / "a.json").write_text(json.dumps({"colour": ["red", "blue"], "pain": ["chest pain"]}))
    (tmp_path / "pain.txt").write_text("chest pain\n\nheadache\n")
    assert read_concepts(tmp_path / "a.yaml") == read_concepts(tmp_path / "a.json") == wanted
    assert read_concepts(str(tmp_path / "pain.txt")) == {"pain": ("chest pain", "headache")}
    for name, content, message in (
        ("list.json", "[1]", "maps each concept"),
        ("bad.yaml", "colour: 3", "'colour' needs a list"),
        ("none.yaml", "colour: []", "'colour' needs a list"),
        ("a.csv", "red", ".yaml, .json or .txt"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_concepts(tmp_path / name)
    with pytest.raises(LookupError, match="no file"):
        read_concepts(tmp_path / "missing.yaml")


def test_shipped_concepts_share_no_word():
    english = read_concepts("english")
    words = [word for listed in english.values() for word in listed]
    assert len(english) == 18 and len(words) == len(set(words)) and {"no", "good", "cancer"} <= set(words)
    with pytest.raises(LookupError, match="name of a shipped list: english"):
        read_concepts("englisch")
