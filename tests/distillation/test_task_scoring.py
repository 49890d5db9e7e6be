"""Scores as means of losses per item: accuracy, Spearman's ρ against scipy, and predictions that order nothing."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import PreTrainedModel

from labutils.distillation.scoring import item_losses, predict, score_items
from labutils.distillation.task_models import TaskModel


def test_accuracy_counts_right_answers() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert item_losses(torch.tensor([0, 1, 0]), outputs).tolist() == [0.0, 0.0, 1.0]


def test_similarity_losses_average_to_spearmans_rho() -> None:
    draws = np.random.default_rng(0)
    gold = torch.from_numpy(draws.integers(0, 6, 40).astype(np.float32))
    outputs = torch.from_numpy(draws.normal(size=(40, 1)).astype(np.float32))
    losses = item_losses(gold, outputs)
    assert 1 - losses.mean() == pytest.approx(spearmanr(gold, outputs[:, 0]).statistic)


def test_equal_predictions_order_nothing() -> None:
    gold = torch.tensor([1.0, 2.0, 2.0, 5.0])
    losses = item_losses(gold, torch.ones(4, 1))
    assert losses.mean() == pytest.approx(1.0) and losses.tolist() == pytest.approx([1.5, 0.5, 0.5, 1.5])
    shuffled = [
        item_losses(gold, torch.tensor([[float(x)] for x in np.random.default_rng(seed).permutation(4)]))
        for seed in range(600)
    ]
    assert np.mean(shuffled, axis=0) == pytest.approx(losses, abs=0.15)


@pytest.mark.parametrize("kind", ["moods", "pairs"])
def test_rows_are_the_items_in_their_order(
    kind: str, tiny_llama: PreTrainedModel, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    model = TaskModel(tiny_llama, data)
    frame = score_items(model, data, data.test)
    assert frame["item"].tolist() == data.test.items and list(frame) == ["item", "gold", "prediction", "loss"]
    assert torch.allclose(predict(model, data, data.test), predict(model, data, data.test, batch_size=1), atol=1e-4)
    if kind == "moods":
        assert frame["loss"].tolist() == (frame["gold"] != frame["prediction"]).astype(float).tolist()
