"""Sources, splits and windows."""

from pathlib import Path

import pytest
import torch
from helpers import WORDS, frame_with, word_tokenizer, write_jsonl
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from labutils import world
from labutils.data.corpora import load_texts, load_tokens
from labutils.data.sources import parse_source
from labutils.data.tasks import load_task


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A text of 50 units of 10 different words each, with blank lines between some."""
    units = [" ".join(WORDS[10 * unit : 10 * unit + 10]) for unit in range(50)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(units[:20]) + "\n \n\n" + "\n".join(units[20:]) + "\n")
    return path


# Sources and splits


def test_a_mistyped_scheme_names_the_nearest_one():
    with pytest.raises(ValueError, match="Did you mean 'file:"):
        parse_source("fiel:a.txt")
    with pytest.raises(ValueError, match="names nothing"):
        parse_source("file:")
    with pytest.raises(ValueError, match="#all"):
        parse_source("file:a.txt#last")
    with pytest.raises(ValueError, match="train, test"):
        load_texts("file:a.txt", split="dev")


def test_the_first_four_fifths_of_the_units_are_train_and_the_rest_test(lines):
    train, test = (set(load_texts(f"file:{lines}", split=split)) for split in ("train", "test"))
    units = [line for line in lines.read_text().split("\n") if line.strip()]
    assert train == set(units[:40]) and test == set(units[40:])


def test_a_file_used_whole_belongs_to_either_split(lines):
    whole = [load_texts(f"file:{lines}#all", split=split) for split in ("train", "test")]
    assert whole[0] == whole[1] and len(whole[0]) == 50


def test_texts_are_drawn_by_seed(lines):
    first, again, other = (load_texts(f"file:{lines}", seed=seed, n=10) for seed in (1, 1, 2))
    assert first == again != other
    with pytest.raises(ValueError, match="holds 40 documents"):
        load_texts(f"file:{lines}", n=41)


def test_relative_paths_are_found_in_the_data_folder(lines, monkeypatch):
    monkeypatch.setenv("LABUTILS_DATA", str(lines.parent))
    assert len(load_texts("file:text.txt")) == 40
    with pytest.raises(LookupError, match="txet.txt"):
        load_texts("file:txet.txt")


def test_jsonl_gives_texts_or_both_sentences(tmp_path):
    plain = write_jsonl(tmp_path / "a.jsonl", [{"text": f"t{i}"} for i in range(5)])
    paired = write_jsonl(tmp_path / "b.jsonl", [{"sentence1": f"a{i}", "sentence2": f"b{i}"} for i in range(5)])
    assert sorted(load_texts(plain)) == ["t0", "t1", "t2", "t3"]
    assert sorted(load_texts(f"{paired}#all")) == [f"{side}{i}" for side in "ab" for i in range(5)]
    with pytest.raises(ValueError, match="found body"):
        load_texts(write_jsonl(tmp_path / "c.jsonl", [{"body": "x"}] * 5))


def test_unreadable_files_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "table.csv").write_text("text\nx\n")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "one.txt").write_text("only\n")
    for name, message in {
        "empty.txt": "is empty", "table.csv": "must be .txt", "broken.jsonl": "line 2", "list.jsonl": "not list",
        "one.txt": "append '#all'",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load_texts(f"file:{tmp_path / name}")
    with pytest.raises(ValueError, match="is a folder"):
        load_texts(f"file:{tmp_path}")


# Windows


def test_decoder_windows_start_with_bos_and_never_overlap(lines):
    tokenizer = word_tokenizer(bos_token="<s>", eos_token="</s>")
    tokens = load_tokens(f"file:{lines}", tokenizer, n_sequences=50, seq_len=9)
    assert tokens.shape == (50, 9) and tokens.dtype == torch.int64
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    stream = tokens[:, 1:].flatten()
    text = stream[stream != tokenizer.eos_token_id]
    assert len(text.unique()) == len(text)  # every word stands once in the file
    documents = tokenizer.decode(stream).split("</s>")
    units = {line for line in lines.read_text().split("\n") if line.strip()}
    assert {document.strip() for document in documents[:-1]} <= units  # lines are never shuffled inside


def test_encoder_windows_are_framed_and_have_no_separator_without_an_eos(lines):
    tokenizer = word_tokenizer(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]")
    tokens = load_tokens(f"file:{lines}", tokenizer, n_sequences=40, seq_len=12)
    assert (tokens[:, 0] == tokenizer.cls_token_id).all() and (tokens[:, -1] == tokenizer.sep_token_id).all()
    assert (tokens[:, 1:-1] > tokenizer.unk_token_id).all()


def test_a_tokenizer_without_special_tokens_gets_newlines():
    core = Tokenizer(models.WordLevel({"<unk>": 0, "\n": 1}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    tokens = load_tokens("lab:narrative", tokenizer, n_sequences=8, seq_len=64)
    assert set(tokens.unique().tolist()) == {0, 1}


def test_windows_are_deterministic_and_seeds_differ(lines):
    tokenizer = word_tokenizer(bos_token="<s>", eos_token="</s>")
    first, again, other = (
        load_tokens(f"file:{lines}", tokenizer, n_sequences=4, seq_len=16, seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_too_little_text_says_how_much_there_is(lines):
    tokenizer = word_tokenizer(bos_token="<s>", eos_token="</s>")
    with pytest.raises(ValueError, match="holds 55 sequences of 9 tokens, 56 were asked"):  # 40 units × 11 tokens / 8
        load_tokens(f"file:{lines}", tokenizer, n_sequences=56, seq_len=9)
    assert len(load_tokens(f"file:{lines}", tokenizer, n_sequences=55, seq_len=9)) == 55
    for n_sequences, seq_len in ((0, 9), (1, 1)):
        with pytest.raises(ValueError, match="leave no text"):
            load_tokens(f"file:{lines}", tokenizer, n_sequences=n_sequences, seq_len=seq_len)


# The controlled language


def test_documents_of_the_controlled_language():
    few, many = (load_texts("lab:review", n=n, seed=5) for n in (3, 80))
    assert many == world.write_documents("review", 80, seed=5) and many[:3] == few
    assert not set(many) & set(load_texts("lab:review", n=80, seed=5, split="test"))
    other = load_texts(f"lab:review/{world.LANGUAGES[1]}", n=3, seed=5)
    assert all(translated != original for translated, original in zip(other, few, strict=True))
    with pytest.raises(ValueError, match="never ends"):
        load_texts("lab:review")
    with pytest.raises(LookupError, match="review"):
        load_texts("lab:reviews", n=1)


def test_windows_of_the_controlled_language_hold_its_documents_in_order():
    core = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    frame_with(tokenizer, "<s>", None)
    lengths = [len(document.split()) for document in world.write_documents("narrative", 80, split="test")]
    seq_len = 1 + sum(lengths) + len(lengths)
    tokens = load_tokens("lab:narrative", tokenizer, n_sequences=1, seq_len=seq_len, split="test")
    ends = (tokens[0, 1:] == tokenizer.eos_token_id).nonzero().flatten()
    assert (ends.diff(prepend=torch.tensor([-1])) - 1).tolist() == lengths


# Real files


def test_real_files(real_data):
    clean = load_texts("file:a_general_text/wikitext2_valid.txt", split="test")
    calibration = load_texts("file:a_general_text/wikitext2_valid.txt", split="train")
    assert len(clean) + len(calibration) == 2461 and len(clean) == 493
    assert len(load_texts("file:c_sentence_similarity/stsb_en_train.jsonl#all")) == 2 * 5749
    assert len(load_task("file:c_sentence_similarity/stsb_en_test.jsonl#all").items) == 1379


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\nsecond\n", encoding="utf-8-sig")
    assert sorted(load_texts(f"file:{tmp_path / 'a.txt'}#all")) == ["first", "second"]
