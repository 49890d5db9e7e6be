"""Task formats, prompts and draws."""

import pandas as pd
import pytest
from helpers import write_jsonl

from labutils import world
from labutils.data.prompts import TEMPLATES
from labutils.data.tasks import LAB_ITEMS, Task, load_task


def test_lab_tasks():
    for name in ("sentiment", "qa", "inference", "topic"):
        known = [task for task in world.TASKS if task.startswith(f"{name}/")]
        assert load_task(f"lab:{known[0]}", n_items=5).family == name
    similarity = next(task for task, spec in world.TASKS.items() if spec.kind == "similarity")
    task = load_task(f"lab:{similarity}")
    assert task.kind == "similarity" and len(task.items) == LAB_ITEMS
    with pytest.raises(LookupError, match=known[0]):
        load_task(f"lab:{known[0]}s")


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
    with pytest.raises(ValueError, match="Did you mean 'sentiment'"):
        load_task(source, template="sentimnet")
    with pytest.raises(ValueError, match="needs the column 'premise'"):
        load_task(source, template="inference")
    assert {template.family for template in TEMPLATES.values()} <= set(world.FAMILIES)


CLASSES = [{"text": "x", "label": place % 3, "label_name": name} for place, name in enumerate(["A", "B", "C"] * 4)]
QUESTIONS = [{"question": f"q{place}", "choices": ["a", "b"], "answer": place % 2} for place in range(6)]


def test_a_prompt_and_label_words_of_ones_own(tmp_path):
    source = write_jsonl(tmp_path / "t.jsonl", CLASSES) + "#all"
    task = load_task(source, template="Question: {text}\nKind:", labels=["place", "person", "number"])
    assert set(task.items["prompt"]) == {"Question: x\nKind:"} and task.family == "topic"
    assert task.items["choices"].tolist() == [["place", "person", "number"]] * 12
    assert all(row.gold == CLASSES[row.item]["label"] for row in task.items.itertuples())
    own = load_task(source, template="{text} It was")
    assert set(own.items["prompt"]) == {"x It was"} and own.items["choices"].tolist() == [["A", "B", "C"]] * 12
    for options, message in (
        ({"template": "{text} It was "}, "ends with a blank"),
        ({"template": "{body}:"}, "needs the column 'body'"),
        ({"template": "{text} {"}, "is no format"),
        ({"template": "{} {text}"}, "is no format"),
        ({"labels": ["one"]}, "at least two classes"),
        ({"labels": ["one", "two"]}, "the answer 2 is none of 0, 1"),
        ({"labels": ["one", "two", ""]}, "labels are words"),
    ):
        with pytest.raises(ValueError, match=message):
            load_task(source, **options)
    questions = write_jsonl(tmp_path / "q.jsonl", QUESTIONS) + "#all"
    assert load_task(questions, template="continuation").items["prompt"].str.fullmatch("q[0-5]").all()
    with pytest.raises(ValueError, match="class|label"):
        load_task(questions, labels=["one", "two"])
    for options in ({"labels": ["a", "b"]}, {"template": "label"}):
        with pytest.raises(ValueError, match="leave template and labels out"):
            load_task("lab:sentiment/products", **options)


def test_a_file_beside_the_task_says_how_it_is_asked(tmp_path):
    source, beside = write_jsonl(tmp_path / "t.jsonl", CLASSES) + "#all", tmp_path / "t.task.yaml"
    beside.write_text("template: question-type\nlabels: [no, on, 'null']\n")
    task = load_task(source)
    assert set(task.items["prompt"]) == {"Question: x\nType:"} and task.items["choices"][0] == ["no", "on", "null"]
    assert load_task(source, template="label", labels=["p", "q", "r"]).items["choices"][0] == ["p", "q", "r"]
    beside.write_text("{family: sentiment, label: label_name, values: [B, A, C], labels: [x, y, z]}")
    task = load_task(source)
    assert task.family == "sentiment" and set(task.items["prompt"]) == {"Text: x\nLabel:"}
    assert [task.items["choices"][0][row.gold] for row in task.items.itertuples()] == [
        {"A": "y", "B": "x", "C": "z"}[CLASSES[row.item]["label_name"]] for row in task.items.itertuples()
    ]
    questions, beside_questions = write_jsonl(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "q.task.yaml"
    beside_questions.write_text("template: continuation")
    task = load_task(questions + "#all", n_items=3, seed=1)
    assert task.family == "qa" and [f"q{place}" for place in task.items["item"]] == task.items["prompt"].tolist()
    with pytest.raises(ValueError, match="choices of its own"):
        load_task(questions + "#all", labels=["one", "two"])
    for text, message in (
        ("- a", "t.task.yaml: fields such as"),
        ("test: validation", "no test or revision"),
        ("labels: [yes, 1]", "labels are words"),
        ("labls: [a, b]", "missing or unknown"),
        ("a: b: c", "t.task.yaml, line 1"),
        ("template: nothing\nlabels: [a, b, c]", "template 'nothing' is not one of"),
        ("{score: s, template: label}", "similarity has no prompt"),
    ):
        beside.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_task(source)


def test_what_is_null_or_no_text_is_refused_with_its_place(tmp_path):
    for change, message in (
        ({"question": None}, "column 'question', which the prompt needs, is null"),
        ({"choices": ["a", None]}, r"item 1: choices must be a list of texts, not \['a', None\]"),
        ({"choices": "ab"}, "item 1: choices must be"),
    ):
        rows = [QUESTIONS[0], QUESTIONS[1] | change]
        with pytest.raises(ValueError, match=message):
            load_task(write_jsonl(tmp_path / "n.jsonl", rows) + "#all")
    numbers = [{"question": "q", "choices": [4, 5.5], "answer": 1}] * 2
    assert load_task(write_jsonl(tmp_path / "n.jsonl", numbers) + "#all").items["choices"][0] == ["4", "5.5"]


def test_every_real_task_file_is_read_or_refused_with_a_reason(real_data):
    refused = []
    for path in sorted((real_data / "d_tasks").rglob("*.jsonl")):
        try:
            task = load_task(f"file:{path}", n_items=5)
        except ValueError as error:
            assert any(reason in str(error) for reason in ("needs an integer 'label'", "sorted by its labels"))
            refused.append(path.stem)
        else:
            assert task.kind == "choice" and len(task.items) == 5
    assert refused == ["hallmarks_of_cancer", "lambada_openai_test", "mr", "subj"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gold": 1.0}, "answer 1.0 is no position"),
        ({"gold": 2}, "answer 2 is no position among 2"),
        ({"gold": True}, "answer True is no position"),
        ({"choices": [1, 2]}, "must be a text"),
        ({"prompt": None}, "must be a text"),
    ],
)
def test_tasks_made_by_hand_are_looked_through(change: dict, says: str) -> None:
    item = {"item": 7, "prompt": "Is it?", "choices": ["yes", "no"], "gold": 1}
    with pytest.raises(ValueError, match=f"item 7: .*{says}"):
        Task("own", "qa", "choice", pd.DataFrame([item | change]))
    with pytest.raises(ValueError, match="need the column 'gold'"):
        Task("own", "qa", "choice", pd.DataFrame([item]).drop(columns="gold"))


def test_a_file_that_is_sorted_by_its_labels_is_refused_where_a_split_holds_one_class(tmp_path):
    rows = [{"text": f"text {i}", "label": int(i >= 5), "label_name": ["no", "yes"][i >= 5]} for i in range(10)]
    source = write_jsonl(tmp_path / "sorted.jsonl", rows)
    with pytest.raises(ValueError, match="2 items of its 'test' split have the label 1.*append '#all'"):
        load_task(source)
    (tmp_path / "sorted.task.yaml").write_text("label: label\nlabels: [bad, good]\n")
    with pytest.raises(ValueError, match="sorted by its labels"):
        load_task(source, n_items=1)
    assert len(load_task(source + "#all").items) == 10
    one_class = write_jsonl(tmp_path / "one.jsonl", [row | {"label": 1, "label_name": "yes"} for row in rows])
    with pytest.raises(ValueError, match="no position among 1 choices"):  # a task of one class has no wrong answer
        load_task(one_class)


def test_only_classes_that_stand_together_count_as_sorted(tmp_path):
    def source(labels: list, **own) -> str:
        rows = [
            {"text": f"text {i}", "label": label, "label_name": f"is {label}", **own} for i, label in enumerate(labels)
        ]
        return write_jsonl(tmp_path / "t.jsonl", rows)

    for shuffled in ([0, 1, 0, 1, 1], [0, 1, 1, 1, 0, 1, 0, 0]):
        assert len(load_task(source(shuffled)).items) == max(1, len(shuffled) // 4)
    ordered = [0] * 5 + [1] * 5
    for own in (
        {"question": "?", "choices": ["a", "b"], "answer": 0},
        {"sentence1": "a", "sentence2": "b", "score": 1},
    ):
        assert len(load_task(source(ordered, **own)).items) == 2
    with pytest.raises(ValueError, match="integer 'label'"):
        load_task(source(["no"] * 5 + ["yes"] * 5))
    (tmp_path / "t.task.yaml").write_text("label: kind\nlabels: [bad, good]\n")
    rows = [{"text": "x", "kind": int(i >= 5)} for i in range(10)]
    with pytest.raises(ValueError, match="sorted by its labels"):
        load_task(write_jsonl(tmp_path / "t.jsonl", rows))
