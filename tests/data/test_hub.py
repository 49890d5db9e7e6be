"""Data sets in the hub's format, from local folders, and what happens without a network."""

import sys
from pathlib import Path

import pytest
from helpers import WORDS, word_tokenizer

from labutils.data.corpora import load_texts, load_tokens
from labutils.data.tasks import load_task


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
