"""Task files, and what stands beside them, of all kinds: items with a right answer, or a refusal in words."""

import json
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
from fuzzing import fuzz, only_our_errors
from hypothesis import given
from hypothesis import strategies as st

from labutils.data.tasks import Task, load_task

FOLDER = Path(tempfile.mkdtemp())
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 5), st.floats(), st.text(max_size=8))
answers = st.one_of(st.integers(-1, 3), scalars)
COLUMNS = {
    "text": st.one_of(st.text(max_size=12), scalars),
    "label": answers,
    "label_name": st.one_of(st.sampled_from(["yes", "no", "", "maybe"]), scalars),
    "question": st.text(max_size=8),
    "choices": st.one_of(st.lists(st.one_of(st.text(max_size=5), scalars), max_size=4), scalars),
    "answer": answers,
    "context": st.text(max_size=8),
    "relation": st.one_of(st.sampled_from(["cause", "effect"]), scalars),
    "premise": st.text(max_size=8),
    "hypothesis": st.text(max_size=8),
    "sentence1": st.one_of(st.text(max_size=8), scalars),
    "sentence2": st.text(max_size=8),
    "score": st.one_of(st.floats(), scalars),
}
columns = st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=6, unique=True)
records = columns.flatmap(
    lambda names: st.lists(st.fixed_dictionaries({name: COLUMNS[name] for name in names}), min_size=1, max_size=5)
)
FIELDS = ["template", "family", "labels", "label", "choices", "answer", "score", "fields", "values", "keys", "none"]
entries = st.dictionaries(
    st.sampled_from(FIELDS),
    st.one_of(
        scalars, st.lists(scalars, max_size=3), st.sampled_from(["{text}", "{question} {nothing}", "{", "label"])
    ),
    max_size=4,
)


def check(task: Task) -> None:
    assert len(task.items)
    if task.kind == "choice":
        for row in task.items.itertuples():
            assert isinstance(row.prompt, str) and all(isinstance(choice, str) for choice in row.choices)
            assert 0 <= row.gold < len(row.choices)
    else:
        assert task.items["score"].notna().all()


@fuzz(300)
@given(records)
def test_any_records_are_a_task_or_refused(rows: list[dict]) -> None:
    path = FOLDER / "plain.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with only_our_errors():
        check(load_task(f"file:{path}#all"))


@fuzz(300)
@given(records, st.one_of(entries.map(json.dumps), st.text(max_size=20)))
def test_any_words_beside_a_task_are_taken_or_refused(rows: list[dict], beside: str) -> None:
    path = FOLDER / "described.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    path.with_suffix(".task.yaml").write_text(beside, encoding="utf-8", errors="replace")
    with only_our_errors():
        check(load_task(f"file:{path}#all"))
