"""What layers know: clusters and probes with known answers, and features by hand."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from transformers import PreTrainedModel

from labutils.distillation import TaskData, layer_analysis
from labutils.distillation.data import make_batch
from labutils.distillation.task_models import TaskModel


def blobs(n: int, centres: list[list[float]], spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    labels = np.arange(n) % len(centres)
    return np.array(centres)[labels] + spread * draws.normal(size=(n, len(centres[0]))), labels


def test_clusters_that_are_the_labels_agree_wholly() -> None:
    features, labels = blobs(60, [[0, 0], [5, 0], [0, 5]])
    found = layer_analysis.cluster_agreement(features, labels, n_clusters=3)
    assert found["ARI"] == found["AMI"] == found["V-measure"] == pytest.approx(1.0)
    assert (
        found["silhouette"] == pytest.approx(metrics.silhouette_score(features, labels)) and found["silhouette"] > 0.9
    )


def test_clusters_that_are_not_the_labels_do_not_agree() -> None:
    features, labels = blobs(400, [[0, 0], [5, 0]])
    shuffled = np.random.default_rng(1).permutation(labels)
    found = layer_analysis.cluster_agreement(features, shuffled, n_clusters=2)
    assert abs(found["ARI"]) < 0.02 and abs(found["AMI"]) < 0.02 and found["V-measure"] < 0.02
    assert found["silhouette"] > 0.9  # the clusters are there all the same


def test_one_state_for_all_has_no_silhouette() -> None:
    found = layer_analysis.cluster_agreement(np.zeros((10, 3)), np.arange(10) % 2, n_clusters=2)
    assert found["ARI"] == 0 and np.isnan(found["silhouette"])


@pytest.mark.parametrize("kind", ["moods", "pairs"])
def test_features_are_the_pooled_states_of_every_block(
    kind: str, tiny_llama: PreTrainedModel, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    model = TaskModel(tiny_llama, data)
    found = layer_analysis.layer_features(model, data, data.test, batch_size=5)
    assert found.shape == (3, len(data.test), 16 if kind == "moods" else 32)
    batch = make_batch(data, data.test, [7], torch.device("cpu"))
    hidden = model.read(batch.ids, batch.mask).hidden
    for block in range(3):
        pooled = [hidden[block, row, : int(batch.mask[row].sum())].mean(dim=0) for row in range(len(batch.rows))]
        expected = pooled[0] if kind == "moods" else torch.cat([(pooled[0] - pooled[1]).abs(), pooled[0] * pooled[1]])
        assert np.allclose(found[block, 7], expected.numpy(), atol=1e-5)


def test_probes_find_what_is_there_and_only_that(
    tiny_llama: PreTrainedModel, moods: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first block that holds the label in one number among noise, a second one of noise alone."""

    def planted(model: TaskModel, data: TaskData, examples, **_: object) -> np.ndarray:
        noise = np.random.default_rng(len(examples)).normal(size=(2, len(examples), 4))
        noise[0, :, 2] = 3.0 * examples.targets.numpy()
        return noise

    monkeypatch.setattr(layer_analysis, "layer_features", planted)
    found = layer_analysis.probe_layers(TaskModel(tiny_llama, moods), moods)
    scores = 1 - found.groupby("block")["loss"].mean()
    assert scores[0] >= 0.9 and scores[1] <= 0.8
    assert found[found["block"] == 1]["item"].tolist() == moods.test.items


def test_probes_of_similarity_are_rank_correlations(
    tiny_llama: PreTrainedModel, pairs: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(model: TaskModel, data: TaskData, examples, **_: object) -> np.ndarray:
        return np.stack([np.exp(examples.targets.numpy())[:, None], np.zeros((len(examples), 1))])

    monkeypatch.setattr(layer_analysis, "layer_features", planted)
    scores = 1 - layer_analysis.probe_layers(TaskModel(tiny_llama, pairs), pairs).groupby("block")["loss"].mean()
    assert scores[0] == pytest.approx(1.0) and scores[1] == pytest.approx(0.0)


def test_every_block_is_clustered(tiny_llama: PreTrainedModel, moods: TaskData, pairs: TaskData) -> None:
    found = layer_analysis.cluster_layers(TaskModel(tiny_llama, moods), moods)
    assert found.groupby("block")["measure"].apply(list).tolist() == [list(layer_analysis.MEASURES)] * 3
    with pytest.raises(ValueError, match="regression task"):
        layer_analysis.cluster_layers(TaskModel(tiny_llama, pairs), pairs)
