"""Scores of a model with a head: accuracy, or Spearman's ρ, each as a mean of losses per item."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int64
from scipy.stats import rankdata, zscore
from torch import Tensor

from labutils.distillation.data import Examples, TaskData, iterate_batches
from labutils.distillation.task_models import TaskModel
from labutils.evaluation.similarity import rank_losses

UNITS = {"classification": "accuracy", "regression": "Spearman ρ"}


def predict(
    model: TaskModel, data: TaskData, examples: Examples, *, batch_size: int = 64
) -> Float[Tensor, "items outputs"]:
    """The head's outputs for all items, in their order, on the CPU."""
    lengths = [len(row) for row in examples.rows]
    order = sorted(range(len(examples)), key=lambda item: -max(lengths[item :: len(examples)]))
    found = torch.empty(len(examples), data.n_outputs)
    for batch in iterate_batches(data, examples, order, batch_size, model.device):
        found[batch.items] = model.read(batch.ids, batch.mask).outputs.float().cpu()
    return found


def item_losses(
    targets: Int64[Tensor, " items"] | Float[Tensor, " items"], outputs: Float[Tensor, "items outputs"]
) -> Float64[np.ndarray, " items"]:
    """Losses per item whose mean is one minus the score.

    Classes: 1 for a wrong answer, 0 for a right one (score: accuracy). Numbers: `rank_losses` (score: Spearman's ρ);
    predictions that are all equal order nothing, which counts as ρ = 0.
    """
    if not targets.is_floating_point():
        return (outputs.argmax(dim=1) != targets).double().numpy()
    gold, predicted = targets.double().numpy(), outputs[:, 0].double().numpy()
    if np.ptp(predicted) > 0:
        return rank_losses(gold, predicted).numpy()
    # ½ (z² + 1) of the gold ranks: what `rank_losses` gives on average over all orders.
    ranks = rankdata(gold)
    return (zscore(ranks) ** 2 + 1) / 2


def score_items(model: TaskModel, data: TaskData, examples: Examples) -> pd.DataFrame:
    """One row per item: `item, gold, prediction, loss`. One minus the mean loss is the score in `UNITS[data.kind]`.

    Classes are given as positions in `data.labels`, similarities in standard deviations of the training scores.
    """
    outputs = predict(model, data, examples)
    prediction = outputs[:, 0] if data.kind == "regression" else outputs.argmax(dim=1)
    return pd.DataFrame(
        {
            "item": examples.items,
            "gold": examples.targets.double().numpy(),
            "prediction": prediction.double().numpy(),
            "loss": item_losses(examples.targets, outputs),
        }
    )
