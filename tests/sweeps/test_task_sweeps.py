"""Sweeps over tasks: scores per item, all combinations, and the model dense afterwards."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import words

from labutils.data.tasks import Task
from labutils.evaluation.choices import score_task
from labutils.evaluation.similarity import score_similarity
from labutils.sweeps import tasks as task_sweeps
from labutils.sweeps.losses import SweepSizes


@pytest.fixture
def tasks() -> list[Task]:
    generator = np.random.default_rng(5)
    choice = [{"item": n, "prompt": words(generator, 5), "choices": ["w1", "w2"], "gold": n % 2} for n in range(8)]
    pairs = [
        {"item": n, "sentence1": words(generator, 4), "sentence2": words(generator, 4), "score": float(n % 3)}
        for n in range(6)
    ]
    return [
        Task("toy", "sentiment", "choice", pd.DataFrame(choice)),
        Task("pairs", "topic", "similarity", pd.DataFrame(pairs)),
    ]


def test_the_mean_score_is_the_tasks_own_measure(tiny_llama, tokenizer, tasks):
    frame = task_sweeps.score_items(tiny_llama, tokenizer, tasks)
    means = frame.groupby("task")["score"].mean()
    assert means["toy"] == score_task(tiny_llama, tokenizer, tasks[0])["correct"].mean()
    scored = score_similarity(tiny_llama, tokenizer, tasks[1].items)
    assert means["pairs"] == pytest.approx(scored["gold"].corr(scored["predicted"], method="spearman"))
    assert frame["item"].tolist() == [*range(8), *range(6)] and set(frame["family"]) == {"sentiment", "topic"}


def test_a_sweep_runs_every_combination(tiny_llama, tokenizer, tasks, monkeypatch):
    monkeypatch.setattr(task_sweeps, "load_model", lambda source, **asked: (tiny_llama, tokenizer))
    monkeypatch.setattr(task_sweeps, "load_task", lambda name, n_items, seed: {task.name: task for task in tasks}[name])
    weights = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    draws = {name: [torch.randint(3, 40, (3, 8)) for _ in range(2)] for name in ("first", "second")}
    rows = task_sweeps.task_sweep(
        "some/tiny", ["toy", "pairs"], calibrations=draws, methods=["magnitude", "wanda"], sparsities=[0.5, 0.9],
        n_draws=2, sizes=SweepSizes(n_items=8),
    )  # fmt: skip
    assert len(rows) == 14 * (1 + 2 * 2 * 2 * 2) and set(rows["model"]) == {"tiny"}
    assert rows[rows["method"] == "dense"][["calibration", "draw", "sparsity"]].drop_duplicates().values.tolist() == [
        ["none", -1, 0.0]
    ]
    pruned = rows[rows["method"] != "dense"]
    assert pruned.groupby(["calibration", "draw", "method", "sparsity"]).size().eq(14).all()
    by_magnitude = pruned[pruned["method"] == "magnitude"].groupby(["sparsity", "task", "item"])["score"].nunique()
    assert by_magnitude.eq(1).all()  # magnitude does not look at the calibration
    assert all(tensor.equal(weights[name]) for name, tensor in tiny_llama.state_dict().items())
