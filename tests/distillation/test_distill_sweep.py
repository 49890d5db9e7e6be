"""The sweep: complete and paired rows, rates chosen by validation, processes, and resumption to the same rows."""

from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd
import pytest
import torch
from helpers import TINY_WORDS, word_tokenizer
from small_sweeps import SETTING, assert_same, kill_after
from transformers import PreTrainedModel

from labutils.distillation import bench as benches
from labutils.distillation import sweep as sweeps
from labutils.distillation.comparison import arm_differences, score_interval
from labutils.distillation.pipeline import train_teacher
from labutils.distillation.scoring import predict
from labutils.distillation.sweep import DistillSweep, distill_sweep

ARMS = ["kd", "kd/share=2", "kd/test-logits", "loraild/rank=3"]


@pytest.fixture
def small(tiny_llama: PreTrainedModel, task_files: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    """A sweep of a tiny model over both tasks."""
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>")
    monkeypatch.setattr(benches, "load_model", lambda source, revision=None: (tiny_llama, tokenizer))

    def run(**changes: object) -> DistillSweep:
        given = {"arms": ARMS, "n_seeds": 2, "learning_rates": [1e-3, 1e-2], "setting": SETTING, **changes}
        return distill_sweep("tiny", given.pop("tasks", list(task_files.values())), **given)

    return run


def test_rows_are_complete_paired_and_resumable(
    small, task_files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(folder=tmp_path / "whole")
    keys = ["evaluation", "arm", "seed", "item"]
    students = whole.items[whole.items["arm"] != "teacher"]
    assert not whole.items.duplicated(keys).any() and len(students) == 2 * len(ARMS) * 2 * 14
    assert len(whole.runs) == 2 * len(ARMS) * 2 and whole.runs["test"].notna().all()
    scores = 1 - students.groupby(["evaluation", "arm", "seed"])["loss"].mean()
    pd.testing.assert_series_equal(
        scores, whole.runs.set_index(["evaluation", "arm", "seed"])["test"].sort_index(), check_names=False
    )
    assert set(whole.probes["arm"]) == {*ARMS, "teacher", "untrained"}
    assert set(whole.clusters["evaluation"]) == {task_files["choice"]}
    differences = arm_differences(whole.items, {"loraild": ("kd", "loraild/rank=3")})
    assert score_interval(differences).n_draws == 2
    _check_rates(whole)
    _check_resumption(small, whole, tmp_path, monkeypatch)


def _check_rates(whole: DistillSweep) -> None:
    """Both rates were tried for each method and task, on other seeds, and the better one on validation was taken."""
    assert len(whole.tuning) == 2 * 2 * 2 and (whole.tuning["seed"] >= sweeps.TUNING_SEEDS).all()
    means = whole.tuning.groupby(["task", "method", "rate"])["validation"].mean()
    for run in whole.runs.itertuples():
        tried = means[run.evaluation, run.method]
        assert tried[run.rate] == tried.max()
    assert whole.runs.groupby(["evaluation", "method"])["rate"].nunique().eq(1).all()


def _check_resumption(small, whole: DistillSweep, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, then finished: the same rows; and a finished sweep trains nothing."""
    kill_after(11, lambda: small(folder=folder / "killed"), monkeypatch)
    assert_same(whole, small(folder=folder / "killed"))
    with monkeypatch.context() as patch:
        patch.setattr(benches, "distill", lambda *_, **__: pytest.fail("a finished run was trained again"))
        assert_same(whole, small(folder=folder / "whole"))


def test_two_processes_give_the_same_rows(small, task_files: dict[str, str]) -> None:
    given = {"arms": ["loraild"], "learning_rates": [1e-2], "tasks": [task_files["choice"]]}
    alone = small(**given)
    assert alone.tuning.empty
    with joblib.parallel_config(n_jobs=2):
        assert_same(alone, small(**given))


def test_students_can_be_cut_instead(small) -> None:
    found = small(arms=["none"], learning_rates=[1e-3], n_seeds=1, setting=replace(SETTING, width=None))
    assert found.runs["student"].max() > 16 * 64  # the teacher's width and vocabulary


def test_students_learn_only_where_the_teacher_has_something_to_teach(
    small, task_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(data) -> float:
        return 0.99 if data.kind == "classification" else 0.4

    prepare = benches.prepare_bench
    monkeypatch.setattr(
        sweeps, "prepare_bench", lambda *given: replace(bench := prepare(*given), teacher_score=scores(bench.data))
    )
    given = {"arms": ["none", "none/cut", "kd/rank=3"], "n_seeds": 1, "learning_rates": [1e-2]}
    found = small(admitted=(0.1, 0.98), **given)
    assert found.teachers["admitted"].tolist() == [False, True] and found.teachers["validation"].tolist() == [0.99, 0.4]
    assert set(found.items["evaluation"]) == {task_files["similarity"]}
    sizes = found.runs.set_index("arm")["student"]
    assert sizes["none/cut"] > sizes["none"]
    with pytest.raises(ValueError, match="no teacher scores at least 0.5 above chance and below 0.98"):
        small(admitted=(0.5, 0.98), **given)


def test_mistakes_stop_before_anything_is_trained(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "train_teacher", lambda *_, **__: pytest.fail("a teacher was trained"))
    for changes, message in [
        ({"arms": ["kd", "loraild/rnk=8"]}, "Did you mean 'rank=…'"),
        ({"n_seeds": 0}, "at least one seed"),
        ({"setting": replace(SETTING, n_tuning=0)}, "to choose among learning rates"),
        ({"setting": replace(SETTING, width=9)}, "multiple of the head width"),
        ({"setting": replace(SETTING, width=None, n_blocks=4)}, "student of 4 blocks"),
        ({"setting": replace(SETTING, ild_start=1)}, "0 to 0"),
        ({"setting": replace(SETTING, n_test=400)}, "were asked for"),
    ]:
        with pytest.raises(ValueError, match=message):
            small(**changes)


@pytest.mark.parametrize("kind", ["moods", "pairs"])
def test_the_control_learns_the_test_items_as_the_teacher_sees_them(
    kind: str, tiny_llama: PreTrainedModel, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    teacher = train_teacher(tiny_llama, data, rank=2, epochs=1)
    extended, n = benches.add_test_items(data, teacher), len(data.train)
    assert len(extended.train) == n + len(data.test) and extended.test is data.test
    assert extended.train.take(range(n)).rows == data.train.rows
    assert extended.train.take(range(n, n + len(data.test))).rows == data.test.rows
    outputs = predict(teacher, data, data.test)
    wanted = outputs.argmax(dim=1) if kind == "moods" else outputs[:, 0]
    assert torch.equal(extended.train.targets, torch.cat([data.train.targets, wanted]))
