"""Sweeps over tasks and concepts: scores per item, all combinations, and the model dense afterwards."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import words
from planted import PLANTED, planted_llama

import labutils.attribution.damage as damage
from labutils.attribution.activations import measure_words
from labutils.attribution.comparison import compare_activations, concept_drops
from labutils.evaluation import score_task
from labutils.similarity import score_similarity
from labutils.sweeps import Setting
from labutils.tasks import Task


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
    frame = damage.score_items(tiny_llama, tokenizer, tasks)
    means = frame.groupby("task")["score"].mean()
    assert means["toy"] == score_task(tiny_llama, tokenizer, tasks[0])["correct"].mean()
    scored = score_similarity(tiny_llama, tokenizer, tasks[1].items)
    assert means["pairs"] == pytest.approx(scored["gold"].corr(scored["predicted"], method="spearman"))
    assert frame["item"].tolist() == [*range(8), *range(6)] and set(frame["family"]) == {"sentiment", "topic"}


def test_a_sweep_runs_every_combination(tiny_llama, tokenizer, tasks, monkeypatch):
    monkeypatch.setattr(damage, "load_model", lambda source, revision=None: (tiny_llama, tokenizer))
    monkeypatch.setattr(damage, "load_task", lambda name, n_items, seed: {task.name: task for task in tasks}[name])
    weights = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    draws = {name: [torch.randint(3, 40, (3, 8)) for _ in range(2)] for name in ("first", "second")}
    rows = damage.task_sweep(
        "some/tiny", ["toy", "pairs"], calibrations=draws, methods=["magnitude", "wanda"], sparsities=[0.5, 0.9],
        n_draws=2, setting=Setting(n_items=8),
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


def test_a_concept_sweep_is_the_comparison_of_every_pruning(tokenizer, texts):
    model = planted_llama(tokenizer)
    draws = [torch.randint(3, 40, (4, 12), generator=torch.Generator().manual_seed(draw)) for draw in range(2)]
    concepts = {"five": ["w5"], "others": ["w11", "w30"], "absent": ["w99"]}
    frame = damage.concept_sweep(
        model, tokenizer, texts, concepts, draws=draws, methods=["magnitude"], sparsities=[0.0, 0.9], top_k=2
    )
    assert set(frame["concept"]) == {"five", "others"} and len(frame) == 2 * 2 * 2
    dense = frame[frame["sparsity"] == 0.0]
    assert (dense["relative_drop"] == 0).all() and (dense["change"] == 0).all()
    found = measure_words(model, tokenizer, texts, ["w5", "w11", "w30"])
    own = [pair for pair, word in PLANTED.items() if word == "w5"]
    pairs = pd.DataFrame([(block, neuron, "w5") for block, neuron in own], columns=["block", "neuron", "word"])
    expected = concept_drops(compare_activations(found, found, pairs), {"five": ["w5"]}).iloc[0]
    assert frame[frame["concept"] == "five"]["dense"].tolist() == pytest.approx([expected["dense"]] * 4)
