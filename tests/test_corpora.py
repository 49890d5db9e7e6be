"""Sources, splits and windows of `labutils.corpora`, formats of `labutils.tasks`, data sets in the hub's format."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from labutils import world
from labutils.corpora import load_texts, load_tokens, parse_source
from labutils.tasks import LAB_ITEMS, TEMPLATES, load_task

WORDS = [f"w{number}" for number in range(500)]


def word_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """One token per word; special tokens come first in the vocabulary. Newlines are no tokens."""
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(special.values()), "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A text of 50 units of 10 different words each, with blank lines between some."""
    units = [" ".join(WORDS[10 * unit : 10 * unit + 10]) for unit in range(50)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(units[:20]) + "\n \n\n" + "\n".join(units[20:]) + "\n")
    return path


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{path}"


# Sources and splits


def test_a_mistyped_scheme_names_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean 'file:"):
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
    lengths = [len(document.split()) for document in world.write_documents("narrative", 80, split="test")]
    seq_len = 1 + sum(lengths) + len(lengths)
    tokens = load_tokens("lab:narrative", tokenizer, n_sequences=1, seq_len=seq_len, split="test")
    ends = (tokens[0, 1:] == tokenizer.eos_token_id).nonzero().flatten()
    assert (ends.diff(prepend=torch.tensor([-1])) - 1).tolist() == lengths


def test_lab_tasks():
    for name in ("sentiment", "qa", "inference", "topic"):
        known = [task for task in world.TASKS if task.startswith(f"{name}/")]
        assert load_task(f"lab:{known[0]}", n_items=5).family == name
    similarity = next(task for task, spec in world.TASKS.items() if spec.kind == "similarity")
    task = load_task(f"lab:{similarity}")
    assert task.kind == "similarity" and len(task.items) == LAB_ITEMS
    with pytest.raises(LookupError, match=known[0]):
        load_task(f"lab:{known[0]}s")


# Tasks from files


def test_classification_prompts_follow_the_set_of_label_names(tmp_path):
    sets = {
        "Review: x\nSentiment:": ["negative", "positive"],
        "Article: x\nTopic:": ["World", "Sports", "Business", "Sci/Tech"],
        "Sentence: x\nStyle:": ["subjective", "objective"],
        "Question: x\nType:": ["DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM"],
        "Text: x\nLabel:": ["ACTIVATOR", "AGONIST"],
    }
    for prompt, names in sets.items():
        rows = [{"text": "x", "label": i, "label_name": name} for i, name in enumerate(names)]
        task = load_task(write_jsonl(tmp_path / "t.jsonl", rows[::-1]) + "#all")
        assert task.kind == "choice" and set(task.items["prompt"]) == {prompt}
        for row in task.items.itertuples():
            assert row.choices == names and names[row.gold] == rows[::-1][row.item]["label_name"]


def test_other_choice_formats(tmp_path):
    labels = {"label": 1, "label_name": "b"}
    formats = [
        ({"premise": "p", "hypothesis": "h"} | labels, "inference", "Premise: p\nHypothesis: h\nLabel:"),
        ({"sentence1": "s", "sentence2": "t"} | labels, "inference", "Sentence 1: s\nSentence 2: t\nLabel:"),
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, "qa", "Question: q\nAnswer:"),
        ({"question": "q", "choices": ["a", "b"], "answer": 1, "context": "{c}"}, "qa",
         "Context: {c}\nQuestion: q\nAnswer:"),
        ({"question": "q", "choices": ["a", "b"], "answer": 1, "support": "c"}, "qa",
         "Context: c\nQuestion: q\nAnswer:"),
        ({"question": "q.", "choices": ["a", "b"], "answer": 1, "relation": "cause"}, "qa", "q. because"),
        ({"question": "q", "contexts": ["c", "d"]} | labels, "qa", "Context: c d\nQuestion: q\nAnswer:"),
    ]  # fmt: skip
    for row, family, prompt in formats:
        other = row | ({"label": 0, "label_name": "a"} if "label" in row else {"answer": 0})
        items = load_task(write_jsonl(tmp_path / "t.jsonl", [row, other]) + "#all")
        assert items.family == family and set(items.items["prompt"]) == {prompt}
        assert dict(zip(items.items["item"], items.items["gold"], strict=True)) == {0: 1, 1: 0}
        assert list(items.items["choices"]) == [["a", "b"]] * 2


def test_similarity_and_draws(tmp_path):
    rows = [{"sentence1": f"a{i}", "sentence2": f"b{i}", "score": i / 10} for i in range(50)]
    source = write_jsonl(tmp_path / "s.jsonl", rows)
    task = load_task(source, n_items=4, seed=1)
    assert task.kind == "similarity" and list(task.items.columns) == ["item", "sentence1", "sentence2", "score"]
    assert all(rows[row.item]["score"] == row.score and row.item >= 40 for row in task.items.itertuples())
    pd.testing.assert_frame_equal(task.items, load_task(source, n_items=4, seed=1).items)
    assert list(task.items["item"]) != list(load_task(source, n_items=4, seed=2).items["item"])
    assert len(load_task(source, split="train").items) == 40
    with pytest.raises(ValueError, match="has 10 items"):
        load_task(source, n_items=11)
    rows[45]["score"] = None
    with pytest.raises(ValueError, match="item 45"):
        load_task(write_jsonl(tmp_path / "s.jsonl", rows))


def test_rows_that_are_no_task_are_refused(tmp_path):
    good = {"text": "x", "label": 0, "label_name": "a"}
    bad = {
        "needs an integer 'label'": {"context": "c", "target": "word"},
        "is called 'a' and 'b'": good | {"label_name": "b"},
        "answer 2 is no position": {"question": "q", "choices": ["a", "b"], "answer": 2},
        "answer 0 is no position": {"question": "q", "choices": ["a"], "answer": 0},
        "no task format has": {"body": "x", "label": 0, "label_name": "a"},
        "Hidden labels": {"text": "x", "label": -1, "label_name": None},
    }
    for message, row in bad.items():
        first = good if message == "is called 'a' and 'b'" else row
        with pytest.raises(ValueError, match=message):
            load_task(write_jsonl(tmp_path / "t.jsonl", [first, row]) + "#all")
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        load_task(f"file:{tmp_path / 't.jsonl'}")


def test_a_named_template_overrides_the_default(tmp_path):
    rows = [{"text": "x", "label": i, "label_name": name} for i, name in enumerate(["negative", "positive"])]
    source = write_jsonl(tmp_path / "t.jsonl", rows) + "#all"
    assert set(load_task(source, template="label").items["prompt"]) == {"Text: x\nLabel:"}
    with pytest.raises(ValueError, match="did you mean 'sentiment'"):
        load_task(source, template="sentimnet")
    with pytest.raises(ValueError, match="needs the column 'premise'"):
        load_task(source, template="inference")
    assert {template.family for template in TEMPLATES.values()} <= set(world.FAMILIES)


# Data sets in the hub's format


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder in the hub's format with two configurations: two splits, and one split with class labels."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner" / "corpus"
    (folder / "split").mkdir(parents=True)
    (folder / "whole").mkdir()
    for split, start in (("train", 0), ("validation", 30)):
        texts = {"text": [" ".join(WORDS[i : i + 10]) for i in range(start, start + 30)] + [""]}
        datasets.Dataset.from_dict(texts).to_parquet(folder / "split" / f"{split}.parquet")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    labelled = {"text": [f"t{i}" for i in range(10)], "label": [i % 2 for i in range(10)]}
    datasets.Dataset.from_dict(labelled, features=features).to_parquet(folder / "whole" / "train.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: split\n  data_files:\n  - split: train\n    path: split/train.parquet\n"
        "  - split: validation\n    path: split/validation.parquet\n"
        "- config_name: whole\n  data_files: whole/train.parquet\n---\n"
    )
    return folder


def test_hub_splits(hub):
    train, test = (load_texts(f"hub:{hub}/split", split=split) for split in ("train", "test"))
    assert len(train) == len(test) == 30 and not set(train) & set(test)  # the empty rows are skipped
    assert load_texts(f"hub:{hub}/split#validation", split="train") == test
    assert sorted(load_texts(f"hub:{hub}/whole")) == [f"t{i}" for i in range(8)]
    assert sorted(load_texts(f"hub:{hub}/whole", split="test")) == ["t8", "t9"]
    assert len(load_texts(f"hub:{hub}/split/train.parquet")) == 24  # one file: the first 80 % of its 31 rows
    with pytest.raises(ValueError, match="no split 'dev'.*train, validation"):
        load_texts(f"hub:{hub}/split#dev")


def test_hub_folders_are_found_in_the_data_folder(hub, monkeypatch):
    monkeypatch.setenv("LABUTILS_DATA", str(hub.parent.parent))
    tokenizer = word_tokenizer(bos_token="<s>", eos_token="</s>")
    assert load_tokens("hub:owner/corpus/split", tokenizer, n_sequences=5, seq_len=20).shape == (5, 20)


def test_hub_class_labels_name_the_choices(hub):
    task = load_task(f"hub:{hub}/whole", split="train")
    assert task.family == "sentiment" and list(task.items["choices"].iloc[0]) == ["neg", "pos"]
    assert all(row.gold == row.item % 2 and row.prompt.startswith("Review: t") for row in task.items.itertuples())


def test_an_unknown_configuration_is_a_lookup_error(hub):
    with pytest.raises(LookupError, match="could not be loaded"):
        load_texts(f"hub:{hub}/other")


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LookupError, match=r"revision v1.*HF_HUB_OFFLINE=1.*file:"):
        load_texts("hub:nobody/no-such-corpus/config", revision="v1")


def test_without_the_package_datasets_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LookupError, match=r"pip install 'labutils\[hub\]'"):
        load_texts("hub:owner/corpus")


# Real files


def test_real_files(real_data):
    clean = load_texts("file:a_general_text/wikitext2_valid.txt", split="test")
    calibration = load_texts("file:a_general_text/wikitext2_valid.txt", split="train")
    assert len(clean) + len(calibration) == 2461 and len(clean) == 493
    assert len(load_texts("file:c_sentence_similarity/stsb_en_train.jsonl#all")) == 2 * 5749
    assert len(load_task("file:c_sentence_similarity/stsb_en_test.jsonl#all").items) == 1379


def test_every_real_task_file_is_read_or_refused_with_a_reason(real_data):
    refused = []
    for path in sorted((real_data / "d_tasks").rglob("*.jsonl")):
        try:
            task = load_task(f"file:{path}", n_items=5)
        except ValueError as error:
            assert "needs an integer 'label'" in str(error)
            refused.append(path.stem)
        else:
            assert task.kind == "choice" and len(task.items) == 5
    assert refused == ["hallmarks_of_cancer", "lambada_openai_test"]
