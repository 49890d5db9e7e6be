"""The registry of hub data sets: every one is filled from a local stand-in with the columns that the hub has."""

from pathlib import Path

import pytest
import yaml

from labutils import world
from labutils.data.hub_tasks import REGISTRY, find_hub_task, list_hub_tasks, read_hub_tasks
from labutils.data.prompts import TEMPLATES
from labutils.data.tasks import load_task
from labutils.sweeps import expand_tasks
from labutils.sweeps.calibration_sets import task_texts

KEYED = {"label": ["A", "B"], "text": ["one", "two"]}
# One record of each data set as the hub has it, its split of known answers, and what must become of the record: the
# prompt, the choices and the position of the right one.
SENTIMENT = ("Review: x y\nSentiment:", ["negative", "positive"], 1)
ENTAILMENT = ("Premise: p q\nHypothesis: h i\nLabel:", ["entailment", "neutral", "contradiction"], 2)
SAME = ("Sentence 1: p q\nSentence 2: h i\nLabel:", ["different", "same"], 1)
QUESTION = ("Question: q r\nAnswer:", ["one", "two"], 1)
MULTIPLE = {"question": "q r", "choices": KEYED, "answerKey": "B"}
PAIR = {"premise": "p q", "hypothesis": "h i", "label": 2}
SENTENCES = {"sentence1": "p q", "sentence2": "h i"}
RECORDS = {
    "stanfordnlp/sst2": ("validation", {"idx": 1, "sentence": "x y", "label": 1}, SENTIMENT),
    "stanfordnlp/imdb": ("test", {"text": "x y", "label": 1}, SENTIMENT),
    "cornell-movie-review-data/rotten_tomatoes": ("test", {"text": "x y", "label": 1}, SENTIMENT),
    "fancyzhx/yelp_polarity": ("test", {"text": "x y", "label": 1}, SENTIMENT),
    "fancyzhx/amazon_polarity": ("test", {"label": 1, "title": "t", "content": "x y"}, SENTIMENT),
    "cardiffnlp/tweet_eval/sentiment": (
        "test", {"text": "x y", "label": 2}, (SENTIMENT[0], ["negative", "neutral", "positive"], 2),
    ),
    "SetFit/sst5": (
        "test", {"text": "x y", "label": 0, "label_text": "very negative"},
        (SENTIMENT[0], ["very negative", "negative", "neutral", "positive", "very positive"], 0),
    ),
    "allenai/ai2_arc/ARC-Easy": ("test", {"id": "1"} | MULTIPLE, QUESTION),
    "allenai/ai2_arc/ARC-Challenge": ("test", {"id": "1"} | MULTIPLE, QUESTION),
    "allenai/openbookqa/main": (
        "test", {"question_stem": "q r", "choices": KEYED, "answerKey": "B"}, ("q r", *QUESTION[1:]),
    ),
    "tau/commonsense_qa": ("validation", {"question_concept": "c"} | MULTIPLE, QUESTION),
    "cais/mmlu/clinical_knowledge": (
        "test", {"question": "q r", "subject": "s", "choices": ["one", "two"], "answer": 1}, QUESTION,
    ),
    "openlifescienceai/medmcqa": (
        "validation", {"question": "q r", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 3, "exp": "e"},
        (QUESTION[0], ["a", "b", "c", "d"], 3),
    ),
    "google/boolq": (
        "validation", {"question": "q r", "answer": False, "passage": "p q"},
        ("Context: p q\nQuestion: q r\nAnswer:", ["no", "yes"], 0),
    ),
    "qiaojin/PubMedQA/pqa_labeled": (
        "train", {"question": "q r", "context": {"contexts": ["p", "q"], "labels": ["A"]}, "final_decision": "maybe"},
        ("Context: p q\nQuestion: q r\nAnswer:", ["yes", "no", "maybe"], 2),
    ),
    "nyu-mll/glue/rte": (
        "validation", SENTENCES | {"label": 1}, (ENTAILMENT[0], ["entailment", "not entailment"], 1),
    ),
    "nyu-mll/glue/wnli": (
        "validation", SENTENCES | {"label": 1}, (ENTAILMENT[0], ["not entailment", "entailment"], 1),
    ),
    "nyu-mll/glue/mnli": ("validation_matched", PAIR, ENTAILMENT),
    "nyu-mll/glue/qnli": (
        "validation", {"question": "h i", "sentence": "p q", "label": 0},
        (ENTAILMENT[0], ["answered", "not answered"], 0),
    ),
    "stanfordnlp/snli": ("test", PAIR, ENTAILMENT),
    "nyu-mll/glue/mrpc": ("test", SENTENCES | {"label": 1}, SAME),
    "nyu-mll/glue/qqp": ("validation", {"question1": "p q", "question2": "h i", "label": 1}, SAME),
    "google-research-datasets/paws/labeled_final": ("test", SENTENCES | {"label": 1}, SAME),
    "fancyzhx/ag_news": (
        "test", {"text": "x y", "label": 3}, ("Article: x y\nTopic:", ["World", "Sports", "Business", "Sci/Tech"], 3),
    ),
    "fancyzhx/dbpedia_14": ("test", {"label": 13, "title": "t", "content": "x y"}, ("Article: x y\nTopic:", None, 13)),
    "community-datasets/yahoo_answers_topics": (
        "test", {"topic": 5, "question_title": "x y", "question_content": "z"}, ("Article: x y\nTopic:", None, 5),
    ),
    "SetFit/subj": (
        "test", {"text": "x y", "label": 1, "label_text": "subjective"},
        ("Sentence: x y\nStyle:", ["objective", "subjective"], 1),
    ),
    "CogComp/trec": (
        "test", {"text": "x y", "coarse_label": 3, "fine_label": 7},
        ("Question: x y\nType:", ["abbreviation", "entity", "description", "person", "place", "number"], 3),
    ),
    "sentence-transformers/stsb": ("test", SENTENCES | {"score": 0.5}, None),
    "mteb/sickr-sts": ("test", SENTENCES | {"score": 3.5}, None),
    "mteb/biosses-sts": ("test", SENTENCES | {"score": 2.0}, None),
}  # fmt: skip


def stand_in(folder: Path, splits: dict[str, list[dict]]) -> None:
    datasets = pytest.importorskip("datasets")
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        datasets.Dataset.from_list(rows).to_parquet(folder / f"{split}.parquet")
    files = "".join(f"  - split: {split}\n    path: {split}.parquet\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder in whose subfolders data sets are found by their ids."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_at_least_six_in_every_family_and_no_record_is_missing_here():
    assert set(RECORDS) == set(list_hub_tasks()) and len(RECORDS) >= 24
    for family in world.FAMILIES:
        assert len(list_hub_tasks(family)) >= 6
        assert expand_tasks([f"hub:{family}"]) == [f"hub:{name}" for name in list_hub_tasks(family)]
    assert {entry.get("template") for entry in yaml.safe_load(REGISTRY.read_text()).values()} - {None} <= set(TEMPLATES)


@pytest.mark.parametrize("name", RECORDS)
def test_every_template_is_filled_from_the_hubs_columns(name, hub):
    split, record, expected = RECORDS[name]
    splits = {split: [record] * 5} if split == "train" else {"train": [record] * 3, split: [record] * 5}
    if find_hub_task(name).test:  # the test split hides its answers, and must not be taken
        plain = {key: value for key, value in record.items() if isinstance(value, int | str)}
        splits["test"] = [record | {key: -1 if isinstance(value, int) else "" for key, value in plain.items()}] * 4
    stand_in(hub / name, splits)
    task = load_task(f"hub:{name}", n_items=1)
    assert task.family == find_hub_task(name).family and task_texts(task)
    item = task.items.iloc[0]
    if expected is None:
        assert task.kind == "similarity" and item["score"] == record["score"] and item["sentence1"] == "p q"
        return
    prompt, choices, gold = expected
    assert item["prompt"] == prompt and item["gold"] == gold
    assert item["choices"] == (choices or list(find_hub_task(name).labels)) and gold < len(item["choices"])
    assert task_texts(load_task(f"hub:{name}", n_items=2, split="train"))[0].startswith(prompt)


def test_items_without_an_answer_are_passed_over_and_never_counted(hub):
    rows = [PAIR | {"premise": f"p{n}", "label": n % 4 - 1} for n in range(40)]  # every fourth is hidden, as in SNLI
    stand_in(hub / "stanfordnlp" / "snli", {"test": rows, "train": rows})
    task = load_task("hub:stanfordnlp/snli", n_items=30, seed=2)
    assert len(task.items) == 30 and task.items["item"].is_unique
    for item in task.items.itertuples():
        assert item.gold == item.item % 4 - 1 and f"Premise: p{item.item}\n" in item.prompt
    with pytest.raises(ValueError, match="has 30 items with a known answer, 31 wanted"):
        load_task("hub:stanfordnlp/snli", n_items=31)


def test_a_data_set_that_changed_is_refused_by_its_column(hub):
    stand_in(hub / "stanfordnlp" / "sst2", {"validation": [{"text": "x", "label": 0}]})
    with pytest.raises(ValueError, match="no column 'sentence' among text, label"):
        load_task("hub:stanfordnlp/sst2")
    stand_in(hub / "google" / "boolq", {"validation": [{"question": "q", "passage": "p", "answer": "perhaps"}]})
    with pytest.raises(ValueError, match="the answer 'perhaps' is none of False, True"):
        load_task("hub:google/boolq")


def test_entries_that_break_the_rules_are_refused(tmp_path):
    bad = {
        "one of label, choices and score": "{family: qa, template: question}",
        "at least two classes": "{family: qa, template: question, label: label, labels: [a]}",
        "similarity has no prompt": "{family: topic, score: score, template: label}",
        "values are as many": "{family: qa, template: label, label: label, labels: [a, b], values: [1]}",
        "the column of the answer": "{family: qa, template: question, choices: choices}",
        "missing or unknown": "{family: qa, templet: question}",
    }
    for message, entry in bad.items():
        (tmp_path / "tasks.yaml").write_text(f"owner/name: {entry}\n")
        with pytest.raises(ValueError, match=message):
            read_hub_tasks(tmp_path / "tasks.yaml")
