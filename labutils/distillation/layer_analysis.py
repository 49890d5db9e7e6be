"""What the layers of a model with a head know of its task: linear probes, and agreement of clusters with the labels."""

import warnings

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, silhouette_score, v_measure_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labutils.distillation.data import Examples, TaskData, iterate_batches
from labutils.distillation.scoring import item_losses
from labutils.distillation.task_models import TaskModel

MEASURES = ("ARI", "AMI", "V-measure", "silhouette")
STARTS = 10  # of K-means, as in LoRAILD's analysis
PENALTIES = np.logspace(-2, 4, 7)  # of the ridge regression, chosen by leave-one-out


def layer_features(
    model: TaskModel, data: TaskData, examples: Examples, *, batch_size: int = 64
) -> Float[np.ndarray, "blocks items features"]:
    """What a head would read of every block: the pooled state of an item, or |a − b| and a · b of its two sentences."""
    found = []
    for batch in iterate_batches(data, examples, range(len(examples)), batch_size, model.device):
        reading = model.read(batch.ids, batch.mask)
        found.append(model.features(model.pool(reading.hidden, batch.mask)).cpu())
    return torch.cat(found, dim=1).double().numpy()


def probe_layers(model: TaskModel, data: TaskData) -> pd.DataFrame:
    """Linear probes of every block, fitted on the validation items and read on the test items.

    The validation items have trained no weight of the model, whose training items are separable in most layers
    whatever the layers know. Logistic regression for classes, ridge regression for similarities, on standardised
    features.

    Returns:
        one row per block and test item: `block, item, loss`; one minus a block's mean loss is its probe's accuracy, or
        Spearman's ρ.
    """
    fitted = layer_features(model, data, data.validation)
    tested = layer_features(model, data, data.test)
    frames = []
    for block, (known, asked) in enumerate(zip(fitted, tested, strict=True)):
        outputs = _probe_outputs(known, data.validation.targets.numpy(), asked, data)
        losses = item_losses(data.test.targets, torch.from_numpy(outputs))
        frames.append(pd.DataFrame({"block": block, "item": data.test.items, "loss": losses}))
    return pd.concat(frames, ignore_index=True)


def cluster_layers(model: TaskModel, data: TaskData, *, seed: int = 0) -> pd.DataFrame:
    """How well K-means on each block's states of the test items finds the labels: `block, measure, value`.

    Raises:
        ValueError: a regression task, which has no labels.
    """
    if data.kind != "classification":
        raise ValueError(f"{data.name} is a {data.kind} task: clusters can only be compared with labels")
    features = layer_features(model, data, data.test)
    labels = data.test.targets.numpy()
    rows = [
        {"block": block, "measure": measure, "value": value}
        for block, states in enumerate(features)
        for measure, value in cluster_agreement(states, labels, n_clusters=len(data.labels), seed=seed).items()
    ]
    return pd.DataFrame(rows)


def cluster_agreement(
    features: Float[np.ndarray, "items features"], labels: Int[np.ndarray, " items"], *, n_clusters: int, seed: int = 0
) -> dict[str, float]:
    """K-means clusters against labels: adjusted Rand index, adjusted mutual information, V-measure; and silhouette.

    The silhouette needs no labels: it says how far apart the clusters lie. It is NaN where all items fall into one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct states than clusters
        found = KMeans(n_clusters=n_clusters, n_init=STARTS, random_state=seed).fit_predict(features)
    parted = 1 < len(set(found.tolist())) < len(features)
    values = (
        adjusted_rand_score(labels, found),
        adjusted_mutual_info_score(labels, found),
        v_measure_score(labels, found),
        silhouette_score(features, found) if parted else np.nan,
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def _probe_outputs(
    known: Float[np.ndarray, "known features"],
    targets: np.ndarray,
    asked: Float[np.ndarray, "asked features"],
    data: TaskData,
) -> Float[np.ndarray, "asked outputs"]:
    """The outputs that a head would give: a score per label, or one number."""
    if data.kind == "regression":
        return make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(known, targets).predict(asked)[:, None]
    outputs = np.zeros((len(asked), data.n_outputs))
    seen = np.unique(targets)
    if len(seen) == 1:  # nothing to separate
        outputs[:, seen[0]] = 1.0
        return outputs
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(known, targets)
    outputs[:, seen] = probe.predict_proba(asked)
    return outputs
